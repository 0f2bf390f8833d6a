"""Prompt sets on a cluster, without Ray: what is read, shared out, written, resumed and refused."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cluster import FakeCluster
from commands import ROOT, environment, error_line, jsonl, records, run
from real.tiny_gguf import CHATML, write_llama
from test_cli_gen_resume import PROMPTS, Disk, call, small_disk  # noqa: F401  (small_disk is a fixture)
from test_cli_templates import DATED

from foreal_local.batch.prompts import read_prompts
from foreal_local.batch.request import BatchRequest
from foreal_local.batch.resume import read_earlier
from foreal_local.cluster import parts as parts_module
from foreal_local.cluster.layout import Layout, Node, layout_of
from foreal_local.cluster.parts import MOST_RECORDS, Parts
from foreal_local.cluster.ray_data import RayError, require_reachable
from foreal_local.cluster.run import ClusterOptions, ClusterRun
from foreal_local.cluster.source import PromptFile, numbered
from foreal_local.cluster.spool import Spool, prompts_in, read_span
from foreal_local.cluster.work import Answer, Models, named_anywhere
from foreal_local.config import Generation, Prompting
from foreal_local.errors import UsageError
from foreal_local.hub import bundled_dir
from foreal_local.results import Prompt
from foreal_local.storage.checkpoints import Checkpoints
from foreal_local.storage.files import OutputError

SETTINGS = ("--temp", "0", "--seed", "1", "--max-tokens", "30", "--threads", "1")
SAME = ("id", "index", "prompt", "extra", "text", "finish_reason", "error", "seed", "settings_hash", "usage", "mode")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(None, tmp_path, FOREAL_CTX_SIZE="512")


def same_of(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in SAME}


def records_in(folder: Path) -> list[dict[str, Any]]:
    """Of all parts, in the order of the prompts."""
    found = [record for file in sorted(folder.glob("part-*.jsonl")) for record in records(file.read_text("utf-8"))]
    return sorted(found, key=lambda record: record["index"])


def file_of(folder: Path, *more: dict[str, Any]) -> Path:
    path = folder / "prompts.jsonl"
    lines = [{"prompt": text, "id": id, "note": id} for id, text in PROMPTS.items()]
    path.write_text(jsonl(*lines, *more), "utf-8")
    return path


# ---------------------------------------------------------------- the command
def test_the_records_are_those_of_one_machine(
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards a record, a seed, a hash or an exit code that hangs on where a prompt was answered."""
    own = {"prompt": "How many?", "mode": "leader", "temp": 0.8, "system": "Be brief."}
    file = file_of(tmp_path, own, {"prompt": "x " * 600})
    one = call("--file", file, "-o", tmp_path / "one.jsonl", *SETTINGS, env=env)
    done = call("--file", file, "-o", tmp_path / "out", *SETTINGS, "--ray", env=env)
    assert (one.returncode, done.returncode) == (1, 1)  # the last prompt has no room
    wanted = sorted(records((tmp_path / "one.jsonl").read_text("utf-8")), key=lambda record: record["index"])
    assert [same_of(record) for record in records_in(tmp_path / "out")] == [same_of(record) for record in wanted]
    failed = [line for line in one.stderr.splitlines() if "failed" in line]
    assert failed
    assert failed[0] in done.stderr
    for label in ("answered", "written", "sentences", "settings"):  # the summary counts the same
        line = [line for line in one.stderr.splitlines() if line.startswith(label)][-1]
        assert line.split(" tokens,")[0] in done.stderr


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_texts_do_not_hang_on_the_number_of_machines(
    parallel: str,
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards random numbers, or a shared beginning, that an actor takes from what it happens to get."""
    long = "You count carefully, and you say each step in words that a child would use, then the number. " * 3
    texts = []
    for n_nodes in (1, 3):
        fake_cluster.n_nodes = n_nodes
        out = tmp_path / str(n_nodes)
        asked = ("--file", file_of(tmp_path), "-o", out, "--system", long, "--parallel", parallel, "--ray")
        assert call(*asked, *SETTINGS, "--temp", "0.7", env=env).returncode == 0
        texts.append([record["text"] for record in records_in(out)])
    assert texts[0] == texts[1]


def test_a_part_that_is_being_written_when_ctrl_c_comes_is_written(
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards hundreds of finished records that are lost because Ctrl-C came while they were written."""
    replace_file, out = parts_module.replace_file, tmp_path / "out"

    def interrupted(*arguments: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return replace_file(*arguments, **options)

    monkeypatch.setattr(parts_module, "MOST_RECORDS", 1)
    monkeypatch.setattr(parts_module, "replace_file", interrupted)
    stopped = call("--file", file_of(tmp_path), "-o", out, *SETTINGS, "-P", "1", "--ray", env=env)
    assert stopped.returncode == 130, stopped.stderr
    n_kept = len(records_in(out))
    assert f"interrupted: {n_kept} of 3 prompts finished, kept in {out}" in stopped.stderr
    assert n_kept > 0


def test_a_run_goes_on_and_makes_again_what_changed(
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards finished prompts that are answered again, and records that stay beside those made instead."""
    out = tmp_path / "out"
    asked = ("--file", file_of(tmp_path), "-o", out, *SETTINGS[:2], *SETTINGS[4:], "--ray")  # a seed is drawn
    fake_cluster.stop_after = 2
    stopped = call(*asked, env=env)
    assert stopped.returncode == 130
    assert f"interrupted: 2 of 3 prompts finished, kept in {out}" in stopped.stderr
    first = records_in(out)
    fake_cluster.stop_after = 10**9
    refused = call(*asked, env=env)
    assert refused.returncode == 2
    assert "of an earlier run: --resume goes on with it" in refused.stderr
    assert call(*asked, "--resume", env=env).returncode == 0
    whole = records_in(out)
    assert [record["id"] for record in whole] == list(PROMPTS)
    assert [record for record in whole if record["id"] in {r["id"] for r in first}] == first
    assert len({record["seed"] for record in whole}) == 1
    again = call(*asked, "--resume", env=env)
    assert "3 of 3 prompts are done already" in again.stderr
    changed = call(*asked, "--resume", "--max-tokens", "20", env=env)
    assert changed.returncode == 0, changed.stderr
    assert "3 of the records are made again" in changed.stderr
    assert [record["usage"]["completion_tokens"] for record in records_in(out)] == [20] * 3
    assert list(out.glob("part-*.~1~"))  # texts are kept


@pytest.mark.parametrize("given", [(), ("--seed", "5", "--now", "2025-07-01")], ids=["drawn", "given"])
@pytest.mark.parametrize("ray", [("--ray",), ()], ids=["cluster", "one machine"])
def test_checkpoints_of_a_run_that_wrote_no_record_are_gone_on_with(
    ray: tuple[str, ...],
    given: tuple[str, ...],
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards checkpoints that nobody finds again, because the seed or the time was given in the first run only, or was
    in a folder of results that came to nothing: the run was stopped before its first part, or failed when it was
    started again."""
    saved, out, model = tmp_path / "saved", tmp_path / "out", tmp_path / "leader.gguf"
    write_llama(model, seed=1, chat_template=DATED)
    asked = ["-l", model, "-d", model, "--file", file_of(tmp_path), "--temp", "1", "--max-tokens", "30", "-o", out]
    asked += ["--threads", "1", "--resume", "--checkpoint", saved, "--checkpoint-every", "8", *ray]
    save = Checkpoints.save

    def stopped(self: Checkpoints, *arguments: Any) -> None:
        save(self, *arguments)
        if len(arguments[0].tokens) >= 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", stopped)
        assert call(*asked, *given, env=env).returncode == 130
    assert len(list(saved.glob("*.session"))) == 1
    if ray:
        assert call(*asked, "--threads", "7", env=env).returncode == 2
    done = call(*asked, env=env)
    assert done.returncode == 0, done.stderr
    assert "goes on after 2" in done.stderr
    assert not list(saved.iterdir())
    found = records_in(out) if ray else records(out.read_text("utf-8"))
    told = {(record["seed"], record["now"]) for record in found}
    assert len(told) == 1
    assert given == () or told == {(5, "2025-07-01")}


@pytest.mark.parametrize("given", [(), ("--seed", "5")], ids=["drawn", "given"])
def test_a_run_goes_on_with_its_seed_beside_prompts_with_their_own(
    given: tuple[str, ...],
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards a prompt's own seed that is taken for the run's: the records of all others were made again."""
    out, path = tmp_path / "out", tmp_path / "prompts.jsonl"
    seeds: dict[str, dict[str, Any]] = {"a": {}, "b": {"seed": 7}, "c": {"seed": 7}, "d": {}}
    path.write_text(jsonl(*({"prompt": "How many?", "id": id} | seed for id, seed in seeds.items())), "utf-8")
    asked = ("--file", path, "-o", out, "--temp", "0", "--max-tokens", "8", "--threads", "1", "--ray", "--resume")
    fake_cluster.stop_after = 3
    assert call(*asked, *given, env=env).returncode == 130
    first = records_in(out)
    assert {record["id"] for record in first} == {"b", "c", "d"}
    assert given == () or first[-1]["seed"] == 5
    fake_cluster.stop_after = 10**9
    broken = call(*asked, "--seed", "9", "--prompt", "", env=env)  # keeps no seed
    assert broken.returncode == 2
    done = call(*asked, env=env)
    assert (done.returncode, "made again" in done.stderr) == (0, False), done.stderr
    whole = {record["id"]: record for record in records_in(out)}
    assert whole["a"]["seed"] == whole["d"]["seed"]
    assert [record for record in whole.values() if record["id"] != "a"] == first


@pytest.mark.parametrize("template", [DATED, CHATML], ids=["dated", "undated"])
@pytest.mark.parametrize("ray", [("--ray",), ()], ids=["cluster", "one machine"])
def test_a_time_that_was_given_is_kept(
    ray: tuple[str, ...],
    template: str,
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards --resume without the --now of the first run: all records were made again, at another time. Where no
    template reads the time, it changes nothing."""
    model, out, path = tmp_path / "leader.gguf", tmp_path / "out", tmp_path / "prompts.jsonl"
    write_llama(model, seed=1, chat_template=template)
    own = {"prompt": "ten", "now": "2024-01-01T00:00"}
    path.write_text(jsonl(own, own | {"prompt": "so"}, {"prompt": "wait"}), "utf-8")
    asked = ("-l", model, "-d", model, "--file", path, "-o", out, *SETTINGS, "--max-tokens", "3", *ray, "--resume")
    assert call(*asked, "--now", "2025-07-01T12:00", env=env).returncode == 0
    path.write_text(jsonl(own, own | {"prompt": "so"}, {"prompt": "wait"}, {"prompt": "now"}), "utf-8")
    done = call(*asked, env=env)
    assert (done.returncode, "made again" in done.stderr) == (0, False), done.stderr
    found = records_in(out) if ray else sorted(records(out.read_text("utf-8")), key=lambda record: record["index"])
    times = ["2024-01-01T00:00"] * 2 + ["2025-07-01T12:00"] * 2 if template == DATED else [None] * 4
    assert [record.get("now") for record in found] == times


def test_a_prompt_of_another_mode_is_told_the_time(
    env: dict[str, str], tmp_path: Path, fake_cluster: type[FakeCluster]
) -> None:
    """Guards prompts that are told the time of the machine they come to, or lose their own, where only their own mode
    has a model whose template reads it: no later run finds their records."""
    leader, draft, out, path = (tmp_path / name for name in ("leader.gguf", "draft.gguf", "out", "prompts.jsonl"))
    write_llama(leader, seed=1, chat_template=CHATML)
    write_llama(draft, seed=1, chat_template=DATED)
    own = {"prompt": "ten", "mode": "draft", "now": "2024-01-01T00:00"}
    path.write_text(jsonl({"prompt": "so"}, {"prompt": "wait", "mode": "draft"}, own), "utf-8")
    asked = ("-l", leader, "-d", draft, "--mode", "leader", "--file", path, "-o", out, *SETTINGS, "--max-tokens", "3")
    assert call(*asked, "--ray", "--resume", "--now", "2025-07-01", env=env).returncode == 0
    assert [record["now"] for record in records_in(out)][1:] == ["2025-07-01", "2024-01-01T00:00"]
    assert "3 of 3 prompts are done already" in call(*asked, "--ray", "--resume", env=env).stderr


def test_a_checkpoint_goes_on_elsewhere(
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards long responses that a dead machine takes with it, and checkpoints that stay after the record."""
    wanted = tmp_path / "wanted"
    asked = ("--file", file_of(tmp_path), *SETTINGS[:4], "--threads", "1", "--max-tokens", "60", "--ray")
    assert call(*asked, "-o", wanted, env=env).returncode == 0
    saved = tmp_path / "saved"
    one = ("--file", file_of(tmp_path), *SETTINGS[:4], "--threads", "1", "--checkpoint", saved)
    script = (
        "import sys; from foreal_local.storage.checkpoints import Checkpoints as C;"
        "from foreal_local.cli.gen import main;"
        "save = C.save;"
        "C.save = lambda self, *a: (save(self, *a), len(a[0].tokens) >= 20 and __import__('os')._exit(9));"
        "main(sys.argv[1:])"
    )
    words = [*map(str, one), "--max-tokens", "60", "--checkpoint-every", "8", "-o", str(tmp_path / "dead.jsonl")]
    died = subprocess.run([sys.executable, "-c", script, *words], env=env, cwd=ROOT, timeout=110, check=False)
    assert died.returncode == 9
    assert len(list(saved.glob("*.session"))) == 1
    done = call(*asked, "-o", tmp_path / "out", "--checkpoint", saved, "--checkpoint-every", "8", env=env)
    assert done.returncode == 0
    assert "goes on after 2" in done.stderr
    assert [r["text"] for r in records_in(tmp_path / "out")] == [r["text"] for r in records_in(wanted)]
    assert not list(saved.glob("*.session"))


def test_bench_is_graded_from_parts(
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards a benchmark on a cluster that reads its output as one file."""
    from click.testing import CliRunner

    from foreal_local.cli.bench import main

    asked = ["--limit", "2", "--modes", "leader,draft", *SETTINGS, "-o", str(tmp_path / "out"), "--ray"]
    cleared = {name: None for name in os.environ if name.startswith("FOREAL_")}
    for _ in range(2):  # the second time all is done
        done = CliRunner().invoke(main, asked, env=cleared | env)
        assert done.exit_code == 0, done.output
        assert "leader" in done.stdout
    assert len(records_in(tmp_path / "out")) == 4
    assert done.stderr.count("4 of 4 prompts are done already") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ray"], "--ray needs --output FOLDER"),
        (["-o", "out", "--ray", "--trace", "trace.jsonl"], "--trace cannot be used with --ray: a trace is written by"),
        (["-o", "out", "--ray", "--format", "text"], "--format cannot be used with --ray"),
        (["-o", "out", "--ray", "--loss", "3"], "--loss cannot be used with --ray"),
        (["-o", "out", "--ray-actors", "3"], "--ray-actors is for --ray, which is missing"),
        (["-o", "out", "--ray", "--ray-actors", "0"], "--ray-actors is 0, but must be 1 or more"),
        (["-o", "out", "--ray", "ray://host:10001"], "--ray ray://host:10001 is for clients outside of the cluster"),
        (["-o", "s3://bucket/out", "--ray"], "--output s3://bucket/out is an address"),
        (["-o", "prompts.jsonl", "--ray"], "--output prompts.jsonl is a file, and with --ray it is a folder of parts"),
        (
            ["-o", "out", "--ray", "--threads", "7"],
            "--threads is 7, and no machine of this Ray cluster has more than 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    more: list[str],
    message: str,
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards an option that is dropped silently, and one that fails after hours."""
    monkeypatch.chdir(tmp_path)
    before = file_of(tmp_path).read_bytes()
    done = call("--file", "prompts.jsonl", *more, env=env)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if message in line], done.stderr
    assert file_of(tmp_path).read_bytes() == before
    assert not (tmp_path / "out").exists()  # nothing is left of a run that was refused


def test_a_broken_prompt_is_told_before_anything_is_answered(
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
) -> None:
    """Guards hours of work before line 900,000 turns out to be none."""
    for line, message in (
        ({"prompt": "a", "id": "a"}, "prompts 1 and 4 both have the id 'a'"),
        ({"prompt": 3}, "prompts.jsonl:4: `prompt` is 3, but must be a text"),
        ({"promt": "x"}, "did you mean prompt?"),
    ):
        done = call("--file", file_of(tmp_path, line), "-o", tmp_path / "out", "--ray", env=env)
        assert done.returncode == 2
        assert message in done.stderr
        assert not (tmp_path / "out").exists()
    near = file_of(tmp_path, {"prompt": "x", "temprature": 0})
    done = call("--file", near, "-o", tmp_path / "out", "--ray", *SETTINGS, env=env)
    assert done.returncode == 0
    assert "'temprature' changes nothing" in done.stderr


@pytest.mark.parametrize("lines", [["--lines"], ["--file", "-"], ["--lines", "--file", "-"]])
@pytest.mark.parametrize("stdin", ["How many?\n\nten\n", '{"id": "a", "prompt": "so"}\n', " \n", '{"id": 1}\n'])
def test_lines_of_standard_input_are_read(
    stdin: str, lines: list[str], env: dict[str, str], tmp_path: Path, fake_cluster: type[FakeCluster]
) -> None:
    """Guards prompts that are read without --ray alone: with it nothing was answered, nothing said, exit code 0."""
    one = call(*lines, "-o", tmp_path / "one.jsonl", *SETTINGS, "-q", env=env, stdin=stdin)
    done = call(*lines, "-o", tmp_path / "out", *SETTINGS, "-q", "--ray", env=env, stdin=stdin)
    assert (done.returncode, done.stderr) == (one.returncode, one.stderr)
    if one.returncode == 0:
        wanted = sorted(records((tmp_path / "one.jsonl").read_text("utf-8")), key=lambda record: record["index"])
        assert [same_of(record) for record in records_in(tmp_path / "out")] == [same_of(record) for record in wanted]
    else:
        assert not (tmp_path / "out").exists()


def test_a_full_folder_for_temporary_files_is_told_by_name(
    small_disk: Disk,  # noqa: F811
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards prompts that find no room, told as an error of standard output."""
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk.folder))
    for file in (file_of(tmp_path, {"prompt": "x " * 20_000}), file_of(tmp_path, *[{"prompt": "x " * 300}] * 20)):
        done = call("--file", file, "-o", tmp_path / "out", *SETTINGS, "--ray", env=env)
        assert done.returncode == 1
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert f"cannot keep the prompts in {small_disk.folder}" in error
        assert "No space left on device; set TMPDIR to another" in error
        assert not (tmp_path / "out").exists()
        assert not list(small_disk.folder.iterdir())


def test_a_run_of_no_prompts_is_refused(tmp_path: Path, fake_cluster: type[FakeCluster]) -> None:
    """Guards a run that answers nothing and says nothing."""
    pair = Models("bundled:tiny-leader.gguf", "bundled:tiny-draft.gguf").resolve()
    request = BatchRequest([], Generation(), output=str(tmp_path / "out"))
    with pytest.raises(UsageError, match="there are no prompts"):
        ClusterRun(request, lambda roles: pair, Models("", ""), ClusterOptions()).execute()
    assert not (tmp_path / "out").exists()


def test_a_machine_that_cannot_answer_ends_the_run_in_a_line(
    env: dict[str, str],
    tmp_path: Path,
    fake_cluster: type[FakeCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guards a traceback of an actor, and Ray's endless repetitions of a constructor that fails."""
    other = bundled_dir() / "tiny-draft.gguf"
    monkeypatch.setattr(Models, "resolve", lambda self: (_ for _ in ()).throw(UsageError(f"no such file: {other}")))
    done = call("--file", file_of(tmp_path), "-o", tmp_path / "out", "--ray", *SETTINGS, env=env)
    assert done.returncode == 2
    assert f"no such file: {other} (on " in done.stderr.splitlines()[-1]


def test_without_ray_a_line_says_what_to_install(env: dict[str, str], tmp_path: Path) -> None:
    """Guards an ImportError where the extra is not installed, and an import of Ray where nobody asked for it."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    script = "import sys; sys.modules['ray'] = None; from foreal_local.cli.gen import main; main()"
    command = [sys.executable, "-c", script]
    done = run("--file", file_of(tmp_path), "-o", tmp_path / "out", "--ray", env=env, command=command)
    assert done.returncode == 2
    assert "pip install 'foreal-local[ray]'" in error_line(done)
    plain = run("--prompt", "How many?", "-q", *SETTINGS, env=env, command=command)
    assert plain.returncode == 0


def test_a_cluster_that_does_not_answer_is_told_at_once() -> None:
    """Guards minutes of silence for a wrong address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"  # nobody listens there
        with pytest.raises(RayError, match=f"cannot join the Ray cluster {address}: Connection refused"):
            require_reachable(address)
        found.listen()
        require_reachable(address)
    for other in ("", "auto", "local", "ray://host:1"):  # Ray's own
        require_reachable(other)


# ---------------------------------------------------------------- what it is made of
def _answers(*ids: str) -> list[Answer]:
    line = '{{"id": "{}", "finish_reason": "stop"}}\n'
    return [Answer(i, id, "", line.format(id)) for i, id in enumerate(ids)]


def test_parts_are_whole_and_nobody_elses_file_is_touched(tmp_path: Path) -> None:
    """Guards a part that takes the place of another file, and records that wait for ever."""
    (tmp_path / "part-000004.jsonl").write_text('{"id": "x", "finish_reason": "stop"}\n')
    (tmp_path / "part-4.jsonl").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    written: list[str] = []
    parts = Parts(tmp_path, lambda answers: written.extend(answer.id for answer in answers))
    parts.add(_answers("a", "b"))
    assert not written
    parts.flush()
    parts.flush()
    assert written == ["a", "b"]
    parts.add(_answers(*map(str, range(MOST_RECORDS))))
    assert len(written) == 2 + MOST_RECORDS
    names = [file.name for file in parts.files()]
    assert names == ["part-000004.jsonl", "part-000005.jsonl", "part-000006.jsonl"]
    assert [len(read_earlier(file).lines) for file in parts.files()] == [1, 2, MOST_RECORDS]
    assert {(tmp_path / name).read_text() for name in ("part-4.jsonl", "notes.txt")} == {"mine"}


def test_records_are_written_while_nothing_more_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards finished records that wait for the slowest prompt, and an error of the disk that nobody hears of."""
    monkeypatch.setattr(parts_module, "MOST_SECONDS", 0.05)
    written = threading.Event()
    parts = Parts(tmp_path / "out", lambda answers: written.set())
    with parts.created():
        parts.add(_answers("a"))
        assert written.wait(20)
        assert [file.read_text() for file in parts.files()] == [_answers("a")[0].line]
        monkeypatch.setattr(parts_module, "replace_file", _full_disk)
        parts.add(_answers("b"))
        time.sleep(0.5)
        with pytest.raises(OutputError, match="No space left on device; earlier parts are whole"):
            parts.add(_answers("c"))


def test_an_error_of_a_late_part_is_heard_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards records that are lost without a word, and exit code 0, where the disk fills up just while the run ends."""
    begun, goes_on, written = threading.Event(), threading.Event(), list[Answer]()

    def full(*_: object, **__: object) -> None:
        begun.set()
        goes_on.wait(20)
        _full_disk()

    monkeypatch.setattr(parts_module, "MOST_SECONDS", 0.01)
    monkeypatch.setattr(parts_module, "replace_file", full)
    parts = Parts(tmp_path, written.extend)
    parts.add(_answers("a"))
    assert begun.wait(20)
    threading.Timer(0.2, goes_on.set).start()
    for _ in range(2):
        with pytest.raises(OutputError, match="No space left on device"):
            parts.flush()
    assert written == []


def test_half_a_part_of_a_run_that_was_killed_is_removed(
    env: dict[str, str], tmp_path: Path, fake_cluster: type[FakeCluster]
) -> None:
    """Guards parts that were being written when the driver was killed, and that fill the disk in time."""
    out = tmp_path / "out"
    out.mkdir()
    names = (".part-000003.jsonl.4711-140.part", ".run.json.4711-140.part", ".download.part", "notes.part")
    for name in names:
        (out / name).touch()
    done = call("--file", file_of(tmp_path), "-o", out, *SETTINGS, "--ray", env=env)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in out.iterdir()} == {"part-000000.jsonl", "run.json", *names[2:]}


def _full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("nodes", "options", "wanted"),
    [
        ([Node(8)], {}, Layout(1, 8, 1)),  # a large pair takes the machine
        ([Node(8)], {"n_bytes": 10**6}, Layout(8, 1, 1)),  # a small one a core
        ([Node(8)], {"n_bytes": 10**6, "parallel": 3}, Layout(2, 3, 1)),
        ([Node(0), Node(4), Node(6)], {}, Layout(2, 4, 2)),  # threads are the same everywhere
        ([Node(4), Node(16)], {"threads": 4}, Layout(5, 4, 2)),
        ([Node(2), Node(16)], {"threads": 4}, Layout(4, 4, 1)),
        ([Node(16, 2), Node(8)], {"on_gpu": True}, Layout(2, 8, 1, 1)),
        ([Node(16, 2)], {"on_gpu": False}, Layout(1, 16, 1)),
        ([Node(4)], {"n_actors": 3, "threads": 4}, Layout(3, 4, 1)),  # more than there is: perhaps it grows
    ],
)
def test_machines_are_shared_out(nodes: list[Node], options: dict[str, Any], wanted: Layout) -> None:
    """Guards actors that find no place, and cores that nobody uses."""
    default: dict[str, Any] = {"n_bytes": 10**10, "threads": None, "parallel": 1, "on_gpu": False, "n_actors": None}
    assert layout_of(nodes, **(default | options)) == wanted


def test_a_cluster_without_room_is_refused() -> None:
    """Guards a run that waits for ever."""
    with pytest.raises(UsageError, match="no machine of this Ray cluster has a CPU"):
        layout_of([Node(0)], n_bytes=1, threads=None, parallel=1, on_gpu=False, n_actors=None)


def test_prompts_travel_together_where_there_are_many() -> None:
    """Guards a driver that is too busy with tasks, and a machine that has much of the run in hand."""
    assert Layout(3, 1, 3).together(200, 1) == 1
    assert Layout(3, 1, 3).together(1500, 1) == 5
    assert Layout(3, 1, 3).together(10**6, 8) == 16
    assert Layout(1000, 1, 1000).together(10**6, 8) == 15


def _read(path: Path) -> list[Prompt]:
    return list(PromptFile(str(path), Generation(), Prompting(), lambda line: None))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", "\ufeffone\n\n two \r\nthree"),
        (
            "a.jsonl",
            '{"prompt": "a", "temp": 0, "x": 1}\n\n{"messages": [{"role": "user", "content": "b"}], "id": 7}\n',
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_mean_the_same_one_by_one(name: str, data: str, encoding: str, tmp_path: Path) -> None:
    """Guards a second reader that understands a file otherwise."""
    path = tmp_path / name
    path.write_bytes(data.encode(encoding))
    assert _read(path) == read_prompts(str(path), Generation(), Prompting())


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.txt", b"ok\n\xff\n"), ("a.txt", b"ok\nx\0\n"), ("a.txt", b" \n"), ("a.jsonl", b'{"prompt": "a"}\n{'),
     ("a.txt", b'{"prompt": "a"}\n')],
)  # fmt: skip
def test_errors_of_files_are_the_same_one_by_one(name: str, data: bytes, tmp_path: Path) -> None:
    """Guards a message that names another line."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError) as wanted:
        read_prompts(str(path), Generation(), Prompting())
    with pytest.raises(UsageError) as found:
        _read(path)
    assert str(wanted.value).startswith(str(found.value))


def test_parquet_and_addresses_are_read(tmp_path: Path) -> None:
    """Guards columns that mean something else than keys, and nulls that are taken for values."""
    pyarrow = pytest.importorskip("pyarrow", reason="comes with the extra ray")
    from pyarrow import parquet

    rows = [{"prompt": "a", "id": 1, "temp": 0.0, "x": None}, {"prompt": "b", "id": 2, "temp": None, "x": "y"}]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    first, second = _read(path)
    assert (first.content, first.id, first.extra) == ("a", "1", {})
    assert first.settings is not None
    assert (second.content, second.settings, second.extra) == ("b", None, {"x": "y"})
    lines = tmp_path / "a.jsonl"
    lines.write_text(jsonl({"prompt": "ä"}, {"prompt": "b"}), "utf-8")
    found = list(PromptFile(lines.as_uri(), Generation(), Prompting(), lambda line: None))
    assert [prompt.content for prompt in found] == ["ä", "b"]
    for address, told in (((tmp_path / "none.jsonl").as_uri(), "cannot read prompts from"), ("zz://a/b", "zz://a/b")):
        with pytest.raises(UsageError, match=told):
            list(PromptFile(address, Generation(), Prompting(), lambda line: None))
    (tmp_path / "b.parquet").write_text("no")
    with pytest.raises(UsageError, match="is no Parquet file"):
        _read(tmp_path / "b.parquet")


def test_prompts_come_back_from_the_spool(tmp_path: Path) -> None:
    """Guards prompts that lose what belongs to them on the way."""
    prompts = list(numbered([Prompt("a"), Prompt("b", "x", Generation(seed=3)), Prompt("c", extra={"k": [1]})], "f"))
    with Spool() as spool:
        for prompt in prompts:
            spool.add(prompt)
        begins, ends = spool.spans(2)
        found = [list(prompts_in(read_span(spool.path, *span))) for span in zip(begins, ends, strict=True)]
        assert found == [prompts[:2], prompts[2:]]
        path = spool.path
    assert not path.parent.exists()


def test_models_have_names_that_mean_the_same_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a relative path, or this machine's folder of the package, that is looked for on another one."""
    monkeypatch.chdir(tmp_path)
    Path("own.gguf").write_bytes((bundled_dir() / "tiny-draft.gguf").read_bytes())
    bundled = named_anywhere(str(bundled_dir() / "tiny-leader.gguf"))
    assert (bundled, named_anywhere("own.gguf")) == ("bundled:tiny-leader.gguf", str(tmp_path / "own.gguf"))
    assert named_anywhere("owner/repo:Q4_K_M") == "owner/repo:Q4_K_M"
    pair = Models(bundled, named_anywhere("own.gguf"), offline=True).resolve()
    assert (pair.leader.path, pair.draft.path) == (bundled_dir() / "tiny-leader.gguf", tmp_path / "own.gguf")
    assert json.dumps(str(pair.leader.path))
