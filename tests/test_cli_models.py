"""foreal models: what is here, what it is, and which drafts fit a leader; on tiny files, whole and broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import pytest
from commands import Done, environment, error_line, run
from real.models import TinyModels

from foreal_local.catalog.families import load_families, model_on_hub
from foreal_local.catalog.inventory import local_model
from foreal_local.errors import VocabularyError
from foreal_local.hub_names import parse_hub_name
from foreal_local.pairs import load_pairs
from foreal_local.runtime.gguf_vocabulary import read_vocabulary, why_different
from foreal_local.runtime.llama.weights import Weights
from foreal_local.runtime.pair_tokens import different_tokens

MODELS = [sys.executable, "-m", "foreal_local", "models"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "none.toml").write_text("", "utf-8")
    cache = tmp_path / "hf" / "hub"
    return environment(None, tmp_path, FOREAL_PAIRS=str(tmp_path / "none.toml"), HF_HUB_CACHE=str(cache))


@pytest.fixture
def folder(tiny: TinyModels, tmp_path: Path) -> Path:
    """Two models with one vocabulary, one with another."""
    where = tmp_path / "models"
    (where / "owner" / "repo").mkdir(parents=True)
    shutil.copy(tiny.model("llama", "plain"), where / "big-Q8_0.gguf")
    shutil.copy(tiny.model("moe", "plain"), where / "owner" / "repo" / "small.gguf")
    shutil.copy(tiny.model("llama", "other"), where / "stranger.gguf")
    return where


def models(env: dict[str, str], *arguments: str | Path) -> Done:
    return run(*arguments, env=env, command=MODELS)


def listed(env: dict[str, str], *arguments: str | Path) -> dict[str, Any]:
    done = models(env, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def in_cache(env: dict[str, str], repo: str, file: str, content: Path) -> None:
    """A file of a repository as the hub's library keeps it."""
    home = Path(env["HF_HUB_CACHE"]) / f"models--{repo.replace('/', '--')}"
    link = home / "snapshots" / "0" / file
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True)
    shutil.copy(content, home / "blobs" / "abc")
    link.symlink_to(os.path.relpath(home / "blobs" / "abc", link.parent))


