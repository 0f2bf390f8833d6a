"""foreal doctor: what it finds on machines that are pretended, and what it says to do about what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, Done, environment, run
from on_machine import ON_MACHINE, pretended
from real.models import TinyModels
from real.tiny_gguf import Pieces, write_llama

from foreal_local.doctor.findings import Cache
from foreal_local.doctor.machine import problems_of, problems_of_cache
from foreal_local.memory.machine import Machine, Memory

GB = 10**9
LEADER, DRAFT = (str(ROOT / "models" / f"tiny-{role}.gguf") for role in ("leader", "draft"))
TINY = ("--leader", LEADER, "--draft", DRAFT)
GPU = {"name": "CUDA0", "total": 24 * GB, "free": 23 * GB}


def doctor(home: Path, *options: str | Path, machine: dict[str, Any] | None = None, **more: str) -> Done:
    env = environment(None, home, **pretended(**(machine or {})), **more)
    done = run("doctor", *options, env=env, command=ON_MACHINE)
    assert done.returncode in (0, 1), done.stderr
    if "--json" not in options:
        assert all(len(line) <= 80 for line in done.stdout.splitlines()), done.stdout
    return done


def problems_in(done: Done) -> str:
    """What stands before the machine, in one line."""
    return " ".join(done.stdout.partition("\n\n")[0].split())


def test_a_machine_without_a_pair(tmp_path: Path) -> None:
    done = doctor(tmp_path, machine={"gpus": [GPU], "backends": ["CUDA"], "cores": 2})
    assert (done.returncode, done.stderr) == (0, "")
    assert problems_in(done) == "no problems"
    assert "memory      16 GB, 12 GB free\n" in done.stdout
    assert "GPU         CUDA0, a GPU: 23 GB of 24 GB free\n" in done.stdout
    assert "CUDA\n" in done.stdout
    assert "hub's cache ~/.cache/huggingface/hub: 0 models" in done.stdout


def test_a_pair_is_planned_and_measured(tmp_path: Path) -> None:
    done = doctor(tmp_path, *TINY, "--parallel", "2", "--threads", "1")
    assert done.returncode == 0
    for text in (
        "weights",
        "caches",
        "buffers",
        "fits",
        "8 tokens",
        "--mode auto",
        "--preset paper",
        "2 prompts at a time",
        "(1 thread, 2 answers)",
    ):
        assert text in done.stdout
    assert len(done.stdout.splitlines()) < 40


def test_json_has_all_of_it(tmp_path: Path) -> None:
    done = doctor(tmp_path, *TINY, "--json", "--threads", "1", machine={"gpus": [GPU]})
    found = json.loads(done.stdout)
    assert found["machine"]["memory"]["available"] == 12 * GB
    pair = found["pair"]
    assert pair["leader"]["path"] == LEADER
    assert pair["leader"]["bytes"]["weights"]["CUDA0"] > 6e6
    assert set(pair["speed"]["leader_ms"]) >= {"1", "8", "32"}
    assert [mode["name"] for mode in pair["modes"]][:3] == ["--mode leader", "--mode draft", "--mode auto"]
    assert all("cores busy" in problem["text"] for problem in found["problems"])


def test_one_model_alone(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--leader", LEADER, "--threads", "1")
    assert done.returncode == 0
    assert "tiny-leader.gguf" in done.stdout
    assert "draft" not in done.stdout


# ---------------------------------------------------------------- what is wrong, and the next step
@dataclass(frozen=True)
class Case:
    """options: of foreal doctor; machine: pretended; told: of the problem and its step; stops: nothing would run"""

    options: Callable[[Path], tuple[str, ...]]
    machine: dict[str, Any]
    told: tuple[str, ...]
    stops: bool = False


def _missing(folder: Path) -> tuple[str, ...]:
    return ("--leader", str(folder / "no.gguf"), "--draft", DRAFT)


def _no_gguf(folder: Path) -> tuple[str, ...]:
    (folder / "text.gguf").write_text("some text, and no model", "utf-8")
    return ("--leader", str(folder / "text.gguf"), "--draft", DRAFT)


def _cut_off(folder: Path) -> tuple[str, ...]:
    whole = Path(LEADER).read_bytes()
    (folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    return ("--leader", str(folder / "cut.gguf"), "--draft", DRAFT)


def _other_words(folder: Path) -> tuple[str, ...]:
    write_llama(folder / "other.gguf", seed=1, vocabulary=Pieces())  # type: ignore[arg-type]
    return ("--leader", LEADER, "--draft", str(folder / "other.gguf"))


def _limited(folder: Path, n_bytes: int) -> list[str]:
    (folder / "memory.max").write_text(str(n_bytes))
    return [str(folder), str(folder / "own")]


CASES = {
    "little memory": Case(lambda _: (), {"free": GB}, ("1 GB of memory are free", "end other programs")),
    "a build for a GPU that is not there": Case(
        lambda _: (), {"backends": ["CUDA"]}, ("built for CUDA, but finds no GPU", "whether the driver works")
    ),
    "a GPU that others use": Case(
        lambda _: (),
        {"gpus": [GPU | {"free": 2 * GB}], "backends": ["CUDA"]},
        ("2 GB of the 24 GB of CUDA0", "end what"),
    ),
    "AMX": Case(lambda _: (), {"amx": True}, ("code for AMX crashes", "GCC 12.4")),
    "no such file": Case(_missing, {}, ("no such file", "give the path of a .gguf file"), True),
    "no model": Case(_no_gguf, {}, ("text.gguf", "GGUF"), True),
    "half a file": Case(_cut_off, {}, ("is cut off", "download or copy it again"), True),
    "other words": Case(_other_words, {}, ("different kinds of vocabulary", "as text"), False),
    "an unknown pair": Case(lambda _: ("--pair", "qwen9"), {}, ("no pair named 'qwen9'", "there are: tiny"), True),
    "not downloaded": Case(lambda _: ("--pair", "qwen3-8b"), {}, ("nothing of", "get it once with a connection"), True),
    "no memory at all": Case(lambda _: TINY, {"free": 1000}, ("are missing", "take smaller files"), True),
    "a context that is too large": Case(
        lambda _: (*TINY, "--ctx-size", "1000000"), {"free": GB}, ("GB are missing", "lower --ctx-size"), True
    ),
    "too many prompts at a time": Case(
        lambda _: (*TINY, "--parallel", "2000", "--lanes", "1"),
        {},
        ("llama.cpp takes 256 sequences in a context", "--parallel may be 256 at most"),
        True,
    ),
    "a little too little memory": Case(
        lambda _: (*TINY, "--no-measure", "--cache-type-k", "f16"),
        {"free": 16 * 10**6},
        ("do not fit into", "take smaller files"),
    ),
    "layers that do not fit": Case(
        lambda _: (*TINY, "--leader-gpu-layers", "4", "--draft-gpu-layers", "4"),
        {"gpus": [GPU | {"free": 10 * 10**6}]},
        ("are needed on CUDA0", "lower --leader-gpu-layers"),
        True,
    ),
    "a GPU that is full": Case(
        lambda _: (*TINY, "--no-measure"), {"gpus": [GPU | {"free": 20 * 10**6}]}, ("on the CPU", "--no-fit")
    ),
    "both models named twice": Case(
        lambda _: ("--pair", "tiny", *TINY), {}, ("--pair names both models", "leave out"), True
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_has_a_next_step(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    done = doctor(tmp_path, *case.options(tmp_path), "--threads", "1", machine=case.machine)
    told = problems_in(done)
    for text in case.told:
        assert text in told, done.stdout
    assert done.returncode == int(case.stops)
    assert told.startswith("ERROR" if case.stops else "note")


def test_a_limit_of_a_container(tmp_path: Path) -> None:
    done = doctor(tmp_path, machine={"cgroup": _limited(tmp_path, GB)})
    assert f"thelimitofthisgroupofprocesses({tmp_path}" in "".join(done.stdout.split())
    assert "-> raise that limit" in done.stdout
    assert "1 GB of the 1 GB allowed" in done.stdout


def test_a_gpu_that_this_build_cannot_use(tmp_path: Path) -> None:
    """Guards a CPU build on a machine with a GPU, which runs ten times slower without a word."""
    machine = Machine(Memory(16 * GB, 12 * GB))
    (tmp_path / "proc" / "driver" / "nvidia").mkdir(parents=True)
    (tmp_path / "proc" / "driver" / "nvidia" / "version").write_text("NVRM")
    (problem,) = problems_of(machine, tmp_path)
    assert "built for the CPU alone" in problem.text
    assert problem.step.startswith('CMAKE_ARGS="-DGGML_CUDA=on" pip install')


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    (problem,) = problems_of_cache(Cache(tmp_path, 0, 0, GB))
    assert ("1 GB of disk are free" in problem.text, "HF_HOME" in problem.step) == (True, True)
    assert not list(problems_of_cache(Cache(tmp_path, 0, 0, 50 * GB)))


def test_llama_cpp_python_that_is_missing(tmp_path: Path) -> None:
    """Guards a doctor that cannot say what is wrong because it needs what is missing."""
    (tmp_path / "llama_cpp_python-0.1.dist-info").mkdir()
    (tmp_path / "llama_cpp_python-0.1.dist-info" / "METADATA").write_text("Name: llama-cpp-python\nVersion: 0.1\n")
    env = environment(None, tmp_path)
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    command = [ON_MACHINE[0], "-m", "foreal_local"]
    done = run("doctor", *TINY, env=env, command=command)
    assert done.returncode == 1
    assert problems_in(done).startswith("ERROR llama-cpp-python 0.1 is installed, but 0.3.36 or later")
    assert "pip install 'llama-cpp-python>=0.3.36,<0.4'" in problems_in(done)


def test_models_in_the_cache_are_counted(tmp_path: Path, tiny: TinyModels) -> None:
    folder = tmp_path / ".cache" / "huggingface" / "hub" / "models--a--b" / "snapshots" / "1"
    folder.mkdir(parents=True)
    (folder / "m.gguf").write_bytes(bytes(3_000_000))
    assert "1 model, 3 MB;" in doctor(tmp_path).stdout
