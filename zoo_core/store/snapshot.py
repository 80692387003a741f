"""Several files of one commit of a repository, fetched together."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zoo_core.errors import WeightsError, ZooWarning
from zoo_core.manifest import RULES
from zoo_core.store.cache import COMMIT, SHA256, Repository
from zoo_core.store.download import download
from zoo_core.store.hub import Hub, Progress, Remote, UnreachableError

_REVISION: Final = re.compile(r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


@dataclass(frozen=True)
class CachedFile:
    """A file of the cache.

    Attributes:
        path: Where it lies, under its own name.
        sha256: The hash that it must have, to be compared when it is read; ``None`` for a small
            file, which was compared with its git hash already.
    """

    path: Path
    sha256: str | None


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit.

    Attributes:
        repository: Owner and name.
        commit: The commit.
        files: The files by name.
    """

    repository: str
    commit: str
    files: Mapping[str, CachedFile]


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which files of a repository are wanted, and how; as huggingface-hub's options say.

    Attributes:
        repository: Owner and name.
        largest: The names of the files, each with the most bytes that it may have.
        revision: A branch, a tag or a commit; ``main`` by default.
        token: Who asks; by default whom ``hf auth login`` or ``HF_TOKEN`` named, ``False`` nobody.
        cache_dir: The cache's folder; by default the one that ``HF_HUB_CACHE`` names.
        force_download: Whether to fetch what is in the cache too.
        local_files_only: Whether to use only what is in the cache.

    Raises:
        WeightsError: If the repository or the revision cannot be one.
    """

    repository: str
    largest: Mapping[str, int]
    revision: str = "main"
    token: str | bool | None = None
    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    local_files_only: bool = False

    def __post_init__(self) -> None:
        problem = RULES["repository"](self.repository)
        if problem:
            raise WeightsError(problem)
        if not isinstance(self.revision, str) or not _REVISION.fullmatch(self.revision):
            raise WeightsError(
                f"{self.repository}: revision {self.revision!r} is no branch, tag or commit"
            )
        if self.force_download and self.local_files_only:
            raise WeightsError(
                f"{self.repository}: force_download and local_files_only contradict each other"
            )

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, whose files never change."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def cache(self) -> Repository:
        """The repository's folder in the cache."""
        return Repository(self.repository, self.cache_dir)


def fetch_files(query: Query) -> Snapshot:
    """Give files of a repository, all of one commit, downloading those that are not cached.

    Of a commit that is cached the Hub is not asked. It is asked each time which commit a branch
    is at; where it cannot be reached, the commit that the branch was at before is used, with a
    warning. ``HF_ENDPOINT``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` are honoured.

    Raises:
        WeightsError: If a file cannot be had, or is not what was announced.
    """
    hub = Hub(query.token)
    if query.pinned and not query.force_download:
        found = _cached(query, query.revision)
        if found is not None:
            return found
    if hub.offline or query.local_files_only:
        return _without_hub(query, "HF_HUB_OFFLINE" if hub.offline else "local_files_only")
    try:
        return _from_hub(query, hub)
    except UnreachableError as error:
        return _instead(query, hub, error)


def discard_damaged(query: Query, file: CachedFile, error: WeightsError) -> None:
    """Delete a file of the cache that turned out to be damaged, and say so."""
    query.cache.discard(file.path)
    warnings.warn(f"{error}; it is deleted, and fetched again", ZooWarning, stacklevel=2)


def _without_hub(query: Query, why: str) -> Snapshot:
    commit = query.revision if query.pinned else query.cache.newest(query.revision)
    found = _cached(query, commit) if commit and not query.force_download else None
    if found is None:
        raise WeightsError(f"{_name(query)} is not in the cache, and {why} is set")
    return found


