"""Model files with something wrong, in every command: one line that says what, and exit code 2."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from commands import ROOT, error_line, run
from real import tiny_gguf
from real.models import Files, TinyModels

import foreal_local
from foreal_local.errors import ModelFileError
from foreal_local.runtime import llama
from foreal_local.runtime.gguf_file import model_file, split_parts
from foreal_local.runtime.llama import trial

COMMANDS = {
    "gen": ("gen", "--prompt", "one", "--max-tokens", "4", "--temp", "0"),
    "chat": ("chat", "--max-tokens", "4", "--temp", "0"),
    "bench": ("bench", "--limit", "1", "--max-tokens", "4", "--modes", "leader"),
    "analyze": ("analyze", "--limit", "1", "--max-tokens", "4"),
}
FOREAL = [sys.executable, "-m", "foreal_local"]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a model in three parts."""
    folder = tmp_path_factory.mktemp("split")

    def new_model(path: Path | str, architecture: str, seed: int, width: int) -> tiny_gguf.RandomModel:
        writer = gguf.GGUFWriter(path, architecture, split_max_tensors=8)
        return tiny_gguf.RandomModel(writer, np.random.default_rng(seed), width)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_gguf, "new_model", new_model)
        tiny_gguf.write_llama(folder / "m.gguf", seed=2, chat_template=tiny_gguf.CHATML)
    return folder


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("m-*.gguf"))


def copied(folder: Path, target: Path) -> list[Path]:
    return [Path(target / part.name) for part in parts(folder) if (target / part.name).write_bytes(part.read_bytes())]


def big_endian(path: Path, whole: bytes) -> Path:
    path.write_bytes(whole[:4] + struct.pack(">I", 3) + whole[8:])
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_is_wrong_with_a_file(
    command: str, split: Path, env: dict[str, str], chat_pair: Files, tmp_path: Path
) -> None:
    """Guards a command that looks at its models by another way than the others: foreal-gen ended in a traceback where
    a part was missing, and chat told only the first of the missing parts."""
    first, second, third = copied(split, tmp_path)
    third.unlink()
    joined = tmp_path / "joined.gguf"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    whole = chat_pair.draft.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: len(whole) // 2])
    expected = {
        first: f"1 of the 3 parts of {first} is missing: {third.name}",
        joined: "llama-gguf-split --merge",
        big_endian(tmp_path / "big.gguf", whole): "big-endian",
        cut: "cut off",
    }
    for file, words in expected.items():
        done = run(*COMMANDS[command], "--leader", file, "--draft", chat_pair.draft, env=env, command=FOREAL)
        assert done.returncode == 2, done.stderr
        assert words in error_line(done)


def changed(
    source: Path, path: Path, architecture: str = "llama", type_: str = "model", drop: str = "-", **own: int
) -> Path:
    """A model file of another purpose: with other words for what it is, more values of its architecture's own, or
    without some of its metadata or tensors."""
    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(path, architecture)
    writer.add_string("general.type", type_)
    for name, number in own.items():
        add = writer.add_bool if isinstance(number, bool) else writer.add_uint32
        add(f"{architecture}.{name.replace('__', '.')}", number)
    for key, value in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture", drop)):
            inner = value.types[-1] if value.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, value.contents(), value.types[0], inner)
    for tensor in reader.tensors if drop != "tensors" else []:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type_": "adapter"}, "is a LoRA adapter and no model"),
        ({"type_": "imatrix"}, "is an importance matrix"),
        ({"type_": "mmproj"}, "reads images (mmproj)"),
        ({"architecture": "clip", "drop": "tokenizer."}, "reads images (mmproj)"),
        ({"architecture": "bert"}, "is a model for embeddings"),
        ({"pooling_type": 3}, "is a model for embeddings"),
        ({"pooling_type": 4}, "is a model that ranks texts"),
        ({"attention__causal": False}, "is a model for embeddings"),
        ({"architecture": "t5"}, "does not write its text from left to right"),
        ({"architecture": "dream"}, "does not write its text from left to right"),
        ({"drop": "tokenizer."}, "has no tokenizer"),
        ({"drop": "tensors"}, "is a vocabulary without a model"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_files_of_other_purposes_are_told(
    change: dict[str, Any], words: str, env: dict[str, str], chat_pair: Files, tmp_path: Path
) -> None:
    """Guards advice for another program's options, the name of a tensor that a user knows nothing of, and answers of a
    model that was made for embeddings: they are no text, and nothing says why."""
    file = changed(chat_pair.draft, tmp_path / "other.gguf", **change)
    done = run(*COMMANDS["gen"], "--leader", file, "--draft", chat_pair.draft, env=env, command=FOREAL)
    assert (done.returncode, words in error_line(done)) == (2, True), done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_pipe_is_no_model(env: dict[str, str], chat_pair: Files, tmp_path: Path) -> None:
    """Guards "no such file" for one that is there."""
    os.mkfifo(tmp_path / "pipe.gguf")
    done = run(*COMMANDS["gen"], "-l", tmp_path / "pipe.gguf", "-d", chat_pair.draft, env=env, command=FOREAL)
    assert (done.returncode, "is a pipe or a device" in error_line(done)) == (2, True), done.stderr


def test_python_programs_get_the_same_errors(split: Path, tmp_path: Path) -> None:
    first, *later = copied(split, tmp_path)
    for part in later:
        part.unlink()
    with pytest.raises(ModelFileError, match="2 of the 3 parts"):
        foreal_local.load(str(first), str(first))
    with pytest.raises(ModelFileError, match="2 of the 3 parts"):
        foreal_local.Engine(foreal_local.Pair(first, first))


def test_any_part_names_the_model(split: Path) -> None:
    """Guards a later part that was named: llama.cpp takes only the first."""
    texts = set()
    for part in parts(split):
        with foreal_local.load(str(part), mode="leader", temp=0, max_tokens=8, ctx_size=128, threads=1) as engine:
            texts.add(engine.generate("one").text)
    assert len(texts) == 1


# ---------------------------------------------------------------- headers that nobody looked through
@pytest.fixture
def half_norm(tmp_path: Path) -> Path:
    """A model with a norm of 16 bits: llama.cpp loads it, and ends the process when it evaluates a token."""
    path = tmp_path / "half.gguf"

    class HalfNorms(tiny_gguf.RandomModel):
        def norm(self, name: str, width: int | None = None, gain: float = 1.0) -> None:
            self.writer.add_tensor(f"{name}.weight", np.full(width or self.width, gain, np.float16))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_gguf, "RandomModel", HalfNorms)
        return tiny_gguf.write_llama(path, seed=1)


