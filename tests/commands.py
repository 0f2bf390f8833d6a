"""The command line as users call it: a process of its own, and what it must never print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODULE = [sys.executable, "-m", "foreal_local", "gen"]
INSTALLED = [str(Path(sys.executable).with_name("foreal-gen"))]
Done = subprocess.CompletedProcess[str]


def environment(pair: tuple[Path, Path] | None, home: Path, **more: str) -> dict[str, str]:
    """No settings of the user's own, a small context; the pair by FOREAL_LEADER and FOREAL_DRAFT."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FOREAL_", "HF_", "XDG_"))}
    kept.pop("NO_COLOR", None)
    kept |= {"HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}
    kept["FOREAL_LINES"] = "1"  # of a chat: a test's input is a script, with a message or a command on each line
    kept |= {"FOREAL_CTX_SIZE": "256", "FOREAL_THREADS": "1", "GGML_NO_BACKTRACE": "1"}
    if pair:
        kept |= {"FOREAL_LEADER": str(pair[0]), "FOREAL_DRAFT": str(pair[1])}
    else:  # the bundled pair, by the paper's method
        kept |= {"FOREAL_REVIEW": "off"}
    return kept | more


def run(
    *arguments: str | Path, env: dict[str, str], stdin: str | bytes = "", cwd: Path = ROOT, command: list[str] = MODULE
) -> Done:
    """One call; the texts are UTF-8 whatever the system's encoding is."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    words = [*command, *map(str, arguments)]
    done = subprocess.run(words, input=data, capture_output=True, env=env, cwd=cwd, timeout=110)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return subprocess.CompletedProcess(words, done.returncode, out, err)


def records(text: str) -> list[dict[str, Any]]:
    """JSON lines; every line is whole."""
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def jsonl(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)


def error_line(done: Done) -> str:
    """The one error line of a call that failed before it answered anything."""
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error: ")]
    others = [line for line in lines if not re.match(r"Error: |Usage: |Try '", line)]
    assert (len(errors), others) == (1, []), done.stderr
    return errors[0]
