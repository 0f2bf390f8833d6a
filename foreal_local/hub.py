"""Where models come from: pairs by name, files on disk, the hub and its cache.

Knows how a model is written down, which file of a repository that means, and how to get it. Does not know
what is inside a GGUF file or who will load it. The hub's library is imported only when a hub name is used;
its own environment variables (HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, ...) hold here too.
"""

# ruff: noqa: PTH111, PTH112, PTH113  (what users write may be no path at all; os.path never raises for it)

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import GENERATION_NAMES, Prompting, find_setting, names_of
from .errors import DownloadError, ForealError, ModelFileError, UsageError

DEFAULT_PAIR = "tiny"
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

    `spec` is a path, or a hub name: `owner/repo`, `owner/repo:quant` or `owner/repo/file.gguf`, with `hf:` in
    front to mean the hub even where a path of that name exists. `offline` asks the cache alone. `progress`
    allows a progress bar, which shows on a terminal only. Raises ModelFileError for what does not exist,
    DownloadError for what cannot be had now.
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
    """A model on the hub, as written by the user: at most one of quant and file is given."""

    repo: str
    quant: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        return self.repo + (f":{self.quant}" if self.quant else f"/{self.file}" if self.file else "")


def parse_hub_name(spec: str) -> HubName | None:
    """The hub name in `spec`, or None where it can only be a path (x.gguf, ./dir/x.gguf, C:\\dir\\x.gguf)."""
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
    ggufs = {parts(file)[0] for file in files if file.lower().endswith(".gguf")}
    models = sorted(file for file in ggufs if not _NOT_A_MODEL.search(file))
    if not models:
        raise ModelFileError(f"{name.repo} has no .gguf file (look for a repository with GGUF in its name)")
    if name.file:
        if parts(name.file)[0] in ggufs:
            return parts(name.file)[0]
        raise ModelFileError(f"{name.repo} has no file '{name.file}'; it has: {', '.join(models)}")
    available = ", ".join(sorted({quant_of(model) or model for model in models}))
    if name.quant:
        found = _with_quant(models, name.quant)
        if not found:
            raise ModelFileError(f"{name.repo} has no {name.quant} file; it has: {available}")
    else:
        found = next(filter(None, (_with_quant(models, quant) for quant in DEFAULT_QUANTS)), models)
        if found is models and len(models) > 1:
            raise ModelFileError(f"{name.repo} has several files; add one of these, {name.repo}:QUANT: {available}")
    if len(found) > 1:
        raise ModelFileError(f"'{name}' fits several files; name one, {name.repo}/FILE: {', '.join(found)}")
    return found[0]


def quant_of(file: str) -> str | None:
    """The quant tag in a file's name, in upper case: the last one where it has several."""
    tags = _QUANT.findall(file)
    return tags[-1].upper() if tags else None


def parts(file: str) -> list[str]:
    """All parts of a split model, whichever part is given; any other file alone."""
    match = _SPLIT.search(file)
    if not match:
        return [file]
    stem, n_parts = file[: match.start()], max(int(match[1]), 1)
    return [f"{stem}-{i:05d}-of-{match[1]}{match[2]}" for i in range(1, n_parts + 1)]


def _with_quant(models: list[str], quant: str) -> list[str]:
    """The models of this quant; those tagged UD- ("dynamic" quants) only where there is no plain one."""
    tags = {model: quant_of(model) or "" for model in models}
    exact = [model for model in models if tags[model] == quant.upper()]
    return exact or [model for model in models if tags[model] == f"UD-{quant.upper()}"]


# ---- the hub and its cache ----


def _from_hub(name: HubName) -> Path:
    """Download what is not in the cache yet. Where the hub cannot be asked, what the cache has will do.

    A connection that breaks is taken up again where it broke, as long as the call lasts. A file interrupted
    for good starts over with the next call (library 1.18 and later); finished parts of a split one are kept.
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
        paths = [hf_hub_download(name.repo, part) for part in parts(file)]
    except Exception as error:
        raise explain(error, name) from error
    return Path(paths[0])


def _from_cache(name: HubName) -> Path:
    """What `name` means among the files of the cache, by the same rules, without any request."""
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

    Older revisions count too: the first download after an update of the repository moves refs/main away from
    all that was fetched before.
    """
    ref = home / "refs" / "main"
    current = ref.read_text().strip() if ref.is_file() else ""
    models = {}
    for snapshot in sorted((home / "snapshots").glob("*"), key=lambda s: (s.name == current, s.stat().st_mtime)):
        for path in snapshot.rglob("*"):
            name = path.relative_to(snapshot).as_posix()
            if name.lower().endswith(".gguf") and all((snapshot / part).is_file() for part in parts(name)):
                models[parts(name)[0]] = snapshot / parts(name)[0]  # the current revision comes last and wins
    return models


