"""Deleting files of weights from the Hugging Face cache, and nothing else of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zoo_core.manifest import WeightsEntry
from zoo_core.store import known
from zoo_core.store.cache import COMMIT, Repository
from zoo_core.store.fetching import cached


@dataclass(frozen=True)
class Removal:
    """Some files of a cached repository that belong together.

    Attributes:
        what: What they are, for reading.
        cache: The repository.
        paths: The files, and the links to them.
        size: Bytes that become free.
    """

    what: str
    cache: Repository
    paths: tuple[Path, ...]
    size: int


def leftovers(entries: Iterable[WeightsEntry]) -> list[Removal]:
    """Give what the entries' repositories hold beside their files.

    That is unfinished downloads, unless somebody is at them, and revisions that no entry means.
    Other repositories of the cache are not looked at.
    """
    removals = []
    for name, group in _by_repository(entries).items():
        cache = Repository(name)
        removals += _unfinished(cache) + _other_revisions(cache, group)
    return removals


def all_of(entries: Iterable[WeightsEntry]) -> list[Removal]:
    """Give the files of entries, those of other revisions and unfinished ones too."""
    removals = []
    for name, group in _by_repository(entries).items():
        cache = Repository(name)
        removals += _unfinished(cache)
        for filename in dict.fromkeys(entry.filename for entry in group):
            links = sorted(cache.folder.glob(f"snapshots/*/{filename}"))
            hashes = {file.sha256 for entry in group if (file := cached(entry))}
            blobs = [blob for blob in map(cache.blob, sorted(hashes)) if blob.is_file()]
            removals += _removal(f"{filename} of {name}", cache, links, blobs)
    return removals


def remove(removal: Removal) -> None:
    """Delete files, and the folders and references that mean nothing without them."""
    for path in removal.paths:
        if not is_being_written(removal.cache, path):
            path.unlink(missing_ok=True)
    _tidy(removal.cache)


def _by_repository(entries: Iterable[WeightsEntry]) -> dict[str, list[WeightsEntry]]:
    groups: dict[str, list[WeightsEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.repository, []).append(entry)
    return groups


def _unfinished(cache: Repository) -> list[Removal]:
    what = f"unfinished download of {cache.name}"
    return [
        Removal(what, cache, (path,), path.stat().st_size)
        for path in sorted(cache.blobs.glob("*.incomplete"))
        if not is_being_written(cache, path)
    ]


def is_being_written(cache: Repository, path: Path) -> bool:
    """Tell whether an unfinished download goes on in some process."""
    from filelock import Timeout

    if path.suffix != ".incomplete":
        return False
    try:
        with cache.locked(path.name.partition(".")[0], timeout=0):
            return False
    except Timeout:
        return True


def _other_revisions(cache: Repository, entries: list[WeightsEntry]) -> list[Removal]:
    meant = {_commit(cache, entry) for entry in entries}
    if None in meant:  # an entry that was never used may mean any
        return []
    meant |= {commit for _, commit in _refs(cache)}  # other programs may want the newest
    files = {file.path.resolve() for entry in entries if (file := cached(entry))}
    links: list[Path] = []
    others = []
    for folder in sorted(cache.folder.glob("snapshots/*")):
        inside = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
        if folder.name not in meant and not files & {path.resolve() for path in inside}:
            others.append(folder.name[:12])
            links += inside
    return _removal(f"other revisions of {cache.name} ({', '.join(others)})", cache, links)


def _refs(cache: Repository) -> list[tuple[Path, str]]:
    """Give the files of branches and tags that were asked for, each with its commit."""
    refs = []
    for ref in sorted((cache.folder / "refs").rglob("*")):
        commit = ref.read_text(encoding="ascii", errors="replace").strip() if ref.is_file() else ""
        if COMMIT.fullmatch(commit):
            refs.append((ref, commit))
    return refs


def _commit(cache: Repository, entry: WeightsEntry) -> str | None:
    noted = known.recall(entry) if entry.revision is None else None
    return entry.revision or (noted.revision if noted else None) or cache.newest("main")


def _removal(
    what: str, cache: Repository, links: list[Path], blobs: Iterable[Path] = ()
) -> list[Removal]:
    """Give the removal of links and of the files that only they lead to; none of no files."""
    others = {path.resolve() for path in cache.folder.glob("snapshots/**/*") if path not in links}
    home = cache.blobs.resolve()
    led_to = {path.resolve() for path in links if path.is_symlink()} | {*blobs}
    files = {path for path in led_to if path.resolve().is_relative_to(home)} - others
    files |= {path for path in links if not path.is_symlink()}
    size = sum(path.stat().st_size for path in files if path.exists())
    paths = tuple(dict.fromkeys((*links, *sorted(files))))
    return [Removal(what, cache, paths, size)] if paths else []


def _tidy(cache: Repository) -> None:
    snapshots = cache.folder / "snapshots"
    for folder in sorted(snapshots.rglob("*"), reverse=True):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()
    for ref, commit in _refs(cache):
        if not (snapshots / commit).is_dir():
            ref.unlink()
    left = [*cache.folder.glob("blobs/*"), *cache.folder.glob("snapshots/*")]
    if not left:  # the Hub's own tools complain of a repository without revisions
        shutil.rmtree(cache.folder, ignore_errors=True)
