"""Remembering which files had which hash, so that an unchanged file is hashed once.

A file counts as unchanged while it is the same file by device and inode, with the same size and
the same times of its last change. The time of change (ctime) cannot be set from outside. The notes
lie in the user's configuration directory: to a cache that is shared, others may write.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from zoo_core.manifest import config_directory

# Of a file changed this recently another change may not show in its times.
_SETTLED_NS: Final = 2_000_000_000


def is_proven(sha256: str, status: os.stat_result) -> bool:
    """Tell whether a file in this state is known to have this hash and finite values."""
    try:
        return bool(json.loads(_place(sha256, status).read_bytes()) == _state(status))
    except (OSError, ValueError):
        return False


def remember(sha256: str, status: os.stat_result) -> None:
    """Note that the file in this state has this hash; a directory that is read-only is no error."""
    if time.time_ns() - status.st_ctime_ns < _SETTLED_NS:
        return
    place = _place(sha256, status)
    staged = place.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(json.dumps(_state(status)), encoding="utf-8")
        staged.replace(place)


def forget(sha256: str, status: os.stat_result) -> None:
    """Drop what is noted of the file in this state, if anything is."""
    with suppress(OSError):
        _place(sha256, status).unlink()


def _state(status: os.stat_result) -> dict[str, int]:
    keys = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return {key: getattr(status, key) for key in keys}


def _place(sha256: str, status: os.stat_result) -> Path:
    name = hashlib.sha256(f"{sha256} {status.st_dev} {status.st_ino}".encode()).hexdigest()
    return config_directory() / "verified" / f"{name[:32]}.json"
