"""foreal pull: downloads as users make, stop and lose them, from a stand-in hub, with the hub's real library.

All versions of huggingface-hub that pyproject.toml allows must pass: scripts/hub_versions runs these with each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT, Done, environment, run
from hub_server import HubServer

PULL = [sys.executable, "-m", "foreal_local", "pull"]
CLOSED = "http://127.0.0.1:9"  # nothing listens here
MB = 2**20
BIG = bytes(range(256)) * (24 * 4096)  # 24 MiB: the library reads 10 MiB at a time
REPOS = {
    "org/Big-GGUF": {"Big-Q8_0.gguf": BIG},
    "org/Model-GGUF": {"Model-Q4_K_M.gguf": b"medium", "Model-Q8_0.gguf": b"eight"},
    "org/Split-GGUF": {f"Q8_0/Split-Q8_0-0000{i}-of-00003.gguf": b"part %d" % i for i in (1, 2, 3)},
    "org/Weights": {"model.safetensors": b"weights"},
    "org/Gated-GGUF": {"Gated-Q4_K_M.gguf": b"secret"},
}


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer({repo: dict(files) for repo, files in REPOS.items()}, gated={"org/Gated-GGUF": "hf_right"}) as hub:
        yield hub
        hub.go_on.set()


@pytest.fixture
def env(server: HubServer, tmp_path: Path) -> dict[str, str]:
    pairs = tmp_path / "pairs.toml"
    pairs.write_text(
        "[both]\nleader = 'org/Model-GGUF:Q4_K_M'\ndraft = 'org/Model-GGUF:Q8_0'\n"
        "[big]\nleader = 'org/Big-GGUF'\ndraft = 'org/Model-GGUF'\n",
        "utf-8",
    )
    return environment(None, tmp_path, FOREAL_PAIRS=str(pairs), **hub_variables(server.url, tmp_path / "hf"))


def hub_variables(url: str, home: Path) -> dict[str, str]:
    return {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }


def pull(env: dict[str, str], *names: str) -> Done:
    return run(*names, env=env, command=PULL)


def part_of(env: dict[str, str]) -> Path:
    """The one file that is not whole."""
    (part,) = Path(env["HF_HOME"], "hub").glob("models--*/blobs/*.part")
    return part


def begin(env: dict[str, str], *names: str, n_bytes: int = 10 * MB) -> subprocess.Popen[bytes]:
    """A download of which so much has come, and which goes on."""
    process = subprocess.Popen(
        [*PULL, *names], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    end = time.monotonic() + 60
    while time.monotonic() < end:
        parts = list(Path(env["HF_HOME"], "hub").glob("models--*/blobs/*.part"))
        if parts and parts[0].stat().st_size >= n_bytes:
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing came")


# ---------------------------------------------------------------- what comes
def test_a_pair_comes_and_is_not_fetched_again(server: HubServer, env: dict[str, str]) -> None:
    """Guards a download whose size comes as a surprise, and one that is made twice."""
    done = pull(env, "both")
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in paths] == ["Model-Q4_K_M.gguf", "Model-Q8_0.gguf"]
    assert [path.read_bytes() for path in paths] == [b"medium", b"eight"]
    assert "to download: 0 MB; free: " in done.stderr
    assert len(server.bodies()) == 2
    again = pull(env, "both", "org/Model-GGUF:Q8_0")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert again.stderr.count("here already") == 2
    assert len(server.bodies()) == 2


def test_what_was_pulled_is_used_offline(server: HubServer, env: dict[str, str]) -> None:
    """Guards a cache that pull and the commands see differently, and split models."""
    done = pull(env, "org/Split-GGUF:Q8_0", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    folder = Path(done.stdout.strip()).parent
    assert sorted(path.read_bytes() for path in folder.iterdir()) == [b"part 1", b"part 2", b"part 3"]
    code = "from foreal_local.hub import resolve_model as r; print(r('org/Split-GGUF', offline=True))"
    found = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == done.stdout


def test_without_symbolic_links_there_is_one_copy(server: HubServer, env: dict[str, str]) -> None:
    """Guards twice the space on Windows, where links may need a permission."""
    done = pull(env | {"HF_HUB_DISABLE_SYMLINKS": "1"}, "org/Big-GGUF")
    assert done.returncode == 0, done.stderr
    files = [path for path in Path(env["HF_HOME"]).rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path.stat().st_size for path in files if path.stat().st_size > MB] == [len(BIG)]
    assert Path(done.stdout.strip()).read_bytes() == BIG


# ---------------------------------------------------------------- how it ends before it is done
@pytest.mark.parametrize("times", [1, 2])
def test_kill_9_loses_nothing(server: HubServer, env: dict[str, str], times: int) -> None:
    """Guards a download of hours that begins again: from 1.18 on the hub's library keeps no part of a file."""
    server.hold_at = 10 * MB + 1000
    for i in range(times):
        begin(env, "big", n_bytes=10 * MB * (i + 1)).kill()
        server.go_on.set()
        time.sleep(0.2)
        server.go_on.clear()
    kept = part_of(env).stat().st_size
    assert kept == times * 10 * MB
    server.hold_at = None
    server.log.clear()
    done = pull(env, "big")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).read_bytes() == BIG
    assert [request.range for request in server.bodies()] == [f"bytes={kept}-", None]
    assert "MB of it here" in done.stderr
    assert "going on with Big-Q8_0.gguf" in done.stderr
    assert not list(Path(env["HF_HOME"]).rglob("*.part"))