def _instead(query: Query, hub: Hub, error: UnreachableError) -> Snapshot:
    """Give what a branch was before, where the Hub gives no answer."""
    reason = " ".join(str(error.__cause__ or error).split())
    commit = None if query.pinned or query.force_download else query.cache.newest(query.revision)
    found = _cached(query, commit) if commit else None
    if found is None:
        where = "cannot be fetched" if query.force_download else "is not in the cache"
        raise UnreachableError(
            f"{_name(query)} {where}, and {hub.endpoint} cannot be reached ({reason})"
        ) from error
    warnings.warn(
        f"{hub.endpoint} cannot be reached ({reason}), so {_name(query)} is taken from the cache, "
        f"at commit {commit}; there may be a newer one",
        ZooWarning,
        stacklevel=3,
    )
    return found


def _name(query: Query) -> str:
    default = query.revision == "main"
    return query.repository if default else f"revision {query.revision} of {query.repository}"


def _cached(query: Query, commit: str) -> Snapshot | None:
    """Give the files of a commit if all are in the cache."""
    files: dict[str, CachedFile] = {}
    for name in query.largest:
        file = _cached_file(query, commit, name)
        if file is None:
            return None
        files[name] = file
    return Snapshot(query.repository, commit, files)


def _cached_file(query: Query, commit: str, name: str) -> CachedFile | None:
    placed = query.cache.snapshot(commit, name)
    if not placed.is_file():
        return None
    # Where links cannot be made, no hash is known.
    key = placed.readlink().name if placed.is_symlink() else ""
    if SHA256.fullmatch(key):
        return CachedFile(placed, key)
    if COMMIT.fullmatch(key) and _git_hash(placed, query.largest[name]) != key:
        problem = WeightsError(f"{placed}: it does not have its git hash {key}")
        discard_damaged(query, CachedFile(placed, None), problem)
        return None
    return CachedFile(placed, None)


def _git_hash(file: Path, largest: int) -> str:
    """Give the hash that git has of a file; an empty text if it is too large to be looked at."""
    size = file.stat().st_size
    if size > largest:
        return ""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with file.open("rb") as opened:
        while block := opened.read(1024 * 1024):
            digest.update(block)
    return digest.hexdigest()


def _from_hub(query: Query, hub: Hub) -> Snapshot:
    progress = Progress()
    first = next(iter(query.largest))
    remote = hub.ask(query.repository, first, query.revision, progress)
    if query.pinned:
        _check_commit(query, remote, query.revision)
    commit = remote.commit
    for name in query.largest:
        if query.force_download or _cached_file(query, commit, name) is None:
            told = remote if name == first else hub.ask(query.repository, name, commit, progress)
            _check_commit(query, told, commit)
            _download(query, hub, name, told)
    found = _cached(query, commit) or _again(query, hub, commit)
    if not query.pinned:
        query.cache.point(query.revision, commit)
    return found


def _check_commit(query: Query, remote: Remote, commit: str) -> None:
    if remote.commit != commit:
        raise WeightsError(
            f"{query.repository}: asked for commit {commit}, the server answers with "
            f"{remote.commit}"
        )


def _download(query: Query, hub: Hub, name: str, remote: Remote) -> None:
    what = f"{name} of {query.repository}"
    if remote.size > query.largest[name]:
        raise WeightsError(
            f"{what} has {remote.size:,} bytes; at most {query.largest[name]:,} are read"
        )
    if query.force_download:
        query.cache.discard(query.cache.blob(remote.sha256 or remote.blob or ""))
    # The branch is noted when all files are there, so that what it was before can be fallen back
    # to until then.
    download(hub, query.cache, name, remote, None, what)


def _again(query: Query, hub: Hub, commit: str) -> Snapshot:
    """Fetch anew what was linked from a blob that turned out to be damaged."""
    for name in query.largest:
        if _cached_file(query, commit, name) is None:
            _download(query, hub, name, hub.ask(query.repository, name, commit))
    found = _cached(query, commit)
    if found is None:
        raise WeightsError(f"{query.repository}: {query.cache.folder} is changed meanwhile")
    return found
