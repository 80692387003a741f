"""Bringing a file of the Hub into the cache: whole and with its hash, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo_core.errors import WeightsError
from zoo_core.store.cache import Repository
from zoo_core.store.header import header_length, read_header
from zoo_core.store.hub import Hub, Progress, Remote, TransientError, WrongSizeError

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK = 1024 * 1024


def download(
    hub: Hub, cache: Repository, filename: str, remote: Remote, branch: str | None, title: str
) -> str:
    """Download a file and link it under its commit; give its sha256.

    A download that was cut off, in this process or an earlier one, goes on where it ended. What
    does not have the announced hash and size is deleted.

    Args:
        hub: Where from.
        cache: Where to.
        filename: The file's name in the repository.
        remote: What the Hub says of it.
        branch: The branch that this is the newest commit of, to be noted; ``None`` for none.
        title: What stands before the progress bar.

    Raises:
        WeightsError: If it cannot be had, is not what was announced, or the disk is full.
    """
    key = remote.sha256 or remote.blob or ""
    what = f"{filename} of {cache.name}"
    try:
        cache.blobs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"{what}: {cache.blobs} cannot be made: {error.strerror}; HF_HOME names another place "
            f"for the cache"
        ) from error
    with cache.locked(key):
        if not cache.blob(key).is_file():
            _check_room(cache, key, remote.size, what)
            _fill(hub, cache, filename, remote, key, title)
        sha256 = _adopt(cache, key, filename, what)
        cache.link(key, remote.commit, filename, branch)
    return sha256


def _adopt(cache: Repository, key: str, filename: str, what: str) -> str:
    """Give the sha256 of a blob that is whole; one that is no weights file is deleted."""
    blob = cache.blob(key)
    if filename.endswith(".safetensors"):
        try:
            check_safetensors(blob, what)
        except WeightsError:
            blob.unlink(missing_ok=True)
            raise
    return key if len(key) == 64 else hash_file(blob)


def hash_file(file: Path) -> str:
    """Give a file's sha256."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_safetensors(file: Path, where: str) -> None:
    """Check that a file's header is that of a safetensors file.

    Raises:
        WeightsError: If it is not.
    """
    with file.open("rb") as opened:
        total = os.fstat(opened.fileno()).st_size
        length = header_length(opened.read(8), total, where)
        read_header(opened.read(length), total, where)


def _fill(hub: Hub, cache: Repository, filename: str, remote: Remote, key: str, title: str) -> None:
    """Download into the unfinished file, check it, and give it its name.

    What is left of an earlier download may itself be damaged: then it is begun anew, once.
    """
    what = f"{filename} of {cache.name}"
    for fresh in (False, True):
        with _unfinished(cache.partial(key), fresh) as file:
            resumed = os.fstat(file.fileno()).st_size > 0
            try:
                found = _receive(hub, cache, filename, remote, file, title)
            except WrongSizeError:
                cache.partial(key).unlink(missing_ok=True)
                raise
        if found == key:
            cache.partial(key).replace(cache.blob(key))
            return
        cache.partial(key).unlink()
        if not resumed:
            break
    raise WeightsError(
        f"{what}: what {hub.endpoint} sent has the hash {found}, and it announced {key}; nothing "
        f"of it was kept"
    )


@contextmanager
def _unfinished(path: Path, fresh: bool) -> Iterator[BinaryIO]:
    if fresh or path.is_symlink():
        path.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "r+b") as file:
        yield file


def _receive(
    hub: Hub, cache: Repository, filename: str, remote: Remote, file: BinaryIO, title: str
) -> str:
    """Append to a file what it lacks; give the hash of the whole."""
    if os.fstat(file.fileno()).st_size > remote.size:
        file.truncate(0)
    digest = _resumed(file, remote)
    progress = Progress()
    with _bar(remote.size, title, file.tell()) as bar:

        def attempt() -> None:
            nonlocal digest
            if file.tell() == remote.size:
                return
            for place, block in hub.stream(cache.name, filename, remote, file.tell(), progress):
                if place != file.tell():  # a server without ranges begins anew
                    file.seek(0)
                    file.truncate()
                    digest = _start(remote)
                    bar.reset()
                file.write(block)
                digest.update(block)
                bar.update(len(block))
            file.flush()
            if file.tell() < remote.size:
                raise _cut(filename, file.tell(), remote.size)

        try:
            hub.persist(attempt, progress, f"{filename} of {cache.name}")
        finally:
            file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


def _cut(filename: str, have: int, size: int) -> Exception:
    return TransientError(f"{filename} broke off after {have:,} of {size:,} bytes")


def _resumed(file: BinaryIO, remote: Remote) -> _Hash:
    digest = _start(remote)
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest


def _start(remote: Remote) -> _Hash:
    """Begin the hash that the Hub announces: that of the file, or of the git blob."""
    if remote.sha256 is not None:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % remote.size, usedforsecurity=False)


def _check_room(cache: Repository, key: str, size: int, what: str) -> None:
    folder, partial = cache.blobs, cache.partial(key)
    have = partial.stat().st_size if partial.is_file() else 0
    free = shutil.disk_usage(folder).free + have
    if size > free:
        raise WeightsError(
            f"{what} has {size:,} bytes, and {folder} has room for {free:,}; HF_HOME names another "
            f"place"
        )


@contextmanager
def _bar(size: int, title: str, have: int) -> Iterator[Any]:
    """Show a progress bar on a terminal, unless ``HF_HUB_DISABLE_PROGRESS_BARS`` is set."""
    from huggingface_hub.utils.tqdm import tqdm

    with tqdm(  # type: ignore[no-untyped-call]
        total=size, initial=have, desc=title, unit="B", unit_scale=True, disable=None, leave=False
    ) as bar:
        yield bar
