"""The Hugging Face cache: room, leftovers, and files that cannot be right."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile
from typing import Final

from zoo_core.doctor.finding import Finding, note, ok, problem
from zoo_core.errors import ZooError
from zoo_core.manifest import WeightsEntry

SCARCE: Final = 5 * 10**9  # bytes: some dozen models
FULL: Final = 2 * 10**8  # bytes: less than a middling model


def examine() -> Iterator[Finding]:
    """Look at the folder, its file system, unfinished downloads, and the registry's files in it."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    yield _examine_folder(folder)
    yield from _examine_unfinished(folder)
    try:
        yield from _examine_files()
    except ZooError as error:  # of the registry files, which are told of by themselves
        yield note("cache", f"its files are not compared with the registry: {error}", "")


def _examine_folder(folder: Path) -> Finding:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        return problem(
            "cache",
            f"{folder} cannot be written: {error.strerror}",
            "export HF_HOME=… with a folder that can be written",
        )
    return judge_room(folder, free, exists=there == folder)


def judge_room(folder: Path, free: int, *, exists: bool = True) -> Finding:
    """Tell whether a folder's file system has room for weights."""
    name = f"{folder}{'' if exists else ', made when it is needed'}"
    found = f"{name}: {free / 1e9:,.1f} GB free"
    if free < FULL:
        return problem("cache", found, "zoo weights prune --all")
    if free < SCARCE:
        return note("cache", found, "zoo weights prune")
    return ok("cache", found)


def _examine_unfinished(folder: Path) -> Iterator[Finding]:
    from zoo_core.store.cache import Repository
    from zoo_core.store.pruning import is_being_written

    for place in sorted(folder.glob("models--*--*/blobs")):
        name = place.parent.name.removeprefix("models--").replace("--", "/", 1)
        files = [
            file
            for file in sorted(place.glob("*.incomplete"))
            if not is_being_written(Repository(name), file)
        ]
        if files:
            size = sum(file.stat().st_size for file in files) / 1e6
            found = f"{name}: a download was broken off and left {size:,.1f} MB"
            yield note("cache", found, f"rm {' '.join(quote(str(file)) for file in files)}")


def _examine_files() -> Iterator[Finding]:
    from zoo_core.store.fetching import cached
    from zoo_core.store.inventory import named_entries

    count = 0
    for name, entry in named_entries().items():
        file = cached(entry)
        if file is None:
            continue
        count += 1
        trouble = _trouble_of(entry, file.path)
        if trouble:
            yield problem(name, f"{file.path}: {trouble}", f"zoo weights pull {name}")
    if count:
        yield ok("cache", f"{count} weights of registry files; 'zoo weights verify' reads them all")


def _trouble_of(entry: WeightsEntry, path: Path) -> str:
    """Tell from a file's size and head what is wrong with it; nothing if they are right."""
    from zoo_core.store.header import header_length
    from zoo_core.store.known import recall

    noted = recall(entry) if entry.size is None else None
    wanted = entry.size or (noted.size if noted else None)
    size = path.stat().st_size
    if wanted is not None and size != wanted:
        return f"has {size:,} bytes, and should have {wanted:,}"
    with path.open("rb") as file:
        first = file.read(8)
    try:
        header_length(first, size, "it")
    except ZooError as error:
        return str(error)
    return ""
