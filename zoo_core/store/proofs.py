"""Remembering which files had which hash, so that an unchanged file is hashed once.

A file counts as unchanged while it is the same file by device and inode, with the same size and
the same times of its last change. The time of change (ctime) cannot be set from outside. What is
noted lies beside the cache, which others may write to, and is sealed with a key that lies in the
user's configuration directory.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from zoo_core.manifest import config_directory

# Of a file changed this recently another change may not show in its times.
_SETTLED_NS: Final = 2_000_000_000


def is_proven(sha256: str, status: os.stat_result) -> bool:
    """Tell whether a file in this state is known to have this hash and finite values."""
    try:
        noted = json.loads(_place(sha256, status).read_bytes())
        return bool(noted == _sealed(sha256, status, _key_file().read_bytes()))
    except (OSError, ValueError):
        return False


def remember(sha256: str, status: os.stat_result) -> None:
    """Note that the file in this state has this hash; a directory that is read-only is no error."""
    if time.time_ns() - status.st_ctime_ns < _SETTLED_NS:
        return
    with suppress(OSError):
        _write(_place(sha256, status), json.dumps(_sealed(sha256, status, _key())).encode())


def forget(sha256: str, status: os.stat_result) -> None:
    """Drop what was noted of a file."""
    with suppress(OSError):
        _place(sha256, status).unlink()


def _sealed(sha256: str, status: os.stat_result, key: bytes) -> dict[str, Any]:
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    state = {name: getattr(status, name) for name in names}
    text = json.dumps([sha256, *state.values()]).encode()
    return {**state, "seal": hmac.digest(key, text, "sha256").hex()}


def _key() -> bytes:
    """Give the key of the seals, making one at first."""
    file = _key_file()
    if not file.exists():
        _write(file, secrets.token_bytes(32))
    return file.read_bytes()


def _key_file() -> Path:
    return config_directory() / "verified.key"


def _write(file: Path, content: bytes) -> None:
    """Write a file that nobody else reads, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_suffix(f".{os.getpid()}")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
    staged.replace(file)


def _place(sha256: str, status: os.stat_result) -> Path:
    from huggingface_hub import constants

    name = hashlib.sha256(f"{sha256} {status.st_dev} {status.st_ino}".encode()).hexdigest()
    return Path(constants.HF_HOME, "zoo", "verified", f"{name[:32]}.json")
