"""Where models come from: files on disk, the hub and its cache.

Knows how users name a model, which file of a repository that means, and how to get it. Does not know
what is inside a GGUF file or who will load it; pairs.py knows pairs. The hub's library is imported only when
a hub name is used; its own environment variables (HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, ...) hold
here too.
"""

# ruff: noqa: PTH111, PTH112, PTH113  (what users write may be no path at all; os.path never raises for it)

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import DownloadError, ForealError, ModelFileError

DEFAULT_QUANTS = ("Q4_K_M", "Q8_0", "Q4_0")  # tried in this order where a hub name has no quant

HOW_TO_NAME = "give the path of a .gguf file, or a hub name owner/repo[:quant]"

_PREFIX = re.compile(r"hf:(?://)?|(?:https?://)?(?:hf\.co|huggingface\.co)/", re.I)
_NAME = re.compile(
    r"(?P<repo>[A-Z0-9][\w.-]*/[A-Z0-9][\w.-]*)(?<!\.gguf)"
    r"(?: [:/] (?:(?:blob|resolve)/main/)? (?P<file>[^\\:]+\.gguf) | : (?P<quant>[\w.-]+) )?",
    re.I | re.A | re.X,
)
_QUANT = re.compile(
    r"(?<![A-Z0-9]) (?:UD-)? "
    r"(?: I?Q\d+(?:_[A-Z0-9]+)* | TQ\d_\d | (?:B?F|FP)(?:16|32) | (?:MX|NV)FP4(?:_MOE)? ) (?![A-Z0-9_])",
    re.I | re.X,
)
_NOT_A_MODEL = re.compile(r"(?:^|[/._-])(?:mmproj[^/]*|imatrix)\.gguf$|(?:^|/)imatrix[^/]*$", re.I)
_SPLIT = re.compile(r"-\d{5}-of-(\d{5})(\.gguf)$", re.I)


# ---- a model by path or hub name ----


def resolve_model(spec: str, *, offline: bool = False, progress: bool = True) -> Path:
    """The file on disk that `spec` means, downloaded if need be; the first part of a split model.

    spec: a path, or a hub name: `owner/repo`, `owner/repo:quant` or `owner/repo/file.gguf`, with `hf:` in front to
        mean the hub even where a path of that name exists
    offline: look in the cache only
    progress: show a progress bar if this is a terminal

    Raises ModelFileError for what does not exist, DownloadError for what cannot be fetched now.
    """
    path = os.path.expanduser(spec)
    if os.path.isfile(path):
        return Path(path)
    if os.path.isdir(path):
        raise ModelFileError(f"'{spec}' is a directory: name a file in it, or write hf:owner/repo for the hub")
    name = parse_hub_name(spec)
    if name is None or (name.file and os.path.isdir(spec.split("/")[0])):
        raise ModelFileError(f"no such file: '{path}' ({HOW_TO_NAME})")

    from huggingface_hub import constants

    if offline or constants.HF_HUB_OFFLINE:
        return _from_cache(name)
    with _progress_bars(progress):
        return _from_hub(name)


@dataclass(frozen=True)
class HubName:
    """A model on the hub as the user writes it.

    repo: owner/repo
    quant: a tag such as Q4_K_M; None where it is not given, or a file is
    file: a file of the repository; None where it is not given, or a quant is
    """

    repo: str
    quant: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        return self.repo + (f":{self.quant}" if self.quant else f"/{self.file}" if self.file else "")


def parse_hub_name(spec: str) -> HubName | None:
    """The hub name that `spec` is; None where it can only be a path (x.gguf, ./dir/x.gguf, C:\\dir\\x.gguf)."""
    prefix = _PREFIX.match(spec)
    match = _NAME.fullmatch(spec, prefix.end() if prefix else 0)
    if match:
        return HubName(match["repo"], match["quant"], match["file"])
    if prefix:
        raise ModelFileError(f"'{spec}' is not a hub name: write {prefix[0]}owner/repo[:quant]")
    return None


# ---- which file of a repository ----


