"""--fit: what is changed where memory is short, on machines that are pretended; the models are real, and small."""

from __future__ import annotations

import re
import subprocess
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, Done, environment, run
from on_machine import ON_MACHINE, machine_of, pretended
from real.tiny_gguf import CHATML, write_llama

from foreal_local import load
from foreal_local.config import Pair, Runtime
from foreal_local.errors import NotEnoughMemoryError
from foreal_local.memory.need import Need
from foreal_local.memory.simulator import Simulator

MB = 10**6
GPU = {"name": "CUDA0", "total": 24_000 * MB}


@dataclass(frozen=True)
class Sized:
    """A pair whose caches take most of its memory, and what it needs with 8192 and 4096 tokens of context."""

    pair: tuple[Path, Path]
    whole: int
    taken: int
    least: int
    home: Path

    def run(self, command: str, *options: str, machine: dict[str, Any], **more: str) -> Done:
        env = environment(self.pair, self.home, **pretended(**machine), **more)
        env.pop("FOREAL_CTX_SIZE")
        return run(command, *options, env=env, command=ON_MACHINE)

    def gen(self, *options: str, **machine: Any) -> Done:
        return self.run("gen", "Hi", "--raw", "-q", "--max-tokens", "1", *options, machine=machine)


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Sized:
    folder = tmp_path_factory.mktemp("sized")
    shape = {"n_heads": 4, "n_kv_heads": 4, "n_context": 32768, "width": 256, "chat_template": CHATML}
    leader = write_llama(folder / "leader.gguf", seed=2, n_layers=8, width_ff=512, **shape)
    draft = write_llama(folder / "draft.gguf", seed=3, n_layers=1, width_ff=128, **shape)
    with Simulator() as simulator:
        large, small = (_need(simulator, Pair(leader, draft), n) for n in (8192, 4096))
    return Sized((leader, draft), large.taken([]) + large.mapped, large.taken([]), small.taken([]), folder)


def _need(simulator: Simulator, pair: Pair, n_tokens: int) -> Need:
    found = simulator.need(pair, Runtime(threads=1), ctx_size=n_tokens)
    assert found, simulator.reason
    return found


def lines_of(done: Done) -> list[str]:
    """What is told besides that no GPU is there, after layers of a pretended one were given."""
    return [line for line in done.stderr.splitlines() if "finds no GPU" not in line]


def test_where_all_fits_nothing_is_changed_and_nothing_is_told(sized: Sized) -> None:
    done = sized.gen(free=sized.whole + 5 * MB)
    assert (done.returncode, done.stderr) == (0, "")
    gpu = GPU | {"free": sized.whole + 400 * MB}
    done = sized.gen(gpus=[gpu])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_smaller_context_comes_first(sized: Sized) -> None:
    done = sized.gen(free=sized.whole - 5 * MB)
    assert done.returncode == 0
    assert re.fullmatch(
        r"foreal-gen: \d+ MB of memory are needed, and \d+ MB are free: the context is 4096 tokens instead of 8192 "
        r"\(--no-fit changes nothing\)\n",
        done.stderr,
    )


def test_what_was_given_stays(sized: Sized) -> None:
    """Guards a context that the user has chosen, and gets another."""
    done = sized.gen("--ctx-size", "8192", "--cache-type-k", "f16", free=sized.taken + 1 * MB)
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "read anew all the time: take smaller files, lower --ctx-size, or end other programs" in done.stderr
    assert "context is" not in done.stderr


def test_caches_become_smaller_where_the_context_was_given(sized: Sized) -> None:
    done = sized.gen("--ctx-size", "8192", free=sized.whole - 5 * MB)
    assert done.returncode == 0
    assert "caches are q8_0 (--no-fit changes nothing)" in done.stderr


def test_far_too_little_is_refused_in_one_line(sized: Sized) -> None:
    done = sized.gen("--ctx-size", "8192", "--cache-type-k", "f16", "--parallel", "1", free=sized.taken // 2)
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: the models need \d+ MB of memory, and [\d.]+ MB are free, [\d.]+ MB are missing: take smaller files, "
        r"lower --ctx-size, or end other programs; --no-fit tries it as it is\n",
        done.stderr,
    )


def test_a_little_too_little_is_tried(sized: Sized) -> None:
    """Guards a run that would work, and is refused because an estimate is wrong."""
    done = sized.gen("--ctx-size", "8192", "--cache-type-k", "f16", free=int(sized.taken / 1.15))
    assert done.returncode == 0
    assert "the system may end this run" in done.stderr