def test_a_model_that_llama_cpp_dies_of_is_refused(half_norm: Path) -> None:
    """Guards the process: what is unusual is loaded by another one first."""
    assert not model_file(half_norm).is_usual
    with pytest.raises(ModelFileError, match=r"ended the process that tried it, with: .*unsupported types"):
        llama.Weights(half_norm)


def test_a_trial_that_does_not_end_is_given_up(half_norm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    trial._try.cache_clear()
    with pytest.raises(ModelFileError, match="did not end in 60 s"):
        llama.Weights(half_norm)


def test_what_llama_cpp_refuses_itself_is_told_in_its_words(tmp_path: Path) -> None:
    """Guards a reason that the trial keeps to itself."""
    path = tiny_gguf.write_llama(tmp_path / "m.gguf", seed=1)
    path.write_bytes(path.read_bytes().replace(b"llama.context_length", b"llama.context_lengtx"))
    assert not model_file(path).is_usual
    with pytest.raises(ModelFileError, match=r"key not found in model: llama\.context_length"):
        llama.Weights(path)


@pytest.mark.parametrize("kind", ["llama", "moe", "gemma3", "lfm2", "mamba"])
def test_usual_models_are_not_tried(kind: str, tiny: TinyModels) -> None:
    """Guards the time that a trial takes, for models of every day."""
    assert model_file(tiny.model(kind)).is_usual


@pytest.mark.parametrize("name", ["tiny-leader", "tiny-draft"])
def test_the_bundled_models_are_usual(name: str) -> None:
    path = ROOT / "models" / f"{name}.gguf"
    assert model_file(path).is_usual
    assert split_parts(path) == [path]


def test_a_file_that_changes_while_it_is_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards weights that are not those whose header was looked at: a download still writes the file."""
    path = tiny_gguf.write_llama(tmp_path / "m.gguf", seed=1)
    load = llama.weights.llama_cpp.llama_model_load_from_file

    def load_while_written(*arguments: object) -> object:
        model = load(*arguments)
        with open(path, "ab") as file:
            file.write(bytes(64))
        return model

    monkeypatch.setattr(llama.weights.llama_cpp, "llama_model_load_from_file", load_while_written)
    with pytest.raises(ModelFileError, match="changed while it was loaded"):
        llama.Weights(path)


@pytest.mark.parametrize("layers", [2, 16, 22])
def test_a_small_model_is_not_called_1b(layers: int, tmp_path: Path) -> None:
    """Guards a model of a few parameters that is named by its number of layers, as llama.cpp does: half a billion
    were "1B"."""
    path = tiny_gguf.write_llama(tmp_path / "m.gguf", seed=1, n_layers=layers)
    weights = llama.Weights(path)
    try:
        n = sum(tensor.n_elements for tensor in model_file(path).tensors.values())
        assert weights.describe() == f"llama {n / 1e6:.1f} M all F32"
    finally:
        weights.close()
