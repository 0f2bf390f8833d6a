"""Families of models in use: what shares a vocabulary, with names on the hub (models/families.toml).

Knows the table only. Does not look at files, and asks the hub nothing.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass

from ..hub import bundled_dir
from ..hub_names import parse_hub_name

_PADDING = 128  # tokens by which two models of one vocabulary may differ; runtime/pair_tokens.py allows the same


@dataclass(frozen=True)
class TableVocabulary:
    """A vocabulary of the table. splits: what files with it call how they split text; n_tokens: about."""

    name: str
    splits: tuple[str, ...]
    n_tokens: int

    def is_of(self, split: str, n_tokens: int) -> bool:
        """Whether a file's vocabulary is probably this one, by what its header calls it."""
        return split in self.splits and abs(n_tokens - self.n_tokens) <= _PADDING


@dataclass(frozen=True)
class FamilyModel:
    """A model of the table.

    hub: its name there
    family: the title of its family
    billions, active: parameters, and those that a token needs
    gb: gigabytes of its file
    """

    hub: str
    family: str
    kind: str
    vocabulary: TableVocabulary
    billions: float
    active: float
    gb: float


@dataclass(frozen=True)
class Family:
    """A family of the table. name: for `foreal models fit`; title: as people write it; models: from small to large."""

    name: str
    title: str
    models: tuple[FamilyModel, ...]

    @property
    def vocabulary(self) -> TableVocabulary:
        return self.models[0].vocabulary


@functools.lru_cache(maxsize=1)
def load_families() -> dict[str, Family]:
    """The table; it comes with the package, and a test holds it to its form."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    table = tomllib.loads((bundled_dir() / "families.toml").read_text("utf-8"))
    vocabularies = {
        name: TableVocabulary(name, tuple(entry["splits"]), entry["tokens"])
        for name, entry in table["vocabularies"].items()
    }
    families = {}
    for name, entry in table["families"].items():
        vocabulary, kind, title = vocabularies[entry["vocabulary"]], entry["kind"], entry["title"]
        families[name] = Family(name, title, tuple(_model(each, title, kind, vocabulary) for each in entry["models"]))
    return families


def _model(entry: dict[str, float | str], title: str, kind: str, vocabulary: TableVocabulary) -> FamilyModel:
    billions = float(entry["billions"])
    return FamilyModel(
        str(entry["hub"]), title, kind, vocabulary, billions, float(entry.get("active", billions)), float(entry["gb"])
    )


def family_named(name: str) -> Family | None:
    """The family that a word means: its name or title, whatever its case, blanks and hyphens."""
    return next(
        (each for each in load_families().values() if _plain(name) in (_plain(each.name), _plain(each.title))), None
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def model_on_hub(spec: str) -> FamilyModel | None:
    """The model of the table that a hub name means: any quant of its repository, or the model under another owner."""
    wanted = parse_hub_name(spec)
    if wanted is None:
        return None
    models = [model for family in load_families().values() for model in family.models]
    for same in (_repo, _stem):
        for model in models:
            name = parse_hub_name(model.hub)
            if name and same(name.repo) == same(wanted.repo):
                return model
    return None


def _repo(repo: str) -> str:
    return repo.lower()


def _stem(repo: str) -> str:
    """A repository's name without its owner and what is added to the model's own name."""
    stem = repo.lower().rpartition("/")[2].removesuffix("-gguf")
    return stem.removeprefix("google_").removeprefix("meta-")
