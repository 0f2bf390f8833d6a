"""One command line with a broken input, how it is run, and what must hold of every such run.

Knows no kind of input. A module of this package makes the cases of one kind; GROUPS of scripts/mutate.py names it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECONDS = 90.0
"""How long a run may take before it counts as one that hangs. Most take a tenth of a second; a model that llama.cpp
hangs over in its trial (runtime/llama/trial.py) takes a minute until it is refused."""
CODES = frozenset({0, 1, 2})
"""What the commands document: fine, some prompts failed or could not be written, a usage error."""
_CRASH = re.compile(rb"Traceback \(most recent|Exception ignored|core dumped")
_SPARED = ("FOREAL_", "HF_", "XDG_", "NO_COLOR")


Content = bytes | Path | Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """A command line and its broken input.

    name: tells what is broken, and in what; unique in its group
    command: the words after `foreal`, such as ("gen", "--file", "prompts.txt"); files by the names below
    files: what lies in the folder it runs in, by name: bytes, a function that makes them, or a file to link to
    stdin: what it reads
    environment: variables beside those that every case has
    codes: exit codes it may end with
    encoding: what standard output must be readable as; "": it is not looked at
    fresh: by a new interpreter, whose environment says how it reads and writes
    """

    name: str
    command: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    codes: frozenset[int] = CODES
    encoding: str = ""
    fresh: bool = False


Cases = Callable[[random.Random, Path, bool], Iterator[Case]]
"""What a group's module has as `cases`: of random numbers, a folder for what its cases share, and whether the long
form is wanted."""


class Outcome(NamedTuple):
    """How a run ended. code: negative for a signal, None where it was stopped because it hung."""

    code: int | None
    out: bytes
    err: bytes
    seconds: float


def fault_of(case: Case, outcome: Outcome) -> str | None:
    """What is wrong with the way a command ended; None where nothing is."""
    code, err = outcome.code, outcome.err
    if code is None:
        return f"hangs: stopped after {outcome.seconds:.0f} s"
    if code < 0:
        return f"killed by signal {signal.Signals(-code).name}"
    if found := _CRASH.search(err):
        return f"prints {found[0].decode()!r}"
    if code not in case.codes:
        return f"ends with {code}, which is none of {sorted(case.codes)}"
    if code and not any(len(line.split()) > 2 for line in err.splitlines()):
        return f"ends with {code} and does not say why"
    try:
        outcome.out.decode(case.encoding or "latin-1")
    except UnicodeDecodeError:
        return f"prints what is no {case.encoding}"
    return None


def run_case(case: Case, folder: Path, fresh: bool = False, limit: float = SECONDS) -> Outcome:
    """Run the case's command in a folder of its own, which is gone afterwards.

    fresh: by a new interpreter, as a user does; else by a copy of this process, which saves the second that imports
        take (where the system can copy processes)
    """
    folder.mkdir(parents=True)
    try:
        for name, content in case.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                (folder / name).symlink_to(content)
            else:
                (folder / name).write_bytes(content if isinstance(content, bytes) else content())
        start, began = (_spawned if fresh or case.fresh or not hasattr(os, "fork") else _forked), time.monotonic()
        code = start(case, folder, limit)
        out, err = ((folder / name).read_bytes() for name in (".out", ".err"))
        return Outcome(code, out, err, time.monotonic() - began)
    finally:
        shutil.rmtree(folder)


def environment_of(case: Case, folder: Path) -> dict[str, str]:
    """No settings of the user's own, no hub, one thread, a small context."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_SPARED)}
    kept |= {"HOME": str(folder), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive", "PYTHONUTF8": "1"}
    kept |= {"FOREAL_THREADS": "1", "FOREAL_CTX_SIZE": "128", "GGML_NO_BACKTRACE": "1"}
    return kept | dict(case.environment)


def _spawned(case: Case, folder: Path, limit: float) -> int | None:
    """The exit code of a new interpreter; None after the time limit."""
    command = [sys.executable, "-m", "foreal_local", *case.command]
    package = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with open(folder / ".out", "wb") as out, open(folder / ".err", "wb") as err:
        try:
            return subprocess.run(
                command,
                input=case.stdin,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment_of(case, folder) | package,
                timeout=limit,
            ).returncode
        except subprocess.TimeoutExpired:
            return None


def _forked(case: Case, folder: Path, limit: float) -> int | None:
    """The exit code of a copy of this process that runs the command; None after the time limit."""
    (folder / ".in").write_bytes(case.stdin)
    pid = os.fork()
    if pid == 0:
        _become(case, folder)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _become(case: Case, folder: Path) -> None:
    """Run the command in this process, and end it as the interpreter would."""
    code = 1
    try:
        os.chdir(folder)
        modes = ((".in", os.O_RDONLY), (".out", os.O_WRONLY | os.O_CREAT), (".err", os.O_WRONLY | os.O_CREAT))
        for number, (name, mode) in enumerate(modes):
            os.dup2(os.open(name, mode), number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False) for number, mode in enumerate("rww")
        )
        variables = environment_of(case, folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = ["foreal", *case.command]
        from foreal_local.cli.main import main

        main(list(case.command), prog_name="foreal")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