def test_swap_space_counts_before_a_run_is_refused(sized: Sized) -> None:
    done = sized.gen("--ctx-size", "8192", "--cache-type-k", "f16", free=sized.taken // 2, swap=sized.taken)
    assert done.returncode == 0
    assert "the system may end this run" in done.stderr


def test_no_fit_changes_and_refuses_nothing(sized: Sized) -> None:
    done = sized.gen("--no-fit", free=1000)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_limit_of_a_container_is_named(sized: Sized, tmp_path: Path) -> None:
    """Guards "end other programs" where the computer has plenty, and a container's limit is what is missing."""
    (tmp_path / "memory.max").write_text(str(sized.least // 12))
    done = sized.gen(free=10**10, cgroup=[tmp_path, tmp_path / "own"])
    assert done.returncode == 1
    assert f"({tmp_path / 'memory.max'} is " in done.stderr
    assert "raise that limit" in done.stderr


def test_a_gpu_that_is_half_full_gets_the_leader_first(sized: Sized) -> None:
    half_full = {"name": "CUDA0", "total": 160 * MB, "free": sized.least * 2 // 3}
    assert "caches are q8_0 (--no-fit" in sized.gen(gpus=[half_full]).stderr
    done = sized.gen("--cache-type-k", "f16", gpus=[half_full])
    assert done.returncode == 0
    (line,) = (line for line in lines_of(done) if "CUDA0" in line)
    assert re.search(r"on CUDA0, and [\d.]+ MB are free: ", line)
    assert re.search(r"\d of 9 layers of the leader are on the GPU, the draft is on the CPU", line)


def test_a_gpu_that_is_full_is_left_alone(sized: Sized) -> None:
    done = sized.gen(gpus=[GPU | {"free": 100 * MB}])
    assert done.returncode == 0
    (line,) = (line for line in lines_of(done) if "CUDA0" in line)
    assert "the leader is on the CPU, the draft is on the CPU" in line
    assert "context" not in line  # the computer has room for all of it


def test_layers_that_were_given_are_refused_where_they_cannot_fit(sized: Sized) -> None:
    done = sized.gen("--leader-gpu-layers", "9", "--draft-gpu-layers", "0", gpus=[GPU | {"free": 60 * MB}])
    assert done.returncode == 1
    assert "lower --leader-gpu-layers and --draft-gpu-layers, or leave it out" in done.stderr


def test_a_gpu_that_does_not_tell_is_trusted(sized: Sized) -> None:
    """Guards a driver that reports no memory at all: it is no GPU without memory."""
    done = sized.gen(gpus=[{"name": "Vulkan0", "total": 0, "free": 0}])
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_fits_its_models(sized: Sized, tmp_path: Path) -> None:
    """Guards a command that loads models without asking."""
    machine = {"free": sized.whole - 5 * MB}
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"id": "1", "problem": "1+1?", "answer": "2"}\n')
    told = "tokens instead of 8192 (--no-fit changes nothing)"
    chat = sized.run("chat", "Hi", "--max-tokens", "1", machine=machine)
    assert f"foreal-chat: {told}"[:11] in chat.stderr
    assert told in chat.stderr
    words = ["--problems", str(problems), "--max-tokens", "2", "-q"]
    bench = sized.run("bench", "--modes", "foreal", *words, machine=machine)
    assert told in bench.stderr
    least = {"free": sized.whole // 3}
    analyze = sized.run("analyze", "--problems", str(problems), "--max-tokens", "2", "-q", machine=least)
    assert "foreal analyze: " in analyze.stderr
    assert "--no-fit" in analyze.stderr


def test_a_server_fits_its_models(sized: Sized) -> None:
    """Guards the one command that loads its models in another thread than that which reads its options."""
    env = environment(sized.pair, sized.home, **pretended(free=sized.whole - 5 * MB))
    env.pop("FOREAL_CTX_SIZE")
    words = [*ON_MACHINE, "serve", "--port", "0", "-q"]
    with subprocess.Popen(
        words, env=env, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        timer = threading.Timer(90, process.kill)
        timer.start()
        assert process.stderr
        told = next((line for line in process.stderr if "instead of 8192" in line), "")
        timer.cancel()
        process.terminate()
        process.communicate()
    assert told.startswith("foreal serve: ")


# ---------------------------------------------------------------- from Python
def test_load_fits_as_commands_do(sized: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a program that ends for want of memory with what the commands make smaller."""
    here = machine_of(free=sized.whole - 5 * MB)
    monkeypatch.setattr("foreal_local.memory.machine.this_machine", lambda: here)
    with pytest.warns(UserWarning, match="^[0-9]+ MB .*: the context is 4096 tokens instead of 8192 ") as told:
        engine = load(*sized.pair, threads=1, offline=True)
    with engine:
        assert engine.ctx_size == 4096
    assert [each.filename for each in told] == [__file__]
    with pytest.warns(UserWarning, match="caches are q8_0"):
        engine = load(*sized.pair, threads=1, ctx_size=8192)
    with engine:
        assert (engine.ctx_size, engine.loaded.runtime.kv_type_k) == (8192, "q8_0")


def test_load_as_it_is(sized: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards settings that are changed where nobody wants that, a pair that is refused, and a warning of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for free, fits in ((1000, False), (4 * sized.whole, True)):
            here = machine_of(free=free)
            monkeypatch.setattr("foreal_local.memory.machine.this_machine", lambda here=here: here)
            with load(*sized.pair, threads=1, fit=fits) as engine:
                assert engine.ctx_size == 8192


def test_load_refuses_what_cannot_fit(sized: Sized, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards minutes of loading before the system ends the program."""
    here = machine_of(free=1000)
    monkeypatch.setattr("foreal_local.memory.machine.this_machine", lambda: here)
    with pytest.raises(NotEnoughMemoryError, match=r"the models need .* are missing"):
        load(*sized.pair, threads=1)
