"""Attacks by whoever writes to the cache; the Hub cannot be reached meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from attacks import forge
from attacks.attack import Attack, Mount, everywhere
from attacks.stage import FILE, TORCHVISION, ZOO, Stage, Trial, is_honest

SETTLED: Final = 2.1
"""The zoo notes nothing of files that were written just now, for they may be written again."""

_STATE: Final = ("st_size", "st_mtime_ns", "st_ctime_ns")


def _after(change: Callable[[Stage, Path], object], *, seconds: float = 0) -> Mount:
    """Change the cached file after it was loaded once.

    Args:
        change: Changes it.
        seconds: How old the file is by then.
    """

    def mount(stage: Stage) -> Trial:
        blob = stage.cached()
        if stage.victim == ZOO:  # the others remember nothing of it
            time.sleep(seconds)
            stage.perform(stage.load())
        change(stage, blob)
        return Trial(call=stage.load(), harmless=is_honest)

    return mount


def _pickled(stage: Stage, blob: Path) -> None:
    content: dict[str, Any] = {**stage.honest, "payload": forge.Payload(stage.canary)}
    blob.write_bytes(forge.checkpoint(content))


def _rewritten(stage: Stage, blob: Path) -> None:
    """Write other weights in place, with the file's old times."""
    before = blob.stat()
    blob.write_bytes(stage.written(stage.evil))
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))


def _proven(stage: Stage, blob: Path) -> None:
    """Write other weights, and note beside the cache that they were compared with the hash.

    What the zoo noted itself of the honest file is copied, with the new file's state in it.
    """
    _rewritten(stage, blob)
    now = blob.stat()
    for note in (stage.home / "huggingface" / "zoo").rglob("*.json"):
        told = json.loads(note.read_text())
        note.write_text(json.dumps({**told, **{key: getattr(now, key) for key in _STATE}}))


def _linked_elsewhere(stage: Stage, blob: Path) -> None:
    elsewhere = stage.folder / "elsewhere.bin"
    elsewhere.write_bytes(stage.written(stage.evil))
    blob.unlink()
    blob.symlink_to(elsewhere)


def _snapshot_linked_elsewhere(stage: Stage, blob: Path) -> None:
    elsewhere = stage.folder / "elsewhere.bin"
    elsewhere.write_bytes(stage.written(stage.evil))
    blob.unlink()
    placed = stage.cache_folder / "snapshots" / ("c" * 40) / FILE
    placed.unlink()
    placed.symlink_to(elsewhere)


def _truncated(stage: Stage, blob: Path) -> None:
    os.truncate(blob, blob.stat().st_size // 2)


def _piped(stage: Stage, blob: Path) -> None:
    blob.unlink()
    os.mkfifo(blob)


ATTACKS: Final = [
    Attack(
        name="cache-pickle",
        title="a checkpoint with a payload in the place of the cached file",
        mounts=everywhere(_after(_pickled)),
    ),
    Attack(
        name="cache-rewritten",
        title="other weights written into the cached file, its times put back",
        mounts=everywhere(_after(_rewritten, seconds=SETTLED)),
    ),
    Attack(
        name="cache-proven",
        title="the same, and what the zoo noted of the honest file changed to fit",
        mounts={ZOO: _after(_proven, seconds=SETTLED)},
    ),
    Attack(
        name="cache-truncated",
        title="a cached file cut in half",
        mounts=everywhere(_after(_truncated)),
    ),
    Attack(
        name="cache-link",
        title="a link to other weights in the place of the cached file",
        mounts=everywhere(_after(_linked_elsewhere)),
    ),
    Attack(
        name="cache-snapshot",
        title="a link out of the cache in the place of the snapshot's",
        mounts=everywhere(_after(_snapshot_linked_elsewhere), TORCHVISION),
    ),
    Attack(
        name="cache-pipe",
        title="a named pipe in the place of the cached file",
        mounts=everywhere(_after(_piped)),
        seconds=20,
    ),
]
