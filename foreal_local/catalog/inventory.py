"""Which models are on this computer: the hub's cache, the bundled pair, and other folders; and what each of them is.

Reads headers only, and loads no model. Does not know which of them fit together (matching.py).
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ForealError
from ..hub_names import all_parts, is_model_file, quant_of
from ..method.reasoning import TAGS
from ..runtime.gguf_file import ModelFile, model_file
from ..runtime.gguf_vocabulary import FileVocabulary, read_vocabulary, why_different

_SUFFIX = ".gguf"
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"}
_FILE_TYPES |= {12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K"}
_FILE_TYPES |= {19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL"}
_FILE_TYPES |= {26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16"}
_FILE_TYPES |= {36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4"}
"""llama.cpp's numbers of what most of a file's weights are stored as."""
_TENSOR_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K"}
_TENSOR_TYPES |= {12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16", 39: "MXFP4"}
"""GGML's numbers of the types of tensors."""


@dataclass(frozen=True)
class LocalModel:
    """A model on this computer.

    path: its file, the first part of a split one
    name: for --leader and --draft: its name on the hub, or its path
    file: what its header says
    """

    path: Path
    name: str
    file: ModelFile

    @property
    def n_bytes(self) -> int:
        return self.file.n_bytes

    @property
    def architecture(self) -> str:
        return self.file.first.architecture

    @property
    def title(self) -> str:
        """What its header calls it."""
        return str(self.file.first.metadata.get("general.name") or self.path.stem)

    @functools.cached_property
    def n_parameters(self) -> int:
        return sum(tensor.n_elements for tensor in self.file.tensors.values())

    @functools.cached_property
    def n_active(self) -> int:
        """Parameters that a token needs: of a mixture of experts, those of the experts that it goes to."""
        n_experts = self.file.first.whole("expert_count")
        used = max(self.file.first.per_layer("expert_used_count", n_experts), default=0) / n_experts if n_experts else 1
        return round(sum(t.n_elements * (used if "_exps" in name else 1) for name, t in self.file.tensors.items()))

    @property
    def quantisation(self) -> str:
        kind = self.file.first.metadata.get("general.file_type")
        known = _FILE_TYPES.get(kind) if isinstance(kind, int) else None
        return quant_of(self.path.name) or known or self._commonest_type()

    def _commonest_type(self) -> str:
        """What most weights are stored as, where neither the name nor the header says it."""
        counts: Counter[int] = Counter()
        for tensor in self.file.tensors.values():
            counts[tensor.kind] += tensor.n_elements
        return _TENSOR_TYPES.get(counts.most_common(1)[0][0], "unknown")

    @property
    def kind(self) -> str:
        """How it answers: "thinking", "instruct", or "base" where it has no chat template."""
        template = self.file.first.metadata.get("tokenizer.chat_template")
        if not isinstance(template, str) or not template.strip():
            return "base"
        named = any(tags.opening in template or tags.closing in template for tags in TAGS)
        return "thinking" if named or "<|channel|>" in template else "instruct"

    @functools.cached_property
    def vocabulary(self) -> FileVocabulary:
        return read_vocabulary(self.path)


@dataclass(frozen=True)
class Unusable:
    """A file or folder that is no usable model. reason: in one line, with what to do."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A download that was stopped: so many bytes of a repository's file are here."""

    repo: str
    n_bytes: int


@dataclass(frozen=True)
class Inventory:
    """What was found: usable models, what cannot be used, and downloads that are not finished."""

    models: list[LocalModel]
    unusable: list[Unusable]
    unfinished: list[Unfinished]


def look_around(cache: Path, folders: Iterable[Path]) -> Inventory:
    """All models in the hub's cache and in the folders with all that is in them; each file once."""
    found = Inventory([], [], [])
    seen: set[Path] = set()
    for path, name in [*_in_cache(cache), *_in_folders(folders, found)]:
        real = Path(os.path.realpath(path))
        if real in seen:
            continue
        seen.add(real)
        try:
            found.models.append(local_model(path, name))
        except ForealError as error:
            found.unusable.append(Unusable(path, str(error)))
    found.unfinished.extend(_unfinished(cache))
    return found


def local_model(path: Path, name: str | None = None) -> LocalModel:
    """What a file is; ModelFileError where it is no usable model."""
    model = LocalModel(path, name or str(path), model_file(path))
    _ = model.n_active, model.vocabulary  # what cannot be read is told now
    return model


def _in_cache(cache: Path) -> Iterator[tuple[Path, str]]:
    """Files of all repositories in the hub's cache, the newest revision of each first, with their names on the hub."""
    for home in sorted(cache.glob("models--*--*")):
        repo = "/".join(home.name.split("--")[1:])
        snapshots = [each for each in _listed(home / "snapshots") if each.is_dir()]
        for snapshot in sorted(snapshots, key=_time_of, reverse=True):
            for file in _firsts(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*")):
                yield snapshot / file, f"{repo}/{file}"


def _in_folders(folders: Iterable[Path], found: Inventory) -> Iterator[tuple[Path, str]]:
    for folder in folders:
        errors: list[OSError] = []
        for where, _, names in sorted(os.walk(folder, onerror=errors.append)):
            for name in _firsts(names):
                path = Path(where, name)
                yield path, str(path)
        for error in errors:
            place = Path(error.filename or folder)
            found.unusable.append(Unusable(place, f"{place}: cannot be read ({error.strerror})"))


def _firsts(names: Iterable[str]) -> list[str]:
    """Of all names those of models; of a split one its first part, or the first that is there."""
    models: dict[str, str] = {}
    for name in sorted(names):
        if name.lower().endswith(_SUFFIX) and is_model_file(name):
            models.setdefault(all_parts(name)[0], name)
    return list(models.values())


def _unfinished(cache: Path) -> Iterator[Unfinished]:
    for part in sorted(cache.glob("models--*--*/blobs/*.part")):
        yield Unfinished("/".join(part.parts[-3].split("--")[1:]), part.stat().st_size)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def groups(models: Iterable[LocalModel]) -> list[list[LocalModel]]:
    """The models by vocabulary: those of a group share theirs with its first."""
    found: list[list[LocalModel]] = []
    for model in models:
        group = next((each for each in found if not why_different(each[0].vocabulary, model.vocabulary)), None)
        if group is None:
            found.append([model])
        else:
            group.append(model)
    return found