# ---------------------------------------------------------------- what is here
def test_what_is_here(env: dict[str, str], folder: Path, tiny: TinyModels) -> None:
    """Guards a list that does not say what could answer with what."""
    in_cache(env, "org/Tiny-GGUF", "Tiny-Q4_0.gguf", tiny.model("llama", "other"))
    done = models(env, "--dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("tiny-leader.gguf", "big-Q8_0.gguf", "owner/repo/small.gguf", "org/Tiny-GGUF/Tiny-Q4_0.gguf", "Q8_0"):
        assert words in done.stdout
    assert (
        "tiny-leader.gguf could lead tiny-draft.gguf (both think, 1/4.4 of the leader's size: saves less)"
        in done.stdout
    )
    assert f"Pairs that are here: tiny; {len(load_pairs()) - 1} others: foreal pairs lists them" in done.stdout


def test_as_json(env: dict[str, str], folder: Path) -> None:
    """Guards programs that must read a table; models that share a vocabulary have its name in common."""
    found = listed(env, "--dir", folder)
    by_name = {Path(model["path"]).name: model for model in found["models"]}
    assert set(by_name) == {"tiny-leader.gguf", "tiny-draft.gguf", "big-Q8_0.gguf", "small.gguf", "stranger.gguf"}
    big, small, stranger = (by_name[name] for name in ("big-Q8_0.gguf", "small.gguf", "stranger.gguf"))
    assert big["vocabulary"] == small["vocabulary"] != stranger["vocabulary"]
    assert small["n_active"] < small["n_parameters"]
    assert by_name["tiny-leader.gguf"]["n_parameters"] == 3_644_736
    assert by_name["tiny-leader.gguf"]["kind"] == "thinking"
    assert by_name["tiny-leader.gguf"]["quantisation"] == "F16"
    assert {pair["name"] for pair in found["pairs"]} == set(load_pairs())
    assert found["unusable"] == found["unfinished"] == []


def test_each_file_once(env: dict[str, str], folder: Path, tiny: TinyModels) -> None:
    """Guards a model that is listed for each revision of its repository, each link and each --dir."""
    in_cache(env, "org/Tiny-GGUF", "Tiny-Q4_0.gguf", tiny.model("llama", "other"))
    cache = Path(env["HF_HUB_CACHE"])
    shutil.copytree(
        cache / "models--org--Tiny-GGUF/snapshots/0", cache / "models--org--Tiny-GGUF/snapshots/1", symlinks=True
    )
    (folder / "link.gguf").symlink_to(folder / "stranger.gguf")
    found = listed(env, "--dir", folder, "--dir", folder / "owner")
    assert len(found["models"]) == 2 + 1 + 3


def test_folders_by_a_variable(env: dict[str, str], folder: Path) -> None:
    """Guards an option that has to be repeated with each call."""
    assert "stranger.gguf" in models(env | {"FOREAL_MODELS": str(folder)}).stdout


def test_an_unfinished_download_is_told(env: dict[str, str]) -> None:
    """Guards gigabytes that nobody knows of."""
    blobs = Path(env["HF_HUB_CACHE"]) / "models--org--Big-GGUF" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc.part").write_bytes(bytes(2_000_000))
    assert "Not finished: 2 MB of a file of org/Big-GGUF; foreal pull org/Big-GGUF:QUANT goes on" in models(env).stdout


def test_ten_gigabytes_take_no_longer(env: dict[str, str], folder: Path) -> None:
    """Guards a list that reads weights."""
    os.truncate(folder / "big-Q8_0.gguf", 10 * 10**9)  # a file with a hole
    begin = time.monotonic()
    done = models(env, "--dir", folder)
    assert "10.0 GB" in done.stdout
    assert time.monotonic() - begin < 20


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def _torn(path: Path) -> None:
    os.truncate(path, 2000)


def _of_parts(path: Path) -> None:
    path.rename(path.with_name("big-00001-of-00003.gguf"))


def _later_part(path: Path) -> None:
    path.rename(path.with_name("big-00002-of-00003.gguf"))


def _no_vocabulary(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b""), "is empty: not a GGUF file; download or copy it again"),
        (lambda path: path.write_bytes(b"<html>"), "but a web page: download the file itself"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "get it with `git lfs pull`"),
        (_cut, "is cut off: it has"),
        (_torn, "is torn: its header does not fit into its 2000 bytes; download or copy it again"),
        (_of_parts, "2 of the 3 parts of"),
        (_later_part, "2 of the 3 parts of"),
        (_no_vocabulary, "big-Q8_0.gguf"),
        (_dangling, "no such model file"),
    ],
)
def test_what_cannot_be_used_is_told(damage: Any, words: str, env: dict[str, str], folder: Path) -> None:
    """Guards one broken file that ends the list of all others, and one that is left out without a word."""
    damage(folder / "big-Q8_0.gguf")
    done = models(env, "--dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("Not usable: "))
    assert words in line
    assert "stranger.gguf" in done.stdout


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(env: dict[str, str], folder: Path) -> None:
    """Guards a traceback where a folder belongs to somebody else."""
    (folder / "owner").chmod(0)
    (folder / "stranger.gguf").chmod(0)
    done = models(env, "--dir", folder)
    (folder / "owner").chmod(0o755)
    assert done.stdout.count("Not usable: ") == 2


# ---------------------------------------------------------------- which drafts fit
def test_drafts_of_files(env: dict[str, str], folder: Path, tiny: TinyModels) -> None:
    """Guards a pair that is refused only after both were downloaded; what fits is what the engine takes."""
    leader = tiny.model("llama", "plain", seed=9)
    found = listed(env, "fit", leader, "--dir", folder)
    others = {Path(each["path"]).name: each["why"] for each in found["others"] if each["path"]}
    drafts = [Path(each["path"]).name for each in found["drafts"] if each["path"]]
    assert set(others) | set(drafts) >= {"small.gguf", "big-Q8_0.gguf", "stranger.gguf", "tiny-draft.gguf"}
    assert "do not share their words: token " in others["stranger.gguf"]
    assert others["big-Q8_0.gguf"] == "it is no smaller than the leader"


@pytest.mark.parametrize("name", ["tiny", "tiny-leader.gguf"])
def test_the_bundled_pair_fits(name: str, env: dict[str, str]) -> None:
    """Guards a pair of the package that its own rule refuses, and a name in the list that means nothing."""
    done = models(env, "fit", name)
    assert done.returncode == 0
    assert "tiny-draft.gguf" in done.stdout.partition("Drafts that share its vocabulary")[2].partition("Try:")[0]
    assert "Try:      foreal-chat --pair tiny" in done.stdout


@pytest.mark.parametrize(
    ("leader", "best", "words"),
    [
        ("qwen3-8b", "Qwen/Qwen3-0.6B-GGUF:Q8_0", "both think, of one family, 1/14 of the leader's size"),
        ("Qwen/Qwen3-14B-GGUF", "Qwen/Qwen3-1.7B-GGUF:Q8_0", "1/9 of the leader's size"),
        ("https://huggingface.co/Qwen/Qwen3-14B-GGUF", "Qwen/Qwen3-1.7B-GGUF:Q8_0", "both think"),
        ("unsloth/Qwen3-8B-GGUF", "Qwen/Qwen3-0.6B-GGUF:Q8_0", "both think"),
        ("gemma3", "bartowski/google_gemma-3-4b-it-GGUF:Q4_K_M", "both answer at once"),
        ("Llama 3", "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M", "1/9 of the leader's size"),
        ("r1-32b", "bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF:Q8_0", "both think"),
    ],
)
def test_drafts_of_families(leader: str, best: str, words: str, env: dict[str, str]) -> None:
    """Guards a leader that has to be here before anything is said of it."""
    found = listed_with_note(env, "fit", leader)
    assert found["drafts"][0]["name"] == best
    assert words in found["drafts"][0]["why"]
    parts = [draft["part"] for draft in found["drafts"]]
    assert all(0 < part <= 0.4 for part in parts)


def listed_with_note(env: dict[str, str], *arguments: str) -> dict[str, Any]:
    """As `listed`, where a word on standard error may say which model of a family is meant."""
    done = models(env, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_kinds_alike_come_first(env: dict[str, str]) -> None:
    """Guards a draft that does not reason before one that does."""
    names = [draft["name"] for draft in listed(env, "fit", "qwen3-8b")["drafts"]]
    instruct = [i for i, name in enumerate(names) if "Instruct" in name]
    assert instruct
    assert min(instruct) > max(i for i in range(len(names)) if i not in instruct)


def test_a_mixture_of_experts_is_no_cheap_draft(env: dict[str, str]) -> None:
    """Guards a draft that is quick, but needs as much memory as its leader."""
    found = listed(env, "fit", "r1-32b")
    (why,) = (each["why"] for each in found["others"] if each["name"] == "Qwen/Qwen3-30B-A3B-GGUF:Q4_K_M")
    assert why == "1/10 of the leader's size, but with all its experts it needs 18.6 GB of memory"


def test_no_draft_is_told(env: dict[str, str]) -> None:
    """Guards two sizes of a family that are taken for a pair because they share their vocabulary."""
    done = models(env, "fit", "gpt-oss")
    assert "No draft of 1/2.5 of its size or less shares its vocabulary" in done.stdout
    assert "Not ggml-org/gpt-oss-20b-GGUF:MXFP4: 1/1.4 of the leader's size: it costs too much" in done.stdout
    assert "foreal-gen --mode leader --leader ggml-org/gpt-oss-120b-GGUF" in done.stdout
    assert "--leader ggml-org/gpt-oss-120b-GGUF:MXFP4 --draft Qwen/Qwen3-0.6B-GGUF:Q8_0" in done.stdout


def test_drafts_with_another_vocabulary_are_told(env: dict[str, str], folder: Path) -> None:
    """Guards pairs that answer, and are listed among those that do not fit."""
    done = models(env, "fit", "tiny", "--dir", folder)
    told = done.stdout.partition("Drafts with another vocabulary work too, but cost more: ")[2]
    assert "both models read more" in told
    found = listed(env, "fit", "tiny", "--dir", folder)
    strangers = {Path(each["path"]).name: each for each in found["with_another_vocabulary"] if each["path"]}
    assert set(strangers) == {"big-Q8_0.gguf", "small.gguf", "stranger.gguf"}
    for name, each in strangers.items():
        assert f"{name}: " in told
        assert "do not share their words: token " in each["why"]
        assert each["part"] <= 0.4
    assert "Not " not in told


def test_sizes_of_what_is_not_here_are_about(env: dict[str, str]) -> None:
    """Guards a size of a table that is told as the file's own."""
    done = models(env, "fit", "qwen3-8b")
    assert "8.2 billion parameters, about 5.0 GB" in done.stdout
    assert re.search(r"Qwen/Qwen3-0.6B-GGUF:Q8_0 +about 640 MB +not here", done.stdout)
    assert re.search(r"tiny-draft.gguf +2 MB +here", models(env, "fit", "tiny").stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit"], "write foreal models, or foreal models fit LEADER"),
        (["list"], "'list' is neither"),
        (["fit", "a", "b"], "foreal models fit LEADER"),
        (["fit", "qwen3-8bb"], "Did you mean 'qwen3-8b'?"),
        (["fit", "nonsense"], "is no file, pair or family. Families: qwen3, "),
        (["fit", "none.gguf"], "no such model file: none.gguf"),
        (["fit", "org/None-GGUF"], "is not here, and not in the table of families: foreal pull org/None-GGUF gets it"),
        (["fit", "models"], "is a directory: name a file in it"),
        (["fit", ""], "LEADER is empty"),
        (["fit", "/dev/null"], "is a pipe or a device"),
        (["fit", "README.md"], "is not a GGUF file"),
        (["--dir", "/no/such"], "'/no/such' does not exist"),
        (["--dir", "README.md"], "is a file"),
        (["--jason"], "Did you mean '--json'?"),
    ],
)
def test_what_is_wrong_says_what_to_do(arguments: list[str], words: str, env: dict[str, str]) -> None:
    """Guards a traceback, and an error that leaves its reader where they were."""
    done = models(env, *arguments)
    assert done.returncode == 2
    assert words in error_line(done)


# ---------------------------------------------------------------- the table, and the rule
def test_the_table_of_families_is_right() -> None:
    """Guards a name that cannot be pulled, a pair of the package that the table refuses, and models out of order."""
    for family in load_families().values():
        assert [each.billions for each in family.models] == sorted(each.billions for each in family.models)
        for model in family.models:
            assert parse_hub_name(model.hub)
            assert model_on_hub(model.hub) is model
            assert 0 < model.active <= model.billions
            assert 0.4 < model.gb / model.billions < 1.2
            assert model.kind in ("thinking", "instruct")
    for pair in load_pairs().values():
        leader, draft = model_on_hub(pair.leader), model_on_hub(pair.draft)
        if leader and draft:
            assert leader.vocabulary is draft.vocabulary, pair.name
            assert pair.download_gb == pytest.approx(leader.gb + draft.gb, abs=0.15), pair.name


@pytest.mark.parametrize("other", ["plain", "qwen_like", "r1_like", "other", "short"])
@pytest.mark.parametrize("one", ["plain", "qwen_like", "r1_like"])
def test_a_file_says_what_the_loaded_model_says(one: str, other: str, tiny: TinyModels) -> None:
    """Guards a rule for files that is another than the engine's."""
    paths = [tiny.model("llama", one), tiny.model("llama", other, seed=4)]
    from_files = why_different(*map(read_vocabulary, paths))
    weights = [Weights(path) for path in paths]
    try:
        different_tokens(weights[0].vocabulary, weights[1].vocabulary)
        loaded = ""
    except VocabularyError as error:
        loaded = str(error)
    finally:
        for each in weights:
            each.close()
    assert bool(from_files) == bool(loaded)
    assert loaded.startswith(from_files)


@pytest.mark.parametrize("kind", ["llama", "moe", "gemma3", "lfm2", "mamba"])
def test_every_architecture_is_read(kind: str, tiny: TinyModels) -> None:
    """Guards a kind of model whose header lacks what others have."""
    model = local_model(tiny.model(kind))
    assert 0 < model.n_active <= model.n_parameters
    assert model.vocabulary.n_tokens > 100
