"""foreal models: which models are here and what they are, and which drafts fit a leader."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..by_name import nearest
from ..catalog.families import family_named, load_families, model_on_hub
from ..downloads import cache_folder, gigabytes
from ..errors import ModelFileError, UsageError
from ..evaluation.reports.table import Table
from ..hub import bundled_dir, found_here, resolve_model
from ..hub_names import HOW_TO_NAME, parse_hub_name
from ..pairs import load_pairs
from .command import ForealCommand, option
from .streams import require_output
from .tables import print_tables

if TYPE_CHECKING:
    from ..catalog.inventory import Inventory, LocalModel
    from ..catalog.matching import Candidate, Drafts, Judged

EPILOG = """\b
Examples:
  foreal models
  foreal models --dir ~/models --dir /data/gguf
  foreal models fit qwen3-8b                      # a pair's leader
  foreal models fit big.gguf                      # a file
  foreal models fit Qwen/Qwen3-14B-GGUF           # a model on the hub
  foreal models fit llama3                        # a family
Files are read up to their weights only; nothing is loaded or downloaded."""
_MOST_OTHERS = 12


@click.command(cls=ForealCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="[fit LEADER]", nargs=-1)
@option(
    "--dir",
    "folders",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    envvar="FOREAL_MODELS",
    help="Look for GGUF files in this folder, and in those inside it, too. Repeatable.",
)
@option("--json", "as_json", is_flag=True, envvar=None, help="Print one JSON object instead of tables.")
@click.version_option(__version__, prog_name="foreal models")
def main(words: tuple[str, ...], folders: tuple[Path, ...], as_json: bool) -> None:
    """List the models that are here: in the hub's cache, with the package, in --dir; and which could answer together.

    `foreal models fit LEADER` lists the drafts that share LEADER's vocabulary, the best first: of those that are here,
    and of families in use; then what is against the others. LEADER is a file, a model on the hub, a pair or a family.
    """
    require_output("models are printed there")
    if words and (words[0] != "fit" or len(words) != 2):
        hint = "" if words[0] == "fit" else f" '{' '.join(words)}' is neither;"
        raise UsageError(f"write foreal models, or foreal models fit LEADER:{hint} foreal models --help says more")
    from ..catalog.inventory import look_around

    if not words:
        found = look_around(cache_folder(), [bundled_dir(), *folders])
        _list_json(found) if as_json else _list(found)
        return
    leader = _leader(words[1])
    beside = [leader.local.path.parent] if leader.local and os.sep in leader.name else []
    found = look_around(cache_folder(), [bundled_dir(), *folders, *beside])
    _fit(leader, found, as_json)


# ---------------------------------------------------------------- what is here
def _list(found: Inventory) -> None:
    from ..catalog.inventory import groups

    names = _vocabulary_names(found.models)
    rows = [
        (
            *(_shown(model), gigabytes(model.n_bytes), _billions(model.n_parameters), model.architecture),
            *(model.quantisation, model.kind, names[model.path]),
        )
        for model in sorted(found.models, key=lambda each: (names[each.path], -each.n_bytes))
    ]
    columns = ("model", "size", "parameters", "<architecture", "<stored as", "<kind", "<vocabulary")
    if rows:
        print_tables([Table("Models here", columns, rows)])
    else:
        click.echo("No models are here yet.")
    for group in groups(found.models):
        _print_matches(group)
    for unfinished in found.unfinished:
        amount = gigabytes(unfinished.n_bytes)
        click.echo(
            f"Not finished: {amount} of a file of {unfinished.repo}; foreal pull {unfinished.repo}:QUANT goes on"
        )
    for unusable in found.unusable:
        click.echo(f"Not usable: {' '.join(unusable.reason.split())}")
    pairs = load_pairs().values()
    here = [entry.name for entry in pairs if _is_here(entry.leader, entry.draft)]
    others = f"; {len(pairs) - len(here)} others: foreal pairs lists them, foreal pull NAME gets one"
    click.echo(f"Pairs that are here: {', '.join(here) or 'none'}{others if len(here) < len(pairs) else ''}.")


def _print_matches(group: list[LocalModel]) -> None:
    """What could draft for what in a group that shares a vocabulary."""
    from ..catalog.matching import drafts_for, of_file

    for leader in sorted(group, key=lambda each: -each.n_active):
        others = [of_file(each) for each in group if each.path != leader.path]
        if drafts := drafts_for(of_file(leader), others).sharing:
            names = "; ".join(f"{_shown_name(each.draft.name)} ({each.why})" for each in drafts[:3])
            click.echo(f"{_shown(leader)} could lead {names}")


def _vocabulary_names(models: list[LocalModel]) -> dict[Path, str]:
    """For each file a name that those with the same vocabulary share, and no others."""
    from ..catalog.inventory import groups

    names: dict[Path, str] = {}
    used: dict[str, int] = {}
    for group in groups(models):
        name = group[0].vocabulary.name
        used[name] = used.get(name, 0) + 1
        label = name if used[name] == 1 else f"{name} ({used[name]})"
        names |= {model.path: label for model in group}
    return names


def _list_json(found: Inventory) -> None:
    names = _vocabulary_names(found.models)
    pairs = [
        {"name": e.name, "leader": e.leader, "draft": e.draft, "here": _is_here(e.leader, e.draft)}
        for e in load_pairs().values()
    ]
    models = [_model_json(model, names[model.path]) for model in found.models]
    unusable = [{"path": str(each.path), "reason": each.reason} for each in found.unusable]
    unfinished = [{"repo": each.repo, "n_bytes": each.n_bytes} for each in found.unfinished]
    click.echo(json.dumps({"models": models, "unusable": unusable, "unfinished": unfinished, "pairs": pairs}, indent=2))


def _model_json(model: LocalModel, vocabulary: str) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path),
        "title": model.title,
        "n_bytes": model.n_bytes,
        "n_parameters": model.n_parameters,
        "n_active": model.n_active,
        "architecture": model.architecture,
        "quantisation": model.quantisation,
        "kind": model.kind,
        "vocabulary": vocabulary,
        "vocabulary_digest": model.vocabulary.digest,
        "n_tokens": model.vocabulary.n_tokens,
    }


def _is_here(*specs: str) -> bool:
    return all(found_here(spec) for spec in specs)


# ---------------------------------------------------------------- which drafts fit
def _leader(word: str) -> Candidate:
    """The model that LEADER means: a file, a pair's leader, a model on the hub, or a family's largest one."""
    from ..catalog.matching import of_table

    pairs = load_pairs()
    spec = pairs[word].leader if word in pairs else word
    path = Path(os.path.expanduser(spec))  # noqa: PTH111  (pathlib's raises where there is no home)
    if not path.exists() and word not in pairs and (family := family_named(word)):
        largest = max(family.models, key=lambda each: each.active)
        click.echo(f"{word} is a family: this is for its largest, {largest.hub}", err=True)
        spec = largest.hub
    if not word.strip():
        raise UsageError("LEADER is empty: name a file, a model on the hub, a pair or a family")
    if path.exists() and not path.is_file():
        resolve_model(spec, offline=True)  # says what it is
    bundled = bundled_dir() / word  # as the list shows it
    here = next((each for each in (path, bundled) if each.is_file()), None) or found_here(spec)
    if here is not None:
        return _of_path(here, spec if here != bundled else str(here))
    if spec.lower().endswith(".gguf") and parse_hub_name(spec) is None:
        raise ModelFileError(f"no such model file: {path}")
    known = model_on_hub(spec) if "/" in spec else None
    if known is not None:
        return of_table(known)
    if "/" in spec:
        raise UsageError(
            f"{spec} is not here, and not in the table of families: foreal pull {shlex.quote(spec)} gets it"
        )
    near = nearest(word, [*pairs, *load_families()])
    hint = f" Did you mean '{near}'?" if near else ""
    raise UsageError(
        f"'{word}' is no file, pair or family.{hint} Families: {', '.join(load_families())}; or {HOW_TO_NAME}"
    )


def _of_path(path: Path, name: str) -> Candidate:
    from ..catalog.inventory import local_model
    from ..catalog.matching import of_file

    return of_file(local_model(path, name))


def _fit(leader: Candidate, found: Inventory, as_json: bool) -> None:
    from ..catalog.matching import drafts_for, from_table, of_file

    itself = leader.local.path.resolve() if leader.local else None
    local = [of_file(model) for model in found.models if model.path.resolve() != itself]
    table = [each for each in from_table(found.models) if each.name != leader.name]
    if leader.local and (known := model_on_hub(leader.name)):
        table = [each for each in table if each.name != known.hub]
    drafts = drafts_for(leader, [*local, *table])
    if as_json:
        click.echo(json.dumps(_fit_json(leader, drafts), indent=2))
        return
    click.echo(f"Leader: {leader.name}")
    about = (f"{leader.billions:.3g} billion parameters", _size(leader), leader.kind)
    click.echo(f"  {', '.join(about)}, vocabulary {leader.vocabulary}\n")
    _print_drafts(leader, drafts)
    _print_others(drafts.others)
    _print_strangers(drafts.strangers)
    for unusable in found.unusable:
        click.echo(f"Not usable: {' '.join(unusable.reason.split())}")


def _print_drafts(leader: Candidate, drafts: Drafts) -> None:
    if not drafts.sharing:
        click.echo("No draft of 1/2.5 of its size or less shares its vocabulary, here or in the table of families.")
        if drafts.strangers:
            words = f"--leader {shlex.quote(leader.name)} --draft {shlex.quote(drafts.strangers[0].draft.name)}"
            click.echo(f"With another: foreal-chat {words}")
        click.echo("Alone:        foreal-gen --mode leader --leader " + shlex.quote(leader.name) + "\n")
        return
    rows = [
        (_shown_name(each.draft.name), _size(each.draft), "here" if each.draft.local else "not here", each.why)
        for each in drafts.sharing
    ]
    notes = ["What is not here is judged by its family; the tokens are compared when both are here."]
    columns = ("draft", "size", "<where", "<why")
    print_tables([Table("Drafts that share its vocabulary, the best first", columns, rows, notes)])
    best = drafts.sharing[0].draft
    words = f"--leader {shlex.quote(leader.name)} --draft {shlex.quote(best.name)}"
    named = (each.name for each in load_pairs().values() if (each.leader, each.draft) == (leader.name, best.name))
    words = next((f"--pair {name}" for name in named), words)
    if not (leader.local and best.local):
        names = [each.name for each in (leader, best) if not each.local]
        click.echo(f"Get:      foreal pull {shlex.join(names)}")
    click.echo(f"Try:      foreal-chat {words}")
    click.echo(f"Measure:  foreal bench {words}\n")


def _print_others(others: list[Judged]) -> None:
    """What does not fit: of what is here all, of the families what is smaller and shares the vocabulary."""
    near = [each for each in others if each.draft.local or (each.shares and each.part < 1)]
    for each in near[:_MOST_OTHERS]:
        click.echo(f"Not {_shown_name(each.draft.name)}: {each.why}")
    if len(near) > _MOST_OTHERS:
        click.echo(f"and {len(near) - _MOST_OTHERS} others; --json has all")
    if near:
        click.echo()


def _print_strangers(strangers: list[Judged]) -> None:
    """What has another vocabulary: the files that are here with what differs, and the families' names."""
    if not strangers:
        return
    click.echo(
        "Drafts with another vocabulary work too, but cost more: both models read more, agree on fewer tokens, and "
        "reviews are not read ahead."
    )
    for each in (each for each in strangers if each.draft.local):
        click.echo(f"  {_shown_name(each.draft.name)}: {each.why}")
    families = sorted({each.draft.table.family for each in strangers if each.draft.table})
    if families:
        click.echo(f"  families with such: {', '.join(families)}")


