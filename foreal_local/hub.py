"""Where models come from: files on disk, the hub and its cache.

Knows how to get the file that a name means (hub_names.py), from the disk, the hub or its cache. Does not know
what is inside a GGUF file or who will load it; pairs.py knows pairs. The hub's library is imported only when
a hub name is used; its own environment variables (HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, ...) hold
here too.
"""

# ruff: noqa: PTH110, PTH111, PTH112, PTH113  (what users write may be no path at all; os.path never raises for it)

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .downloads import HubFile, check_room, fetch, look_up
from .errors import DownloadError, ForealError, ModelFileError
from .hub_names import HOW_TO_NAME, MAIN, HubName, all_parts, choose_file, parse_hub_name, pasted

# ---- a model by path or hub name ----


def resolve_model(spec: str, *, offline: bool = False, progress: bool = True) -> Path:
    """The file on disk that `spec` means, downloaded if need be; the first part of a split model.

    spec: a path, or a hub name: `owner/repo`, `owner/repo:quant` or `owner/repo/file.gguf`, perhaps of a revision
        (`owner/repo@revision:quant`), with `hf:` in front to mean the hub even where a path of that name exists; or
        the link of any page or file of the model on the hub's site
    offline: look in the cache only
    progress: show a progress bar if this is a terminal

    Raises ModelFileError for what does not exist, DownloadError for what cannot be fetched now.
    """
    spec = spec if os.path.exists(spec) else pasted(spec)
    path = os.path.expanduser(spec)
    if os.path.isfile(path):
        return Path(path)
    if os.path.isdir(path):
        raise ModelFileError(f"'{spec}' is a directory: name a file in it, or write hf:owner/repo for the hub")
    if os.path.exists(path):
        raise ModelFileError(f"'{spec}' is a pipe or a device: a model is read from a file on the disk")
    name = parse_hub_name(spec)
    if name is None or (name.file and os.path.isdir(spec.split("/")[0])):
        raise ModelFileError(f"no such file: '{path}' ({HOW_TO_NAME})")

    from huggingface_hub import constants

    if offline or constants.HF_HUB_OFFLINE:
        return _from_cache(name)
    return _from_hub(name, progress)


def found_here(spec: str) -> Path | None:
    """The file that `spec` means where it is on this disk already; None where it is not, or cannot be."""
    try:
        return resolve_model(spec, offline=True)
    except ForealError:
        return None


# ---- the hub and its cache ----