def test_ctrl_c_says_how_to_go_on(server: HubServer, env: dict[str, str]) -> None:
    """Guards a traceback, and a download that is given up because nobody says that it is kept."""
    server.hold_at = 10 * MB + 1000
    process = begin(env, "org/Big-GGUF")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert b"MB of 25 MB of org/Big-GGUF are kept for the next call; to go on: foreal pull org/Big-GGUF" in err
    assert b"Traceback" not in err
    assert part_of(env).stat().st_size >= 10 * MB


def test_a_part_that_is_wrong_is_fetched_again(server: HubServer, env: dict[str, str]) -> None:
    """Guards a file whose end was written before a power cut, but not its middle."""
    server.hold_at = 10 * MB + 1000
    begin(env, "org/Big-GGUF").kill()
    server.hold_at = None
    with open(part_of(env), "r+b") as part:
        part.seek(MB)
        part.write(bytes(4096))
    done = pull(env, "org/Big-GGUF")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == BIG
    assert "was not right: it is fetched again" in done.stderr


def test_two_at_once_download_it_once(server: HubServer, env: dict[str, str]) -> None:
    """Guards two processes that write one file."""
    server.hold_at = 10 * MB + 1000
    first = begin(env, "org/Big-GGUF")
    second = subprocess.Popen(
        [*PULL, "org/Big-GGUF"], env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert second.stderr
    while b"waiting for another process" not in (line := second.stderr.readline()):
        assert line, "the second one did not wait"
    server.go_on.set()
    outs = {process.communicate(timeout=60)[0] for process in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(outs) == 1
    assert Path(outs.pop().decode().strip()).read_bytes() == BIG
    assert len(server.bodies()) == 1


# ---------------------------------------------------------------- what is wrong
@pytest.mark.parametrize(
    ("arguments", "more", "code", "words"),
    [
        (["org/None-GGUF"], {}, 2, "no repository org/None-GGUF on the hub (a private one needs HF_TOKEN)"),
        (["org/Model-GGUF:Q5_K_M"], {}, 2, "has no Q5_K_M file; it has: Q4_K_M, Q8_0"),
        (["org/Model-GGUF/None.gguf"], {}, 2, "has no file 'None.gguf'"),
        (["org/Model-GGUF@v9"], {}, 2, "has no revision 'v9': leave it out"),
        (["org/Weights"], {}, 2, "has no .gguf file (look for a repository with GGUF in its name)"),
        (["org/Gated-GGUF"], {}, 1, "is gated: accept its licence at"),
        (["org/Gated-GGUF"], {"HF_TOKEN": "hf_wrong"}, 1, "is gated: accept its licence at"),
        (["bot"], {}, 2, "no pair named 'bot'; did you mean 'both'?"),
        (["none.gguf"], {}, 2, "no file here and no name on the hub: give the path of a .gguf file, or a hub name"),
        (["https://example.com/x/y"], {}, 2, "is a link to example.com, which is not the hub"),
        (["https://huggingface.co/datasets/org/data"], {}, 2, "is a data set, not a model"),
        (["both", "--offline"], {}, 2, "--offline, and a download needs a connection: leave it out"),
        (["both"], {"FOREAL_OFFLINE": "1"}, 2, "FOREAL_OFFLINE"),
        (["both"], {"HF_HUB_OFFLINE": "1"}, 2, "HF_HUB_OFFLINE is set, and a download needs a connection: unset it"),
        (["both"], {"HF_ENDPOINT": CLOSED}, 1, "check the connection and run it again"),
        (["both"], {"HF_HOME": "/proc/hf"}, 1, "HF_HOME"),
        (["models"], {}, 2, "'models' is a directory: name a model, owner/repo[:quant], or a pair"),
        ([""], {}, 2, "'' is no file here and no name on the hub"),
        ([], {}, 2, "Missing argument 'NAME...'"),
        (["both", "--quite"], {}, 2, "Did you mean '--quiet'?"),
    ],
)
def test_what_is_wrong_says_what_to_do(
    arguments: list[str], more: dict[str, str], code: int, words: str, env: dict[str, str]
) -> None:
    """Guards a traceback, and an error that leaves its reader where they were."""
    done = pull(env | more, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert sum(line.startswith("Error: ") for line in done.stderr.splitlines()) == 1


def test_a_typing_error_stops_before_anything_is_fetched(server: HubServer, env: dict[str, str]) -> None:
    """Guards a night's downloads of which the second name is wrong."""
    assert pull(env, "big", "org/None-GGUF").returncode == 2
    assert server.bodies() == []


def test_another_content_is_no_model(server: HubServer, env: dict[str, str]) -> None:
    """Guards a proxy's error page, or a mirror's other file, that is taken for the model; the others still come."""
    server.wrong_bytes = True
    done = pull(env, "org/Model-GGUF:Q8_0", "org/Model-GGUF")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("came with the hash ") == 2
    assert "what came was removed; run it again" in done.stderr
    assert not list(Path(env["HF_HOME"]).rglob("*.part"))
    server.wrong_bytes = False
    assert pull(env, "org/Model-GGUF:Q8_0").returncode == 0


def test_a_name_that_leads_elsewhere_is_refused(server: HubServer, env: dict[str, str]) -> None:
    """Guards files outside of the cache, which a mirror's answer could name."""
    server.repos["org/Bad-GGUF"] = {"../../../Bad-Q8_0.gguf": b"bad"}
    done = pull(env | {"HF_HUB_DISABLE_SYMLINKS": "1"}, "org/Bad-GGUF")
    assert (done.returncode, done.stdout) == (2, "")
    assert not list(Path(env["HF_HOME"]).rglob("Bad*"))


def test_a_hub_that_is_gone_is_not_needed_for_what_is_here(server: HubServer, env: dict[str, str]) -> None:
    """Guards a failure where nothing is missing."""
    first = pull(env, "both")
    done = pull(env | {"HF_ENDPOINT": CLOSED}, "both")
    assert (done.returncode, done.stdout) == (0, first.stdout)
    assert "whether the hub has a newer one is not known" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 130 MB, of which a download leaves 100 free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=130m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root on Linux")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_no_room(server: HubServer, env: dict[str, str], small_disk: Path) -> None:
    """Guards a disk that is filled before anybody says that it is too small."""
    (small_disk / "other").write_bytes(bytes(20 * MB))
    done = pull(env | {"HF_HOME": str(small_disk)}, "big")
    assert (done.returncode, done.stdout) == (1, "")
    assert "not enough room for org/Big-GGUF, org/Model-GGUF: 25 MB to download, 115 MB free in" in done.stderr
    assert "free some space, or set HF_HOME" in done.stderr
    assert server.bodies() == []


def test_a_disk_that_fills_up(server: HubServer, env: dict[str, str], small_disk: Path) -> None:
    """Guards a traceback, and a part that is lost, where another program takes the room meanwhile."""
    env |= {"HF_HOME": str(small_disk)}
    server.hold_at = 10 * MB + 1000
    process = begin(env, "org/Big-GGUF")
    (small_disk / "other").write_bytes(bytes(118 * MB))
    server.go_on.set()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"disk full: 'org/Big-GGUF' does not fit into" in err
    assert b"of org/Big-GGUF are kept for the next call" in err
    (small_disk / "other").unlink()
    server.hold_at = None
    done = pull(env, "org/Big-GGUF")
    assert Path(done.stdout.strip()).read_bytes() == BIG
