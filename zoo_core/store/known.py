"""Hashes of unpinned files, recorded when they were first used, as ssh does with host keys."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo_core.errors import WeightsError, ZooWarning
from zoo_core.manifest import WeightsEntry, config_directory
from zoo_core.store.cache import COMMIT, SHA256


@dataclass(frozen=True)
class Known:
    """What an unpinned file was when it was first used.

    Attributes:
        sha256: Its hash.
        size: Its bytes.
        revision: The commit it came from; empty where a plugin's store gave it.
        since: When that was, in UTC.
    """

    sha256: str
    size: int
    revision: str
    since: str


def known_file() -> Path:
    """Give the path of the record, in the user's configuration directory."""
    return config_directory() / "known-weights.json"


def recall(entry: WeightsEntry, store: str = "") -> Known | None:
    """Give what was recorded of an entry's file, ``None`` if it was never used.

    Args:
        entry: The entry.
        store: The distribution of the plugin that keeps the file; the Hub without one.

    Raises:
        WeightsError: If the record is damaged.
    """
    given = _read().get(_key(entry, store))
    return Known(**given) if given else None


def record(
    entry: WeightsEntry, sha256: str, size: int, revision: str = "", store: str = ""
) -> None:
    """Record what an entry's file is; an unwritable directory costs a warning.

    Args:
        entry: The entry.
        sha256: The file's hash.
        size: Its bytes.
        revision: The commit it came from, on the Hub.
        store: The distribution of the plugin that keeps the file; the Hub without one.

    Raises:
        WeightsError: If the record is damaged.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds")
    fresh = Known(sha256, size, revision, since)
    file = known_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file):
            _write({**_read(), _key(entry, store): asdict(fresh)})
    except OSError as error:
        warnings.warn(
            f"the hash of {entry.name} cannot be recorded in {file}, so a later change of the file "
            f"will go unnoticed: {error.strerror or error}",
            ZooWarning,
            stacklevel=2,
        )


def forget(entry: WeightsEntry) -> None:
    """Drop what was recorded of an entry's file, so that its next use records it anew."""
    if recall(entry) is None:
        return
    with _locked(known_file()):
        _write({key: value for key, value in _read().items() if key != _key(entry)})


def _key(entry: WeightsEntry, store: str = "") -> str:
    if store:
        return f"{store}:{entry.name}"
    return f"{entry.repository}@{entry.revision or 'main'}/{entry.filename}"


def _read() -> dict[str, Any]:
    file = known_file()
    try:
        everything = json.loads(file.read_text(encoding="utf-8"))
        for given in everything.values():
            _check(Known(**given))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise WeightsError(
            f"{file}: the record of hashes cannot be read: {error.strerror}"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{file}: the record of hashes is damaged ({error}); mend it, or delete it to trust "
            f"what the Hub announces now"
        ) from error
    return dict(everything)


def _check(given: Known) -> None:
    if not (
        SHA256.fullmatch(given.sha256)
        and type(given.size) is int
        and (given.revision == "" or COMMIT.fullmatch(given.revision))
        and isinstance(given.since, str)
    ):
        raise ValueError(f"{asdict(given)} is no hash, size, commit and date")


def _write(everything: dict[str, Any]) -> None:
    file = known_file()
    staged = file.with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    staged.replace(file)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    from filelock import FileLock

    with FileLock(file.with_suffix(".lock"), timeout=20):
        yield
