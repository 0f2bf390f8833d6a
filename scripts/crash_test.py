#!/usr/bin/env python3
"""Whether batches survive crashes: kills at random moments, full disks, two runs on one file.

    python scripts/crash_test.py [--prompts 40] [--kills 30] [--parallel 4] [--every 16]
    python scripts/crash_test.py --keep crashes         # every file, and what each run printed, stays there

The bundled pair answers the prompts once without a stop, greedily. Then runs that resume are killed (SIGKILL):
after each kill the records must be those of the first run, none twice and none lost again, and every checkpoint
must be readable and the beginning of its response. In the end nothing may be missing or left over. Full disks
are small tmpfs mounts, which need root on Linux. Costs and seconds are not compared: what is evaluated again
after a restart is counted again. Exit code 1 on any violation.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from foreal_local.hub import bundled_dir
from foreal_local.storage import session

SAME = ("prompt", "text", "finish_reason", "error", "seed", "usage", "sentences")
GOES_ON = re.compile(r"prompt .+?: goes on after (\d+) token")
NO_SPACE = os.strerror(errno.ENOSPC)


class Call(subprocess.Popen[bytes]):
    """One call of the command, in a process group of its own; what it prints on stderr goes to `log`."""

    def __init__(self, log: Path, *arguments: str | Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "foreal_local", "gen", "--temp", "0", "--seed", "1", *map(str, arguments)]
        env = {name: value for name, value in os.environ.items() if not name.startswith("FOREAL_")}
        null = subprocess.DEVNULL
        with open(log, "wb") as err:
            super().__init__(command, stdin=null, stdout=null, stderr=err, env=env, start_new_session=True)

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended just now
            if self.poll() is None:
                os.killpg(self.pid, number)

    def end(self, seconds: float) -> Call:
        """Wait for its end; if it still runs after so long (or on Ctrl-C), it is killed."""
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(seconds)
        finally:
            self.send(signal.SIGKILL)
            self.wait()
        return self

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@dataclass
class Bench:
    """What all batches share: the folder, the options, the records that are right, and what was found."""

    folder: Path
    parallel: int
    every: int
    right: dict[str, dict[str, Any]] = field(default_factory=dict)
    patience: float = 3600.0
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    largest: int = 0  # bytes of a checkpoint
    saved: list[int] = field(default_factory=list)  # tokens of each unfinished sequence in a checkpoint
    gone_on: list[int] = field(default_factory=list)  # tokens after which a run said that it goes on

    def expect(self, holds: object, text: str) -> None:
        if not holds:
            self.violations.append(text)

    def call(self, *arguments: str | Path) -> Call:
        self.counts["calls"] += 1
        log = self.folder / f"stderr-{self.counts['calls']:03}.txt"
        return Call(log, "--parallel", str(self.parallel), *arguments)

    def answer_once(self, n_prompts: int) -> tuple[float, float]:
        """Make the reference. Returns the seconds of starting up and of the work."""
        lines = (bundled_dir() / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:n_prompts]
        prompts = [{key: json.loads(line)[key] for key in ("id", "prompt")} for line in lines]
        source, output = self.folder / "prompts.jsonl", self.folder / "reference.jsonl"
        source.write_text("".join(json.dumps(item) + "\n" for item in prompts), encoding="utf-8")
        startup = self._seconds("--prompt", prompts[0]["prompt"], "--max-tokens", "1")
        whole = self._seconds("-f", source, "-o", output)
        self.patience = 60 + 10 * whole
        records = [json.loads(line) for line in output.read_bytes().splitlines()]
        self.right = {record["id"]: record for record in records}
        return startup, max(whole - startup, 0.1)

    def _seconds(self, *arguments: str | Path) -> float:
        started, call = time.perf_counter(), self.call(*arguments)
        if call.end(self.patience).returncode:
            raise click.ClickException(f"a run without any crash failed:\n{call.printed}")
        return time.perf_counter() - started


class Batch:
    """One output file with its checkpoints, each in a folder of the batch or in a given one; checks them."""

    def __init__(self, bench: Bench, name: str, output: Path | None = None, checkpoints: Path | None = None) -> None:
        self._bench, self._name = bench, name
        own = bench.folder / name
        own.mkdir()
        self.output, self.checkpoints = (output or own) / "out.jsonl", (checkpoints or own) / "checkpoints"
        self.lines: list[bytes] = []  # the whole ones
        self._torn, self._n_runs = b"", 0

    def start(self) -> Call:
        self._bench.counts["resumes"] += self._n_runs > 0
        self._n_runs += 1
        files = ("-f", self._bench.folder / "prompts.jsonl", "-o", self.output, "--resume")
        return self._bench.call(*files, "--checkpoint", self.checkpoints, "--checkpoint-every", str(self._bench.every))

    def run(self, seconds: float) -> Call:
        call = self.start().end(seconds)
        self.check(call)
        return call

    def finish(self) -> None:
        self.check_complete(self.run(self._bench.patience))

    def contents(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in [self.output, *self._saved("*")] if path.is_file()}

    def _saved(self, pattern: str) -> list[Path]:
        return sorted(self.checkpoints.rglob(pattern)) if self.checkpoints.is_dir() else []

    def _expect(self, holds: object, call: Call, text: str) -> None:
        self._bench.expect(holds, f"{self._name}, {call.log.name}: {text}")

    def check(self, call: Call) -> None:
        """What holds whenever a run has ended, however it did."""
        before, printed = set(self.lines), call.printed
        *self.lines, self._torn = (self.output.read_bytes() if self.output.is_file() else b"").split(b"\n")
        self._expect(before <= set(self.lines), call, "a record that was there is gone")
        ids = [self._check_record(line, call) for line in self.lines]
        self._expect(len(set(ids)) == len(ids), call, "a record is there twice")
        self._expect("Traceback" not in printed, call, "it printed a traceback")
        self._bench.gone_on += map(int, GOES_ON.findall(printed))
        for path in self._saved("*.session"):
            self._check_session(path, ids, call)

    def _check_record(self, line: bytes, call: Call) -> str:
        try:
            record = json.loads(line)
            right = self._bench.right[record["id"]]
        except Exception as error:  # whatever a damaged line may raise
            self._expect(False, call, f"no record of a prompt: {line[:80]!r} ({error!r})")
            return repr(line)
        self._bench.counts["compared"] += 1
        for key in SAME:
            same = record.get(key) == right[key]
            self._expect(same, call, f"{record['id']}: {key} is {record.get(key)!r}, not {right[key]!r}")
        return str(record["id"])

    def _check_session(self, path: Path, recorded: list[str], call: Call) -> None:
        """A kill tears no file, so that a note is a violation, too. The models are those that the file names."""
        data = path.read_bytes()
        self._bench.largest = max(self._bench.largest, len(data))
        try:
            content, _, _ = session._header(path, data)
            found = session.read_session(path, session.Identity(content["models"], content["contexts"]))
            sequence, right = found.sequence, self._bench.right[found.sequence.id]["text"]
        except Exception as error:  # whatever a damaged file may raise
            self._expect(False, call, f"{path.name} cannot be read: {error!r}")
            return
        self._expect(not found.notes, call, f"{path.name}: {'; '.join(found.notes)}")
        self._expect(right.startswith(sequence.text), call, f"{path.name} holds another text")
        if sequence.id not in recorded:  # otherwise the kill came between the record and the removal
            self._bench.saved.append(len(sequence.tokens))

    def check_complete(self, call: Call) -> None:
        self._expect(call.returncode == 0, call, f"exit code {call.returncode}: {call.printed[-300:]}")
        n_lines, n_right = len(self.lines), len(self._bench.right)
        self._expect(n_lines == n_right, call, f"{n_lines} records, not {n_right}")
        self._expect(not self._torn, call, "the last line is torn")
        left = [*self._saved("*.session"), *self._saved("*.part"), *self.output.parent.glob("out.jsonl.~*")]
        self._expect(not left, call, f"left over: {', '.join(path.name for path in left)}")


# ---------------------------------------------------------------- kills
def kill(bench: Bench, kills: int, longest: float, seed: int) -> None:
    """Kill the runs of one batch after another, each until it is done; one with violations is the last."""
    moments, counts = random.Random(seed), bench.counts
    while counts["kills"] < kills and not bench.violations:
        batch, code = Batch(bench, f"batch-{counts['calls']:03}"), -signal.SIGKILL
        while counts["kills"] < kills and code == -signal.SIGKILL:
            code = batch.run(moments.uniform(0.2, longest)).returncode
            counts["kills"] += code == -signal.SIGKILL
            if code == -signal.SIGKILL and counts["kills"] % 10 == 0:
                done = f"{len(batch.lines)} of {len(bench.right)} records in this batch"
                click.echo(f"{counts['kills']} kills: {done}, {len(bench.violations)} violations")
        bench.expect(code in (0, -signal.SIGKILL), f"a run of {batch.output.parent.name} ended with exit code {code}")
        batch.finish()
    bench.expect(bench.saved or kills < 10, "no kill left a checkpoint")


# ---------------------------------------------------------------- full disks
def fill_disks(bench: Bench) -> None:
    """Disks with room for a few records, or for half of the checkpoints of so many sequences."""
    n_records = (bench.folder / "reference.jsonl").stat().st_size // 8
    n_states = max(1 << 16, bench.parallel * bench.largest // 2)
    for name, size in (("output", n_records), ("checkpoints", n_states), ("output-and-checkpoints", n_states)):
        disk = bench.folder / f"disk-of-{name}"
        with small_disk(disk, size):
            batch = Batch(bench, f"full-{name}", *(disk if it in name else None for it in ("output", "checkpoints")))
            call = batch.run(bench.patience)
            named = any(NO_SPACE in line and str(disk) in line for line in call.printed.splitlines())
            text = f"full {name}, {call.log.name}: exit code {call.returncode}, not 1 and a name: {call.printed!r}"
            bench.expect(call.returncode == 1 and named, text)
            click.echo(f"full disk ({name}, {size} bytes): {len(batch.lines)} records kept")
            mount(disk, "remount,size=64m")
            batch.finish()


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir()
    mount(folder, f"size={size}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def can_mount(folder: Path) -> bool:
    try:
        with small_disk(folder / "disk-of-nothing", 1 << 12):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


# ---------------------------------------------------------------- two at once
def run_two(bench: Bench) -> None:
    """The second is refused. The first stands still meanwhile: any change would be the second's."""
    batch = Batch(bench, "two")
    first = batch.start()
    try:
        while first.poll() is None and not (batch.output.is_file() and batch.output.stat().st_size):
            time.sleep(0.05)
        first.send(signal.SIGSTOP)
        time.sleep(0.5)
        bench.expect(first.returncode is None, f"two at once: the first was over too soon: {first.printed[-300:]!r}")
        before, second = batch.contents(), batch.start().end(bench.patience)
        refused = second.returncode == 2 and "in use" in second.printed
        bench.expect(refused, f"two at once: the second's exit code is {second.returncode}: {second.printed[-300:]!r}")
        bench.expect(batch.contents() == before, "two at once: the second changed a file")
    finally:
        first.send(signal.SIGCONT)
        first.end(bench.patience)
    batch.check(first)
    batch.check_complete(first)
    click.echo(f"two at once: the second's exit code is {second.returncode}")


