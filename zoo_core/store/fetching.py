"""Getting a file of weights onto this machine, and knowing what it must be."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from zoo_core.catalogue import registry
from zoo_core.errors import DamagedFileError, WeightsError, ZooWarning
from zoo_core.loader import CATCH, describe
from zoo_core.manifest import WeightsEntry
from zoo_core.store import known, proofs
from zoo_core.store.cache import Repository
from zoo_core.store.download import download, hash_file
from zoo_core.store.hub import Hub, Progress, Remote
from zoo_core.store.licences import check_licence, is_non_commercial


@dataclass(frozen=True)
class WeightsFile:
    """A local file, and the hash it must have when it is read.

    Attributes:
        path: Where it lies.
        sha256: Its hash; it is compared with what is read when the file is loaded.
        commit: The commit of the Hub that it comes from; empty where that is not known.
        repository: The repository of the cache it is in; ``None`` outside the cache.
    """

    path: Path
    sha256: str
    commit: str = ""
    repository: str | None = None


def fetch(entry: WeightsEntry, *, licences: Collection[str] | None = None) -> WeightsFile:
    """Give the local file of a weights entry, downloading it if it is not cached.

    Plugins' stores are asked first, then the cache, then the Hugging Face Hub; ``HF_ENDPOINT``,
    ``HF_HOME`` and ``HF_HUB_OFFLINE`` are honoured. A cached file needs no request, and is not
    read here: whoever loads it compares its hash. The hash is the entry's; where that is unpinned,
    the one that the Hub announced when the file was first used.

    Args:
        entry: What to fetch.
        licences: The only licences that are accepted; ``None`` accepts all.

    Raises:
        WeightsError: If the file cannot be had, is not what it must be, or has another licence.
    """
    check_licence(entry, licences)
    given = _from_plugins(entry)
    if given is not None:
        return given
    file = cached(entry) or _from_hub(entry)
    if entry.sha256 is None and known.recall(entry) is None:
        known.record(entry, file.sha256, file.path.stat().st_size, file.commit)
    return file


def fetch_whole(entry: WeightsEntry) -> WeightsFile:
    """Give the local file of an entry as :func:`fetch` does, and compare its hash here already.

    Raises:
        WeightsError: If it cannot be had, or has another hash even when it is fetched again.
    """
    file = fetch(entry)
    status = file.path.stat()
    if proofs.is_proven(file.sha256, status):
        return file
    found = hash_file(file.path)
    if found == file.sha256:
        return file
    error = DamagedFileError(f"{file.path}: its sha256 is {found} instead of {file.sha256}")
    return fetch_again(entry, file, error)


def fetch_again(entry: WeightsEntry, file: WeightsFile, error: WeightsError) -> WeightsFile:
    """Replace a file of the cache that turned out to be damaged.

    Raises:
        WeightsError: If it cannot be had; ``error`` itself if the file is not in the cache.
    """
    if file.repository is None:
        raise error
    Repository(file.repository).discard(file.path)
    warnings.warn(f"{error}; it is deleted, and fetched again", ZooWarning, stacklevel=3)
    return fetch(entry)


def cached(entry: WeightsEntry) -> WeightsFile | None:
    """Give the file of an entry if it is in the cache, without asking the Hub or reading it.

    Raises:
        WeightsError: If the record of known hashes is damaged.
    """
    cache = Repository(entry.repository)
    noted = known.recall(entry) if entry.sha256 is None else None
    sha256 = entry.sha256 or (noted.sha256 if noted else None)
    commit = entry.revision or (noted.revision if noted else None) or cache.newest("main")
    if sha256 is None and commit is not None:
        sha256 = cache.announced(entry.filename, commit)
    if sha256 is None:
        return None
    path = cache.find(entry.filename, sha256, commit)
    return WeightsFile(path, sha256, commit or "", cache.name) if path else None


def announced_by_hub(entry: WeightsEntry, progress: Progress | None = None) -> Remote:
    """Ask the Hub what an entry's file is, and compare that with what is known of it.

    Raises:
        WeightsError: If it cannot be asked, or says otherwise than the entry does.
    """
    what = f"{entry.filename} of {entry.repository}"
    hub = Hub()
    if hub.offline:
        raise WeightsError(
            f"{what} is not in the cache, and HF_HUB_OFFLINE is set; a local file can be given "
            f"with --weights FILE (weights=…)"
        )
    remote = hub.ask(entry.repository, entry.filename, entry.revision or "main", progress)
    for name, ours, theirs in (
        ("revision", entry.revision, remote.commit),
        ("sha256", entry.sha256, remote.sha256),
        ("size", entry.size, remote.size),
    ):
        if ours is not None and theirs is not None and ours != theirs:
            raise WeightsError(
                f"{what}: {hub.endpoint} announces {name} {theirs}, and {entry.name} is pinned to "
                f"{ours}"
            )
    return remote


def _from_plugins(entry: WeightsEntry) -> WeightsFile | None:
    for distribution, call in registry.loader.call("zoo_fetch_weights", entry=entry):
        try:
            path = call()
            path = None if path is None else Path(path)
        except CATCH as error:
            raise WeightsError(
                f"plugin {distribution} cannot fetch {entry.name}: {describe(error)}"
            ) from error
        if path is not None:
            return _given(entry, path, distribution)
    return None


def _given(entry: WeightsEntry, path: Path, distribution: str) -> WeightsFile:
    """Give the file of a plugin's store with the hash it must have."""
    try:
        there = path.is_file()
    except OSError:  # a name longer than there can be
        there = False
    if not there:
        raise WeightsError(f"plugin {distribution} gives {path} for {entry.name}, which is no file")
    if entry.sha256 is not None:
        return WeightsFile(path, entry.sha256)
    noted = known.recall(entry, distribution)
    if noted is not None:
        return WeightsFile(path, noted.sha256)
    sha256 = hash_file(path)
    known.record(entry, sha256, path.stat().st_size, store=distribution)
    return WeightsFile(path, sha256)


def _from_hub(entry: WeightsEntry) -> WeightsFile:
    progress = Progress()
    remote = announced_by_hub(entry, progress)
    noted = known.recall(entry) if entry.sha256 is None else None
    if noted is not None and noted.sha256 != (remote.sha256 or noted.sha256):
        raise WeightsError(
            f"{entry.name} has changed: {entry.repository} announces sha256 {remote.sha256}, and "
            f"{noted.sha256} was recorded on {noted.since[:10]}; if the change is meant, "
            f"'zoo weights pin {entry.name}' writes the new hash into your registry"
        )
    if is_non_commercial(entry.licence):
        warnings.warn(
            f"{entry.name} may not be used commercially: its licence is {entry.licence}",
            ZooWarning,
            stacklevel=4,
        )
    cache = Repository(entry.repository)
    branch = None if entry.revision else "main"
    sha256 = download(Hub(), cache, entry.filename, remote, branch, entry.name)
    expected = entry.sha256 or (noted.sha256 if noted else sha256)
    if sha256 != expected:
        cache.discard(cache.blob(remote.sha256 or remote.blob or ""))
        raise WeightsError(
            f"{entry.filename} of {entry.repository} has sha256 {sha256}, and {entry.name} must "
            f"have {expected}; nothing of it was kept"
        )
    blob = cache.blob(remote.sha256 or remote.blob or "")
    return WeightsFile(blob, sha256, remote.commit, cache.name)