@contextmanager
def _progress_bars(wanted: bool) -> Iterator[None]:
    """The library shows its bars on a terminal only; this hides them there too where they are not wanted."""
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
    """The library's error as one of ours. Connection errors differ between its versions: the rest."""
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
        found = f"no file '{name}' here and no repository {repo} on the hub (a private one needs HF_TOKEN)"
        return ModelFileError(f"{found}; {HOW_TO_NAME}")
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


# ---- pairs by name ----


@dataclass(frozen=True)
class PairEntry:
    """One table of a pairs file.

    leader, draft: for `resolve_model`
    note: what the pair is good for
    settings: what it gives of config.py's, by their fields' names; types are checked here, ranges where they are used
    """

    name: str
    leader: str
    draft: str
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


_TEXTS = ("leader", "draft", "note")
_OF_A_RESPONSE = [*GENERATION_NAMES, *names_of(Prompting)]


def bundled_dir() -> Path:
    """The folder of pairs.toml and the bundled pair: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "models", package.parent / "models"):
        if (folder / "pairs.toml").is_file():
            return folder
    raise ModelFileError(f"the bundled models are missing beside {package}: install the package again")


def load_pairs() -> dict[str, PairEntry]:
    """The bundled pairs and, over them, the user's own: a table replaces the whole pair of its name."""
    own = _user_pairs_file()
    return _read_pairs(bundled_dir() / "pairs.toml") | (_read_pairs(own) if own else {})


def find_pair(name: str) -> PairEntry:
    """The pair of this name; UsageError with the nearest name where there is none."""
    pairs = load_pairs()
    if name not in pairs:
        from difflib import get_close_matches

        near = get_close_matches(name.lower(), pairs, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"no pair named '{name}'{hint} (there are: {', '.join(pairs)})")
    return pairs[name]


def _user_pairs_file() -> Path | None:
    """The file FOREAL_PAIRS names, else foreal/pairs.toml in the user's folder for settings if it exists."""
    if named := os.environ.get("FOREAL_PAIRS"):
        return Path(named).expanduser()
    folder = os.environ.get("XDG_CONFIG_HOME") or (os.name == "nt" and os.environ.get("APPDATA")) or "~/.config"
    file = Path(folder).expanduser() / "foreal" / "pairs.toml"
    return file if file.is_file() else None


def _read_pairs(file: Path) -> dict[str, PairEntry]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tables = tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read the pairs file {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the pairs file {file} is not valid TOML: {error}") from error
    return {name: _pair(name, table, file) for name, table in tables.items()}


def _pair(name: str, table: Any, file: Path) -> PairEntry:
    """A table as a PairEntry; relative paths in it count from the file's folder."""
    where = f"pair '{name}' in {file}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is not a table: write [{name}] on a line of its own")
    texts, settings = {}, {}
    for key, value in table.items():
        setting = None if key in _TEXTS else find_setting(key)
        if key not in _TEXTS and (setting is None or setting.name not in _OF_A_RESPONSE):
            known = ", ".join([*_TEXTS, *_OF_A_RESPONSE])
            raise UsageError(f"{where}: unknown key '{key}' (known: {known})")
        if setting is None:
            if not isinstance(value, str):
                raise UsageError(f"{where}: {key} cannot be {value!r}")
            texts[key] = value
            continue
        try:
            settings[setting.name] = setting.from_json(value)
        except UsageError as error:
            raise UsageError(f"{where}: {key} cannot be {value!r} ({error})") from None
    for role in ("leader", "draft"):
        if not texts.get(role):
            raise UsageError(f"{where} names no {role}: {HOW_TO_NAME}")
        spec = os.path.expanduser(texts[role])
        beside = file.parent.absolute() / spec
        texts[role] = str(beside) if beside.exists() or parse_hub_name(spec) is None else spec
    return PairEntry(name, **texts, settings=settings)