@click.command()
@click.option("--prompts", default=40, show_default=True)
@click.option("--kills", default=30, show_default=True)
@click.option("--parallel", default=4, show_default=True)
@click.option("--every", default=16, show_default=True, help="Tokens between two checkpoints of a sequence.")
@click.option("--seed", default=0, show_default=True, help="Of the moments of the kills.")
@click.option("--keep", type=click.Path(path_type=Path), help="Work in this folder, which must be new or empty.")
@click.option("--tmpfs/--no-tmpfs", default=None, help="Test full disks.  [default: where one can be mounted]")
def main(prompts: int, kills: int, parallel: int, every: int, seed: int, keep: Path | None, tmpfs: bool | None) -> None:
    """Kill batches, fill their disks, run two at once, and hold what they wrote against an uninterrupted run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = (keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise click.UsageError(f"{folder} is not empty")
        bench = Bench(folder, parallel, every)
        startup, work = bench.answer_once(prompts)
        click.echo(f"reference: {len(bench.right)} prompts in {work:.1f} s, {startup:.1f} s to start up")
        # Half of it on average, less what is done again: one batch lasts for about all kills.
        kill(bench, kills, startup + work * min(1 / 3, 3 / max(kills, 1)), seed)
        if tmpfs or (tmpfs is None and can_mount(folder)):
            fill_disks(bench)
        else:
            click.echo("full disks are not tested (mounting a tmpfs needs root on Linux)")
        run_two(bench)
    summarise(bench)


def summarise(bench: Bench) -> None:
    saved, gone_on = bench.saved, bench.gone_on
    click.echo(
        f"{bench.counts['kills']} kills, {bench.counts['resumes']} resumes, "
        f"{bench.counts['compared']} records compared\n"
        f"{len(saved)} unfinished sequences in checkpoints after kills (median {statistics.median(saved or [0]):g} "
        f"tokens), {len(gone_on)} gone on with (median {statistics.median(gone_on or [0]):g})"
    )
    for text in bench.violations:
        click.echo(f"VIOLATION: {text}", err=True)
    if bench.violations:
        sys.exit(1)
    click.echo("no violation")


if __name__ == "__main__":
    main()