def choose_file(files: Iterable[str], name: HubName) -> str:
    """The file of a repository that `name` means; a split model's first part. ModelFileError if none."""
    ggufs = {all_parts(file)[0] for file in files if file.lower().endswith(".gguf")}
    models = sorted(file for file in ggufs if not _NOT_A_MODEL.search(file))
    if not models:
        raise ModelFileError(f"{name.repo} has no .gguf file (look for a repository with GGUF in its name)")
    if name.file:
        if all_parts(name.file)[0] in ggufs:
            return all_parts(name.file)[0]
        raise ModelFileError(f"{name.repo} has no file '{name.file}'; it has: {', '.join(models)}")
    available = ", ".join(sorted({quant_of(model) or model for model in models}))
    if name.quant:
        matching = _with_quant(models, name.quant)
        if not matching:
            raise ModelFileError(f"{name.repo} has no {name.quant} file; it has: {available}")
    else:
        matching = next(filter(None, (_with_quant(models, quant) for quant in DEFAULT_QUANTS)), models)
        if matching is models and len(models) > 1:
            raise ModelFileError(f"{name.repo} has several files; add one of these, {name.repo}:QUANT: {available}")
    if len(matching) > 1:
        raise ModelFileError(f"'{name}' fits several files; name one, {name.repo}/FILE: {', '.join(matching)}")
    return matching[0]


def quant_of(file: str) -> str | None:
    """The quant tag in a file's name, in upper case: the last one where it has several."""
    tags = _QUANT.findall(file)
    return tags[-1].upper() if tags else None


def all_parts(file: str) -> list[str]:
    """All files of a split model, whichever of them is given; of any other model its one file."""
    match = _SPLIT.search(file)
    if not match:
        return [file]
    stem, n_parts = file[: match.start()], max(int(match[1]), 1)
    return [f"{stem}-{i:05d}-of-{match[1]}{match[2]}" for i in range(1, n_parts + 1)]


def _with_quant(models: list[str], quant: str) -> list[str]:
    """The models of this quant; those tagged UD- ("dynamic" quants) only where no other has it."""
    tags = {model: quant_of(model) or "" for model in models}
    exact = [model for model in models if tags[model] == quant.upper()]
    return exact or [model for model in models if tags[model] == f"UD-{quant.upper()}"]


# ---- the hub and its cache ----


def _from_hub(name: HubName) -> Path:
    """Download what is not in the cache yet. Where the hub does not answer, the cached file is used.

    Within this call a download resumes after a broken connection. If the call ends first, the next call begins the
    file again (library 1.18 and later), but keeps the finished files of a split model.
    """
    from huggingface_hub import constants, hf_hub_download, model_info

    try:
        info = model_info(name.repo, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:
        try:
            return _from_cache(name)
        except ForealError:
            raise explain(error, name) from error
    file = choose_file([sibling.rfilename for sibling in info.siblings or []], name)
    try:
        paths = [hf_hub_download(name.repo, part) for part in all_parts(file)]
    except Exception as error:
        raise explain(error, name) from error
    return Path(paths[0])


def _from_cache(name: HubName) -> Path:
    """The cached file that `name` means, by the same rules, without any request."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = _cached_models(Path(HF_HUB_CACHE) / f"models--{name.repo.replace('/', '--')}")
    try:
        return cached[choose_file(cached, name)]
    except ModelFileError as error:
        reason = str(error) if cached else f"nothing of {name.repo} is there"
        raise DownloadError(
            f"offline, and the cache {HF_HUB_CACHE} cannot serve '{name}': {reason}; "
            "get it once with a connection, or give the path of a .gguf file"
        ) from error


def _cached_models(home: Path) -> dict[str, Path]:
    """The complete models in one repository's cache folder, by their names in the repository.

    Older revisions count too: after an update of the repository, the next download moves refs/main to the new
    revision, which has none of the files that were fetched before.
    """
    ref = home / "refs" / "main"
    current = ref.read_text().strip() if ref.is_file() else ""
    models = {}
    for snapshot in sorted((home / "snapshots").glob("*"), key=lambda s: (s.name == current, s.stat().st_mtime)):
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
