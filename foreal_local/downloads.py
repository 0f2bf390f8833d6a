"""Files of the hub that come into its cache: resumed after any end of the process, checked, and where there is room.

Knows the hub's cache as its documentation describes it (blobs/HASH, snapshots/COMMIT/FILE), and which bytes of a file
are there. Does not know which file a name means (hub_names.py), nor how errors are told (hub.py).

From its version 1.18 on the hub's library begins a file again in each call, and with Xet each version does. So the
content is fetched here, by its own function for plain HTTP, into blobs/HASH.part, which the next call goes on with.
When it is whole and has the hash that the hub gives, it becomes blobs/HASH, and the library finds it there and links
it, as it does with every blob that another revision has brought. Should a later version keep its cache otherwise, it
downloads the file itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import DownloadError, ModelFileError
from .hub_names import HubName

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_BLOB = _COMMIT = re.compile(r"[0-9a-f]{40}")
_READ_AT_A_TIME = 8 * 2**20
_LONG_TO_READ = 10**9
_KEPT_FREE = 100 * 10**6
"""Bytes that a download leaves free on its disk."""
_MOST_BY_HTTP = 50 * 10**9
"""Bytes above which the hub gives a file by Xet only."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class HubFile:
    """One file on the hub, and where it goes.

    name: as the user wrote the model
    file: in the repository
    commit: of the repository
    etag: the hash of its content: SHA-256, or that of a Git blob for small files; empty where the hub gives none
    size: in bytes; None where the hub does not say
    home: of its repository in the cache
    """

    name: HubName
    file: str
    commit: str
    etag: str
    size: int | None
    home: Path

    @property
    def blob(self) -> Path:
        """Where the content is, once it is whole."""
        return self.home / "blobs" / self.etag

    @property
    def part(self) -> Path:
        """Where the content is as long as it is not whole."""
        return self.blob.with_name(f"{self.etag}.part")

    @property
    def link(self) -> Path:
        """Where the library finds the file by its name."""
        return self.home / "snapshots" / self.commit / self.file

    @property
    def is_here(self) -> bool:
        return self.link.exists() or bool(self.etag and self.blob.exists())

    @property
    def n_here(self) -> int:
        """Bytes that need not be fetched."""
        if self.is_here:
            return self.size or 0
        return self.part.stat().st_size if self.etag and self.part.exists() else 0

    @property
    def n_missing(self) -> int:
        return max(0, (self.size or 0) - self.n_here)


def look_up(name: HubName, file: str, revision: str | None) -> HubFile:
    """What the hub says of a file; the library's errors where it does not answer, or has none."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    about = get_hf_file_metadata(hf_hub_url(name.repo, file, revision=revision), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    etag, commit = about.etag or "", about.commit_hash or ""
    if not (_SHA256.fullmatch(etag) or _GIT_BLOB.fullmatch(etag)) or not _COMMIT.fullmatch(commit):
        etag = ""  # of another server: no name for a file, and nothing to check it by
    if any(part in ("", ".", "..") for part in file.split("/")) or "\\" in file:
        raise ModelFileError(f"{name.repo} has a file whose name leads elsewhere: {file!r}; choose another repository")
    home = Path(constants.HF_HUB_CACHE) / f"models--{name.repo.replace('/', '--')}"
    return HubFile(name, file, commit or revision or "main", etag, about.size, home)


def check_room(files: Sequence[HubFile]) -> None:
    """DownloadError unless the cache's disk has room for what is missing of all these files."""
    n_missing, n_free = sum(file.n_missing for file in files), free_bytes(cache_folder())
    if n_missing and n_missing + _KEPT_FREE > n_free:
        names = ", ".join(dict.fromkeys(str(file.name) for file in files if file.n_missing))
        raise DownloadError(
            f"not enough room for {names}: {gigabytes(n_missing)} to download, {gigabytes(n_free)} free in "
            f"{cache_folder()}; free some space, or set HF_HOME to a folder on another disk"
        )


def cache_folder() -> Path:
    """The hub's cache, which need not exist yet."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder that need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fetch(file: HubFile, say: Say) -> Path:
    """The file in the cache, with what was missing of it fetched.

    say: is told what takes time, and what was found
    """
    from huggingface_hub import hf_hub_download

    if not file.is_here and file.etag and (file.size or 0) <= _MOST_BY_HTTP:
        _fetch_content(file, say)
    return Path(hf_hub_download(file.name.repo, file.file, revision=file.name.revision))


def _fetch_content(file: HubFile, say: Say) -> None:
    from filelock import FileLock, Timeout

    locks = file.home.parent / ".locks" / file.home.name  # where the library has its own
    for folder in (locks, file.part.parent):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(locks / f"{file.part.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process, which downloads {file.file}")
        lock.acquire()
    try:
        if not file.is_here and not _download(file, say):
            say(f"what was here of {file.file} was not right: it is fetched again")
            _download(file, say)
    finally:
        lock.release()


def _download(file: HubFile, say: Say) -> bool:
    """Go on with the part; False where the beginning that was here turned out to be wrong, and is gone."""
    begun = file.n_here
    if file.size is not None and begun > file.size:
        file.part.unlink()
        begun = 0
    if begun:
        say(f"going on with {file.file}: {gigabytes(begun)} are here")
    if begun == 0 or begun != file.size:
        _append_rest(file, begun)
    if (file.size or 0) >= _LONG_TO_READ:
        say(f"checking {file.file}")
    found = _hash_of(file.part, file.etag)
    if found == file.etag:
        _put_in_place(file)
        return True
    file.part.unlink()
    if begun:
        return False
    raise DownloadError(
        f"{file.file} of {file.name.repo} came with the hash {found[:12]}, and the hub says {file.etag[:12]}: "
        "what came was removed; run it again, and if it stays so, another network or mirror may give the right one"
    )


def _append_rest(file: HubFile, begun: int) -> None:
    """Fetch the content from byte `begun` on; the function has been in the library, with these arguments, in all its
    versions from 0.34 to 2.4, to which scripts/hub_versions holds it."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(file.name.repo, file.file, revision=file.commit)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    with open(file.part, "ab") as part:
        http_get(
            url,
            part,
            resume_size=begun,
            headers=headers,
            expected_size=file.size,
            displayed_filename=Path(file.file).name,
        )
        part.flush()
        os.fsync(part.fileno())


def _hash_of(path: Path, like: str) -> str:
    """The content's hash of the kind that `like` is: SHA-256, or that of a Git blob."""
    digest = hashlib.sha256()
    if _GIT_BLOB.fullmatch(like):
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as content:
        while chunk := content.read(_READ_AT_A_TIME):
            digest.update(chunk)
    return digest.hexdigest()


def _put_in_place(file: HubFile) -> None:
    """The part becomes what the library looks for: a blob, or the file itself where there are no symbolic links."""
    from huggingface_hub.file_download import are_symlinks_supported

    target = file.blob if are_symlinks_supported(file.home) else file.link
    target.parent.mkdir(parents=True, exist_ok=True)
    file.part.replace(target)


def gigabytes(n_bytes: float) -> str:
    """A size as people write it."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
