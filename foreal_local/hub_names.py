"""What users call a model on the hub, and which file of a repository that means.

Knows names, the links of the hub's site and the tags of quants. Makes no request and opens no file (hub.py does).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qs, unquote

from .errors import ModelFileError

DEFAULT_QUANTS = ("Q4_K_M", "Q8_0", "Q4_0")  # tried in this order where a hub name has no quant
MAIN = "main"

HOW_TO_NAME = "give the path of a .gguf file, or a hub name owner/repo[:quant]"

_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co")
_PREFIX = re.compile(r"hf:(?://)?(?=[^/])", re.I)
_HOST = re.compile(r"(?P<scheme>https?://)?(?P<host>[^/\s]+)(?:/|$)", re.I)
_OWNER = re.compile(r"[A-Z0-9][\w.-]*", re.I | re.A)
_REPO = re.compile(
    r"(?P<repo>[A-Z0-9][\w.-]*)(?<!\.gguf) (?: @ (?P<revision>[^:@\\]+) )? (?: : (?P<tag>[^:\\]+) )?",
    re.I | re.A | re.X,
)
_NO_MODELS = {"datasets": "a data set", "spaces": "a space", "collections": "a collection", "papers": "a paper"}
_NO_MODELS |= {"docs": "a page of documentation", "blog": "an article", "posts": "an article", "api": "an interface"}
_OF_A_FILE = ("blob", "resolve", "raw", "blame")  # parts of links: then a revision and a file
_OF_A_REVISION = ("tree", "commit", "commits")  # then a revision, and perhaps a folder
_QUANT = re.compile(
    r"(?<![A-Z0-9]) (?:UD-)? "
    r"(?: I?Q\d+(?:_[A-Z0-9]+)* | TQ\d_\d | (?:B?F|FP)(?:16|32) | (?:MX|NV)FP4(?:_MOE)? ) (?![A-Z0-9_])",
    re.I | re.X,
)
_NOT_A_MODEL = re.compile(
    r"(?:^|[/._-]) (?: (?:mmproj[^/]*|imatrix)\.gguf | (?:eagle3|dflash)[._-][^/]* ) $"
    r"| (?:^|/) (?:imatrix|mtp-) [^/]* $",
    re.I | re.X,
)
_SPLIT = re.compile(r"-\d{5}-of-(\d{5})(\.gguf)$", re.I)


# ---- names ----


@dataclass(frozen=True)
class HubName:
    """A model on the hub as the user writes it.

    repo: owner/repo
    quant: a tag such as Q4_K_M; None where it is not given, or a file is
    file: a file of the repository; None where it is not given, or a quant is
    revision: a branch, a tag or a commit; None for the main branch
    folder: of the repository, where only its files are meant
    """

    repo: str
    quant: str | None = None
    file: str | None = None
    revision: str | None = None
    folder: str | None = None

    def __str__(self) -> str:
        of_repo = self.repo + (f"@{self.revision}" if self.revision else "")
        within = self.file or (self.folder and f"{self.folder}/")
        return of_repo + (f":{self.quant}" if self.quant else f"/{within}" if within else "")


def pasted(name: str) -> str:
    """A name without the blanks, and the quotation marks or brackets of a link, that were copied with it."""
    name = name.strip()
    quoted = _QUOTED.fullmatch(name)
    return (quoted[1] or quoted[2]).strip() if quoted else name


_QUOTED = re.compile(r"""['"`“”„‘’]+([^'"`“”„‘’]+)['"`“”„‘’]+|<([^<>]+)>""")


def parse_hub_name(spec: str) -> HubName | None:
    """The hub name that `spec` is; None where it can only be a path (x.gguf, ./dir/x.gguf, C:\\dir\\x.gguf).

    Takes names (owner/repo, with :quant, @revision or /file.gguf), the same after hf:, hf:// or hf.co/, and every link
    of a model on the hub's site. ModelFileError for what is meant for the hub and names no model there.
    """
    spec = pasted(spec)
    rest = _after_prefix(spec)
    if rest is None:
        return _name_of(spec.strip("/").split("/")) if not spec.startswith("/") else None
    path, _, query = rest.partition("#")[0].partition("?")
    segments = [unquote(segment) for segment in path.strip("/").removesuffix(".git").split("/")]
    if segments[0] in _NO_MODELS and len(segments) > 1:
        raise ModelFileError(f"'{spec}' is {_NO_MODELS[segments[0]]}, not a model: {HOW_TO_NAME}")
    if segments[0] == "models":
        segments.pop(0)
    name = _name_of(segments) or _name_of(segments[:2])  # other pages of a repository mean the repository
    lost = len(segments) > 2 and segments[-1].lower().endswith(".gguf")
    if name is None or (lost and not name.file):
        raise ModelFileError(f"'{spec}' is not a hub name: write hf:owner/repo[:quant], or paste a model's link")
    shown = parse_qs(query).get("show_file_info")  # the page of a repository with a file's details
    return HubName(name.repo, None, shown[0], name.revision) if shown and not name.file else name


def _after_prefix(spec: str) -> str | None:
    """What stands behind hf: or the hub's address; None where there is neither."""
    if prefix := _PREFIX.match(spec):
        return spec[prefix.end() :]
    match = _HOST.match(spec)
    if not match:
        return None
    mirror = _HOST.match(os.environ.get("HF_ENDPOINT", ""))
    if match["host"].lower() in (*_HOSTS, mirror["host"].lower() if mirror else ""):
        return spec[match.end() :]
    if match["scheme"]:
        raise ModelFileError(
            f"'{spec}' is a link to {match['host']}, which is not the hub: download the file and give its path; "
            f"for a mirror of the hub, set HF_ENDPOINT={match['scheme']}{match['host']}"
        )
    return None


def _name_of(segments: list[str]) -> HubName | None:
    """The name that the parts of a path mean: owner, repository, and what follows them; None if they are none."""
    match = _REPO.fullmatch(segments[1]) if len(segments) > 1 else None
    if not match or not _OWNER.fullmatch(segments[0]):
        return None
    repo, rest, revision = f"{segments[0]}/{match['repo']}", segments[2:], match["revision"]
    if match["tag"]:
        tag = "/".join([match["tag"], *rest])
        if tag.lower().endswith(".gguf"):
            return HubName(repo, file=tag, revision=_not_main(revision))
        quant = None if tag.lower() == "latest" else tag
        return HubName(repo, quant, revision=_not_main(revision)) if re.fullmatch(r"[\w.-]+", tag, re.A) else None
    kind = rest[0] if len(rest) > 1 and not revision else None
    if kind in (*_OF_A_FILE, *_OF_A_REVISION):
        n = 3 if rest[1] == "refs" and len(rest) > 3 else 1  # refs/pr/1 is one name
        revision, rest = "/".join(rest[1 : 1 + n]), rest[1 + n :]
        if kind in _OF_A_REVISION:
            return HubName(repo, revision=_not_main(revision), folder="/".join(rest) or None)
        return HubName(repo, file="/".join(rest), revision=_not_main(revision)) if rest else None
    file = "/".join(rest)
    if rest and not file.lower().endswith(".gguf"):
        return None
    return (
        HubName(repo, file=file or None, revision=_not_main(revision)) if "\\" not in file and ":" not in file else None
    )


def _not_main(revision: str | None) -> str | None:
    return None if revision == MAIN else revision


# ---- which file of a repository ----


def is_model_file(file: str) -> bool:
    """Whether a .gguf file can be a model by its name, and not what stands beside models: mmproj, imatrix, and heads
    for speculation (eagle3, mtp-, dflash), which answer nothing by themselves."""
    return not _NOT_A_MODEL.search(file)


def choose_file(files: Iterable[str], name: HubName) -> str:
    """The file of a repository that `name` means; a split model's first part. ModelFileError if none."""
    where = name.repo + (f", folder {name.folder}," if name.folder else "")
    inside = [file for file in files if not name.folder or file.startswith(f"{name.folder}/")]
    ggufs = {all_parts(file)[0] for file in inside if file.lower().endswith(".gguf")}
    models = sorted(filter(is_model_file, ggufs))
    if not models:
        hint = f"write {name.repo}:QUANT" if name.folder else "look for a repository with GGUF in its name"
        raise ModelFileError(f"{where} has no .gguf file ({hint})")
    quant = name.quant
    if name.file:
        if all_parts(name.file)[0] in ggufs:
            return all_parts(name.file)[0]
        quant = name.file[: -len(".gguf")]
        if not _QUANT.fullmatch(quant):
            raise _no_file(name, models)
    available = ", ".join(sorted({quant_of(model) or model for model in models}))
    if quant:
        matching = _with_quant(models, quant)
        if not matching:
            near = nearest_quant(quant, {tag for model in models if (tag := quant_of(model))})
            hint = f"; did you mean {name.repo}:{near}?" if near else ";"
            raise ModelFileError(f"{where} has no {quant} file{hint} it has: {available}")
    else:
        matching = next(filter(None, (_with_quant(models, quant) for quant in DEFAULT_QUANTS)), models)
        if matching is models and len(models) > 1:
            raise ModelFileError(f"{where} has several files; add one of these, {name.repo}:QUANT: {available}")
    if len(matching) > 1:
        raise ModelFileError(f"'{name}' fits several files; name one, {name.repo}/FILE: {', '.join(matching)}")
    return matching[0]


def _no_file(name: HubName, models: list[str]) -> ModelFileError:
    """The error for a file that the repository does not have, or that is no model."""
    assert name.file
    if not name.file.lower().endswith(".gguf"):
        return ModelFileError(f"'{name.file}' of {name.repo} is no .gguf file; it has: {', '.join(models)}")
    near = get_close_matches(name.file, models, n=1, cutoff=0.8)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return ModelFileError(f"{name.repo} has no file '{name.file}'{hint} it has: {', '.join(models)}")


def quant_of(file: str) -> str | None:
    """The quant tag in a file's name, as `canonical` spells it: the last one where it has several."""
    return canonical(file) if _QUANT.search(file) else None


def canonical(quant: str) -> str:
    """A quant tag in upper case, without what stands before it (i1-), and F16 for FP16."""
    tags = _QUANT.findall(quant)
    return re.sub(r"^FP(16|32)$", r"F\1", (tags[-1] if tags else quant).upper())


def nearest_quant(quant: str, available: Iterable[str]) -> str | None:
    """The tag that was probably meant: of as many bits, and with this beginning if there is one; None if none is."""
    bits = re.search(r"\d+", quant)
    alike = [tag for tag in available if bits and (found := re.search(r"\d+", tag)) and found[0] == bits[0]]
    alike.sort(key=lambda tag: (DEFAULT_QUANTS.index(tag) if tag in DEFAULT_QUANTS else len(DEFAULT_QUANTS), tag))
    begun = [tag for tag in alike if tag.replace("_", "").startswith(re.sub(r"[_\W]", "", canonical(quant)))]
    return next(iter(begun or alike), None)


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
    exact = [model for model in models if tags[model] == canonical(quant)]
    return exact or [model for model in models if tags[model] == f"UD-{canonical(quant)}"]