def _fit_json(leader: Candidate, drafts: Drafts) -> dict[str, Any]:
    return {
        "leader": _candidate_json(leader),
        "drafts": [_judged_json(each) for each in drafts.sharing],
        "with_another_vocabulary": [_judged_json(each) for each in drafts.strangers],
        "others": [_judged_json(each) for each in drafts.others],
    }


def _judged_json(verdict: Judged) -> dict[str, Any]:
    return _candidate_json(verdict.draft) | {"part": round(verdict.part, 4), "why": verdict.why}


def _candidate_json(model: Candidate) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.local.path) if model.local else None,
        "n_bytes": model.n_bytes,
        "billions": round(model.billions, 3),
        "active": round(model.active, 3),
        "kind": model.kind,
        "vocabulary": model.vocabulary,
    }


# ---------------------------------------------------------------- texts
def _size(model: Candidate) -> str:
    """Of its file: as it is here, else about as the table of families has it."""
    return gigabytes(model.n_bytes) if model.local else f"about {gigabytes(model.n_bytes)}"


def _shown(model: LocalModel) -> str:
    return _shown_name(model.name)


def _shown_name(name: str) -> str:
    """A name as it can be given; a path in the home folder with ~, and one of the bundled models without its folder."""
    path = Path(name)
    if path.is_absolute():
        if path.parent == bundled_dir():
            return path.name
        home = Path(os.path.expanduser("~"))  # noqa: PTH111
        if path.is_relative_to(home) and home != Path("/"):
            return f"~/{path.relative_to(home).as_posix()}"
    return name


def _billions(n: int) -> str:
    return f"{n / 1e9:.1f} B" if n >= 1e9 else f"{n / 1e6:.0f} M"
