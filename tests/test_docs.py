"""README and docs: examples that run, links that lead somewhere, pages and pictures that show the present program."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import ROOT, environment

from foreal_local.chat.commands import NAMES

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "models" / "README.md"])
PICTURES = sorted((ROOT / "docs").glob("*.svg"))
COMING: set[str] = set()
"""Paths that pages name and that are not there yet."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
_LINK = re.compile(r"(?:\]\(|(?:src|srcset|href)=\")([^)\s\"]+)[)\"]")
_PATH = re.compile(
    r"`((?:foreal_local|method|runtime|storage|chat|batch|evaluation|cli|scripts|tests|docs|models)/[\w./*-]+)`"
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, and why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    code: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        mark = _NOT_RUN.search(text[: match.start()])
        line = text[: match.start()].count("\n") + 1
        found.append(Block(page, line, match[1], match[2], mark[1] if mark else None))
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]


def programs(*languages: str) -> list[tuple[Path, list[Block]]]:
    """The blocks of each page that are run; later ones use what earlier ones have made."""
    found = [block for block in BLOCKS if block.language in languages and not block.not_run]
    return [(page, own) for page in PAGES if (own := [block for block in found if block.page == page])]


@pytest.fixture
def here(tmp_path: Path) -> dict[str, object]:
    """A folder of the examples' own, the bundled pair, and the installed commands."""
    env = environment(None, tmp_path, FOREAL_CTX_SIZE="1024", FOREAL_COLOR="never")
    del env["FOREAL_LINES"]  # users do not have it
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    folder = tmp_path / "examples"
    folder.mkdir()
    return {"env": env, "cwd": folder, "capture_output": True, "text": True, "encoding": "utf-8", "timeout": 110}


def name_of(program: tuple[Path, list[Block]]) -> str:
    return str(program[0].relative_to(ROOT))


# ---------------------------------------------------------------- examples
@pytest.mark.skipif(shutil.which("bash") is None, reason="the examples are for a POSIX shell")
@pytest.mark.parametrize("program", programs("sh", "bash"), ids=name_of)
def test_shell_examples_run(program: tuple[Path, list[Block]], here: dict[str, object]) -> None:
    """Guards options and files that a page names and the program does not have."""
    for block in program[1]:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], stdin=subprocess.DEVNULL, **here)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{block}\n{done.stderr}"


@pytest.mark.parametrize("program", programs("python"), ids=name_of)
def test_python_examples_run(program: tuple[Path, list[Block]], here: dict[str, object]) -> None:
    """Guards names and arguments that a page shows and the package does not have."""
    code = "\n".join(block.code for block in program[1])
    done = subprocess.run([sys.executable, "-c", code], **here)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{name_of(program)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_python_examples_are_python(block: Block) -> None:
    """Guards slips in examples that are not run."""
    ast.parse(block.code)


def test_an_example_that_is_not_run_says_why() -> None:
    """Guards a mark that is spelled otherwise, and so marks nothing."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        n_marks = len(re.findall(r"^<!--[^>]*\bnot run\b", text, re.IGNORECASE | re.MULTILINE))
        assert n_marks == sum(block.not_run is not None for block in blocks(page)), page


# ---------------------------------------------------------------- links and names
def test_the_user_of_a_container_may_write_its_volumes() -> None:
    """Guards a named volume at a folder that the image does not have: it is root's, and nothing can be downloaded."""
    page = blocks(ROOT / "docs" / "server.md")
    [image] = [block.code for block in page if block.language == "Dockerfile"]
    volumes = [path for block in page for path in re.findall(r"docker run.* -v [\w-]+:(\S+)", block.code)]
    as_root = image[: image.index("\nUSER foreal\n")]
    assert volumes
    assert all(f"install -d -o foreal -g foreal {path}\n" in f"{as_root}\n" for path in volumes)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may say, as GitHub makes it."""
    text = re.sub(_FENCE, "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Guards links to files and headings that have moved."""
    text = re.sub(_FENCE, "", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_that_are_named_are_there(page: Path) -> None:
    """Guards a recipe that sends its reader to a file that has another name now."""
    for name in _PATH.findall(page.read_text(encoding="utf-8")):
        short = name.removeprefix("foreal_local/")
        found = [*ROOT.glob(name), *(ROOT / "foreal_local").glob(short)]
        assert found or short in COMING or "NAME" in name, f"{page.name}: {name}"


def test_every_command_of_the_chat_is_documented() -> None:
    """Guards a slash command that only /help knows."""
    page = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}" not in page] == []


# ---------------------------------------------------------------- pages and pictures
def test_readme_is_a_door() -> None:
    """Guards a README that becomes a manual."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize("script", ["make_options.py", "draw_architecture.py"])
def test_what_is_made_is_up_to_date(script: str) -> None:
    """Guards a page of options, and a picture of imports, that show another program."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_pictures_are_whole(path: Path) -> None:
    """Guards an SVG that browsers refuse."""
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