def files_on_hub(name: HubName) -> list[HubFile]:
    """All files of the model that a name means, as the hub has them now."""
    from huggingface_hub import constants, model_info

    try:
        info = model_info(name.repo, revision=name.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        file = choose_file([sibling.rfilename for sibling in info.siblings or []], name)
        return [look_up(name, part, name.revision) for part in all_parts(file)]
    except ForealError:
        raise
    except Exception as error:
        raise explain(error, name) from error


def fetch_model(files: list[HubFile], *, progress: bool = True) -> Path:
    """The first of a model's files, with all of them in the cache; an interrupted download goes on where it was.

    DownloadError without the hub, or without room for them.
    """
    check_room(files)
    try:
        with _progress_bars(progress):
            paths = [fetch(file, _tell if progress else _say_nothing) for file in files]
    except ForealError:
        raise
    except Exception as error:
        raise explain(error, files[0].name) from error
    return paths[0]


def cached_model(name: HubName) -> Path | None:
    """The file in the cache that a name means, whatever the hub has now; None where there is none."""
    try:
        return _from_cache(name)
    except ForealError:
        return None


def _from_hub(name: HubName, progress: bool) -> Path:
    """Download what is not in the cache yet. Where the hub does not answer, the cached file is used."""
    try:
        files = files_on_hub(name)
    except ForealError as reason:
        cached = cached_model(name) if reason.__cause__ else None  # without a cause, the hub has answered
        if cached is None:
            raise
        return cached
    return fetch_model(files, progress=progress)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_nothing(_text: str) -> None:
    pass


def _from_cache(name: HubName) -> Path:
    """The cached file that `name` means, by the same rules, without any request."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = _cached_models(Path(HF_HUB_CACHE) / f"models--{name.repo.replace('/', '--')}", name.revision)
    try:
        return cached[choose_file(cached, name)]
    except ModelFileError as error:
        of_repo = name.repo + (f" at {name.revision}" if name.revision else "")
        reason = str(error) if cached else f"nothing of {of_repo} is there"
        raise DownloadError(
            f"offline, and the cache {HF_HUB_CACHE} cannot serve '{name}': {reason}; "
            "get it once with a connection, or give the path of a .gguf file"
        ) from error


def _cached_models(home: Path, revision: str | None) -> dict[str, Path]:
    """The complete models in one repository's cache folder, by their names in the repository.

    Of the main branch, older revisions count too: after an update of the repository, the next download moves refs/main
    to the new revision, which has none of the files that were fetched before. Of a revision that was asked for, only
    that one does; a commit may be given by its first digits.
    """
    ref = home / "refs" / (revision or MAIN)
    current = ref.read_text().strip() if ref.is_file() else revision or ""
    models = {}
    for snapshot in sorted((home / "snapshots").glob("*"), key=lambda s: (s.name == current, s.stat().st_mtime)):
        if revision and not snapshot.name.startswith(current):
            continue
        for path in snapshot.rglob("*"):
            name = path.relative_to(snapshot).as_posix()
            if name.lower().endswith(".gguf") and all((snapshot / part).is_file() for part in all_parts(name)):
                models[all_parts(name)[0]] = snapshot / all_parts(name)[0]  # the current revision comes last and wins
    return models


@contextmanager
def _progress_bars(wanted: bool) -> Iterator[None]:
    """Hide the library's progress bars unless they are wanted (it shows them on a terminal only)."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if wanted or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def explain(error: Exception, name: HubName) -> ForealError:
    """The library's error as one of errors.py. Connection errors differ between its versions, so they come last: an
    error that is none of the others is taken for one."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the hub did not answer, and only then was the cache searched
    repo, hub, cache = name.repo, constants.ENDPOINT, constants.HF_HUB_CACHE
    text = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    status = getattr(getattr(error, "response", None), "status_code", None)
    code = error.errno if isinstance(error, OSError) else None
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(f"{repo} is gated: accept its licence at {hub}/{repo} and set HF_TOKEN to your token")
    if isinstance(error, errors.RepositoryNotFoundError):
        missing = f"no file '{name}' here and no repository {repo} on the hub (a private one needs HF_TOKEN)"
        return ModelFileError(f"{missing}; {HOW_TO_NAME}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelFileError(f"{repo} has no revision '{name.revision}': leave it out, or name a branch or a commit")
    if isinstance(error, errors.EntryNotFoundError):
        return ModelFileError(f"{repo} does not have all files of '{name}': {text}")
    if isinstance(error, errors.HFValidationError):
        return ModelFileError(f"'{name}' is not a hub name: {text}")
    if status in (401, 403):
        return DownloadError(f"the hub refuses '{name}' ({status}): check the access token in HF_TOKEN")
    if status is not None:
        hint = "wait some minutes, or set HF_TOKEN" if status == 429 else "try again later"
        return DownloadError(f"the hub answers {status} for '{name}': {hint}")
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return DownloadError(f"disk full: '{name}' does not fit into {cache}; free some space, or set HF_HOME")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DownloadError(f"cannot write '{name}' to {cache} ({text}): set HF_HOME to another folder")
    return DownloadError(f"cannot fetch '{name}' from {hub} ({text}): check the connection and run it again")


# ---- models that come with the package ----


def bundled_dir() -> Path:
    """The folder of pairs.toml, the bundled pair and its problems: in an installed package, beside it in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "models", package.parent / "models"):
        if (folder / "pairs.toml").is_file():
            return folder
    raise ModelFileError(f"the bundled models are missing beside {package}: install the package again")
