"""llama-cpp-python as it may be installed: missing, too old, too new, broken; and a machine without a compiler."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from commands import MODULE, ROOT, error_line, run

from foreal_local.errors import InstallationError
from foreal_local.evaluation.problems import verifier
from foreal_local.evaluation.reports import plots
from foreal_local.runtime.llama import version

COMMANDS = [[*MODULE[:3], name] for name in ("gen", "chat", "bench", "analyze")]
BROKEN = "raise RuntimeError(\"Failed to load shared library 'libllama.so':\\n libcudart.so.12: no such file\")"
NO_SYMBOL = "raise AttributeError('undefined symbol: llama_n_rs_seq')"


def pretend(folder: Path, found: str, source: str) -> str:
    """A folder for PYTHONPATH in which llama-cpp-python has this version and this source."""
    (folder / "llama_cpp").mkdir(parents=True)
    (folder / "llama_cpp" / "__init__.py").write_text(source, "utf-8")
    info = folder / f"llama_cpp_python-{found}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: {found}\n", "utf-8")
    return os.pathsep.join([str(folder), str(ROOT)])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
@pytest.mark.parametrize("found", ["0.2.90", "0.3.35", "0.4.0", "1.0", "0.3.9+cu124"])
def test_another_version_is_told_before_anything_else(
    found: str, command: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    """Guards a traceback of a symbol that the installed version does not have, after minutes of loading."""
    env["PYTHONPATH"] = pretend(tmp_path / "site", found, NO_SYMBOL)
    done = run(*(["wait"] if command[-1] in ("gen", "chat") else []), env=env, command=command)
    line = error_line(done)
    assert done.returncode == 2
    assert f"llama-cpp-python {found} is installed, but 0.3.36 or later, and before 0.4, is needed" in line
    assert f"pip install '{version.WANTED}'" in line


@pytest.mark.parametrize("source", [BROKEN, NO_SYMBOL, "import no_such_module"])
def test_a_library_that_cannot_be_loaded(source: str, env: dict[str, str], tmp_path: Path) -> None:
    """Guards a traceback where a CUDA build meets a machine without CUDA."""
    env["PYTHONPATH"] = pretend(tmp_path / "site", "0.3.36", source)
    line = error_line(run("wait", env=env))
    assert "llama-cpp-python 0.3.36 cannot be loaded (" in line
    assert "pip install --force-reinstall" in line
    for words in ("--help", "--version"):
        assert run(words, env=env).returncode == 0


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards ModuleNotFoundError for a package that was installed without its dependencies."""

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(InstallationError, match="llama-cpp-python is not installed: pip install"):
        version.require_llama_cpp()


def test_versions_of_wheels_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a prebuilt wheel that is refused for the build's name behind its version."""
    for found in ("0.3.36", "0.3.36+cu124", "0.3.40.post1", "0.3.100"):
        monkeypatch.setattr(metadata, "version", lambda name, found=found: found)
        version.require_llama_cpp()


def test_the_range_is_the_same_everywhere() -> None:
    """Guards instructions for a version that the package refuses."""
    for name in ("pyproject.toml", "README.md"):
        found = re.findall(r"llama-cpp-python>=[\d.]+(?:,<[\d.]+)?", (ROOT / name).read_text("utf-8"))
        assert found
        assert set(found) == {version.WANTED}


@pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="the scripts are for a POSIX shell")
@pytest.mark.parametrize("script", ["setup", "demo"])
def test_without_a_compiler_it_is_said_in_a_few_lines(script: str, tmp_path: Path) -> None:
    """Guards pages of CMake where a compiler is missing, and a hint that leads nowhere."""
    (tmp_path / "scripts").mkdir()
    for name in ("setup", "demo"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "grep", "mktemp", "uname", "rm"):
        (tools / name).symlink_to(str(shutil.which(name)))
    python = tmp_path / ".venv" / "bin" / "python"  # has nothing, and reaches no index
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/bash\nexit 1\n", "utf-8")
    python.chmod(0o755)
    env = {"PATH": str(tools), "HOME": str(tmp_path)}
    command = ["bash", str(tmp_path / "scripts" / script)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 5
    for words in ("no C and C++ compiler", "build-essential" if sys.platform != "darwin" else "xcode-select"):
        assert words in done.stderr
    assert f".venv/bin/python -m pip install --only-binary llama-cpp-python '{version.WANTED}'" in done.stderr
    assert "https://abetlen.github.io/llama-cpp-python/whl/cpu" in done.stderr


def test_what_is_told_to_install_is_what_the_project_asks_for() -> None:
    """Guards advice that names this project, which no package index has, and other versions than pyproject.toml's."""
    tomllib = pytest.importorskip("tomllib")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["bench"]
    told = [re.findall(r"pip install '(.+)'", text)[0] for text in (verifier.INSTALL, plots.INSTALL)]
    assert told == wanted
