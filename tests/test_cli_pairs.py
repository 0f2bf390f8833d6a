"""foreal pairs: which pairs have names, how large they are, and what of them is here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import environment, error_line, run
from real.models import Files

from foreal_local.pairs import load_pairs

PAIRS = [sys.executable, "-m", "foreal_local", "pairs"]


@pytest.fixture
def env(chat_pair: Files, tmp_path: Path) -> dict[str, str]:
    """A file of pairs of the user's own, and a cache of the hub that has one model."""
    file = tmp_path / "pairs.toml"
    file.write_text(
        f"[mine]\nleader = '{chat_pair.leader}'\ndraft = '{chat_pair.draft}'\nnote = 'For [me] only.'\n"
        "n = 25\ntemp = 0.2\ndownload_gb = 99\n"
        "[half]\nleader = 'owner/big-GGUF:Q8_0'\ndraft = 'owner/small-GGUF'\n"
        "[gone]\nleader = '/no/such.gguf'\ndraft = 'a.gguf'\ndownload_gb = 3.25\n",
        "utf-8",
    )
    cached = tmp_path / "hub" / "models--owner--big-GGUF" / "snapshots" / "0"
    cached.mkdir(parents=True)
    (cached / "big-Q8_0.gguf").write_bytes(b"0" * 2_000_000)
    return environment(None, tmp_path, FOREAL_PAIRS=str(file), HF_HUB_CACHE=str(tmp_path / "hub"))


def test_the_list_says_what_is_there(env: dict[str, str]) -> None:
    """Guards names that stand in a file that nobody finds, and a download of 20 GB that comes as a surprise."""
    done = run(env=env, command=PAIRS)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines() if not line.startswith(" ")]
    lines = {row[0]: " ".join(row) for row in rows}
    assert set(lines) == {*load_pairs(), "mine", "half", "gone"}
    assert lines["tiny"].endswith("9 MB bundled, used without --pair")
    assert lines["qwen3-8b"].endswith("about 5.7 GB 7.8 GB of memory not here")
    assert lines["mine"].split()[1:] in (["1", "MB", "here"], ["0", "MB", "here"])
    assert lines["half"].endswith("size unknown the leader is here")
    assert lines["gone"].endswith("about 3.25 GB not here")
    assert "    For [me] only." in done.stdout
    assert all(entry.note.split(".")[0][:40] in done.stdout for entry in load_pairs().values())


def test_one_pair(env: dict[str, str], chat_pair: Files) -> None:
    """Guards a pair whose files and settings only its file tells."""
    text = run("mine", env=env, command=PAIRS).stdout
    for words in (str(chat_pair.leader), str(chat_pair.draft), "n         25", "temp      0.2", "For [me] only."):
        assert words in text
    assert f"pair 'mine' in {env['FOREAL_PAIRS']}" in text
    assert "foreal-chat --pair mine" in text
    text = run("half", env=env, command=PAIRS).stdout
    assert "big-Q8_0.gguf (2 MB)" in text
    assert text.count("not here yet") == 1


def test_every_pair_of_the_package_has_a_size_and_a_note() -> None:
    """Guards a pair that is added without what the list shows."""
    for entry in load_pairs().values():
        assert entry.note
        assert (entry.download_gb and entry.memory_gb) or entry.name == "tiny"
        assert (entry.download_gb or 0) <= (entry.memory_gb or 0)


def test_what_was_measured_is_told(env: dict[str, str]) -> None:
    """Guards a pair that is taken for a good one because it has a name."""
    text = " ".join(run(env=env, command=PAIRS).stdout.split())
    assert text.count("Measured: ") == sum(bool(entry.measured) for entry in load_pairs().values())
    assert "Both reason; for 8 GB. Not measured here." in text
    done = run("qwen3-4b", env=env, command=PAIRS)
    assert "qwen3-4b: not here, about 3.1 GB, needs 5.3 GB of memory" in done.stdout
    assert "get it: foreal pull qwen3-4b" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a]\nleader = 'a'\ndraft = 'b'\ndownload_gb = 'big'\n", "download_gb cannot be 'big'"),
        ("[a]\nleader = 'a'\ndraft = 'b'\ndownload_gb = true\n", "download_gb cannot be True"),
        ("[a]\nleader = 'a'\ndraft = 'b'\ndownload = 5\n", "unknown key 'download'"),
        ("[a]\nleader = 'a'\ndraft = 'b'\nmemory_gb = -1\n", "memory_gb cannot be -1"),
        ("[qwen3.5]\nleader = 'a'\ndraft = 'b'\n", 'a name with a dot stands in quotes: ["qwen3.5"]'),
        ("leader = ", "not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_read(text: str, words: str, env: dict[str, str]) -> None:
    """Guards a traceback, and a list that leaves out what it does not understand."""
    Path(env["FOREAL_PAIRS"]).write_text(text, "utf-8")
    done = run(env=env, command=PAIRS)
    assert (done.returncode, words in error_line(done)) == (2, True)


def test_a_name_that_is_none(env: dict[str, str]) -> None:
    """Guards an error without the name that was meant."""
    line = error_line(run("qwen3-8", env=env, command=PAIRS))
    assert "did you mean 'qwen3-8b'?" in line
