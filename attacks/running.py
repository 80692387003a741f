"""Child processes that are watched: time, memory and disk have limits."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attacks.victims import Call, Report, obey

MEMORY: Final = 3 * 2**30
DISK: Final = 2**29
_GLANCE: Final = 0.05

# Children are forked from a process that has these already; none reads the environment when it is
# imported, and one that is not there is left out.
_PRELOADED: Final = (
    "torch", "torchvision", "safetensors.torch", "tqdm.auto", "httpx", "httpx2", "yaml", "click",
    "filelock", "pluggy",
)  # fmt: skip
_SERVER: Final = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(_PRELOADED))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child process ended.

    Attributes:
        report: What it said; ``None`` if it came to no end of its own.
        limit: What it was ended for: ``time``, ``memory`` or ``disk``; empty if it was not.
        signal: The signal that it died of by itself.
    """

    report: Report | None = None
    limit: str = ""
    signal: int = 0


def run(call: Call, home: Path, seconds: float) -> Ended:
    """Run a call in a child process.

    Args:
        call: What it does.
        home: The folder that everything it writes goes to.
        seconds: How long it may take.
    """
    child = _SERVER.Process(target=obey, args=(call,), daemon=True)
    child.start()
    assert child.pid is not None
    before, deadline = _written(home), time.monotonic() + seconds
    limit = ""
    while child.is_alive() and not limit:
        child.join(_GLANCE)
        if _memory(child.pid) > MEMORY:
            limit = "memory"
        elif _written(home) - before > DISK:
            limit = "disk"
        elif time.monotonic() > deadline:
            limit = "time"
    if limit:
        child.kill()
    child.join()
    if limit or not call.report.exists():
        return Ended(limit=limit, signal=max(0, -(child.exitcode or 0)))
    return Ended(report=Report(**json.loads(call.report.read_text(encoding="utf-8"))))


def _memory(process: int) -> int:
    """Give the memory that a process has in use; 0 where Linux does not tell."""
    with suppress(OSError, IndexError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def _written(folder: Path) -> int:
    """Give the bytes that files in a folder take up on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(parent, name)).st_blocks * 512
    return total
