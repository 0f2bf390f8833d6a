"""foreal pull: models and pairs into the cache, one after another."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .. import __version__
from ..errors import DownloadError, UsageError
from ..hub import cached_model, fetch_model, files_on_hub
from ..hub_names import HOW_TO_NAME, parse_hub_name
from ..pairs import find_pair, load_pairs
from .command import ForealCommand, option

if TYPE_CHECKING:
    from ..downloads import HubFile

EPILOG = """\b
Examples:
  foreal pull qwen3-8b
  foreal pull Qwen/Qwen3-8B-GGUF:Q4_K_M Qwen/Qwen3-0.6B-GGUF:Q8_0
  foreal-gen -l "$(foreal pull Qwen/Qwen3-8B-GGUF)" -d small.gguf 'Who are you?'
What is already here is not fetched again; a download that was stopped, in whatever way, goes on.
Exit codes: 0 all are here, 1 some are not, 2 usage, 130 interrupted."""


class Wanted(NamedTuple):
    """A model that is to be here. path: where it is already; files: else, what the hub has of it."""

    spec: str
    path: Path | None
    files: list[HubFile]

    @property
    def n_missing(self) -> int:
        return sum(file.n_missing for file in self.files)


@click.command(cls=ForealCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@option("--offline", is_flag=True, help="Refused: there is nothing to download without a connection.")
@option("-q", "--quiet", is_flag=True, help="Print the files' paths and errors only.")
@click.version_option(__version__, prog_name="foreal pull")
def main(names: tuple[str, ...], offline: bool, quiet: bool) -> None:
    """Download models: each NAME is a pair's name, or a model's on the hub (owner/repo[:quant], or its link).

    Says how much is to be downloaded and what room there is, and begins only where it is enough. Each file is checked
    against the hash that the hub gives. The paths of the models are printed.
    """
    _refuse_offline(offline)
    wanted = [_look_up(spec, quiet) for spec in _specs(names)]
    missing = [model for model in wanted if model.n_missing]
    if missing:
        _check_all_fit(missing, quiet)
    failed = False
    for model in wanted:
        try:
            path = model.path or fetch_model(model.files, progress=not quiet)
        except KeyboardInterrupt:
            _say(f"\nStopped. {_kept(model)}; to go on: foreal pull {shlex.join(names)}", quiet=False)
            raise
        except DownloadError as error:
            failed = True
            _say(f"Error: {error}", quiet=False)
            _say(f"  {_kept(model)}", quiet)
            continue
        click.echo(path)
    if failed:
        sys.exit(DownloadError.exit_code)


def _refuse_offline(offline: bool) -> None:
    from huggingface_hub import constants

    if offline:
        raise UsageError(
            "--offline, and a download needs a connection: leave it out (foreal models lists what is here)"
        )
    if constants.HF_HUB_OFFLINE:
        name = "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
        raise UsageError(f"{name} is set, and a download needs a connection: unset it")


def _specs(names: tuple[str, ...]) -> list[str]:
    """The models that are named, each once; UsageError for a word that is neither a pair nor a model."""
    specs: dict[str, None] = {}
    pairs = load_pairs()
    for name in names:
        if name in pairs:
            specs |= dict.fromkeys((pairs[name].leader, pairs[name].draft))
        elif Path(name).exists() or "/" in name or name.lower().endswith(".gguf"):
            specs[name] = None
        else:
            try:
                find_pair(name)
            except UsageError as error:
                raise UsageError(f"{error}; for a model, {HOW_TO_NAME}") from None
    return list(specs)


def _look_up(spec: str, quiet: bool) -> Wanted:
    """What there is of a model, here and on the hub. Where the hub does not answer, what is in the cache is enough."""
    path = Path(os.path.expanduser(spec))  # noqa: PTH111  (pathlib's raises where there is no home)
    if path.is_file():
        _say(f"{spec}: a file on this disk, nothing to download", quiet)
        return Wanted(spec, path, [])
    name = parse_hub_name(spec)
    if name is None and path.is_dir() and spec:
        raise UsageError(f"'{spec}' is a directory: name a model, owner/repo[:quant], or a pair")
    if name is None:
        raise UsageError(f"'{spec}' is no file here and no name on the hub: {HOW_TO_NAME}")
    try:
        files = files_on_hub(name)
    except DownloadError as error:
        found = cached_model(name)
        if found is None:
            raise
        _say(f"{spec}: here already; whether the hub has a newer one is not known ({error})", quiet)
        return Wanted(spec, found, [])
    if all(file.is_here for file in files):
        _say(f"{spec}: here already", quiet)
    return Wanted(spec, None, files)


def _check_all_fit(missing: list[Wanted], quiet: bool) -> None:
    """Say what is to be downloaded; DownloadError where there is no room for all of it."""
    from ..downloads import cache_folder, check_room, free_bytes, gigabytes

    for model in missing:
        n_here = sum(file.n_here for file in model.files)
        begun = f", {gigabytes(n_here)} of it here" if n_here else ""
        parts = f" in {len(model.files)} files" if len(model.files) > 1 else ""
        _say(f"{model.spec}: {gigabytes(n_here + model.n_missing)}{parts}{begun}", quiet)
    total = sum(model.n_missing for model in missing)
    _say(f"to download: {gigabytes(total)}; free: {gigabytes(free_bytes(cache_folder()))} in {cache_folder()}", quiet)
    check_room([file for model in missing for file in model.files])


def _kept(model: Wanted) -> str:
    from ..downloads import gigabytes

    n_here = sum(file.n_here for file in model.files)
    return f"{gigabytes(n_here)} of {gigabytes(n_here + model.n_missing)} of {model.spec} are kept for the next call"


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        click.echo(text, err=True)
