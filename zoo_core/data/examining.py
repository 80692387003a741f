"""Looking at every picture and mask, in several processes. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from multiprocessing import get_context
from signal import SIG_IGN, SIGINT, signal
from typing import Final, TypeVar

import numpy as np

from zoo_core.data.errors import DataError
from zoo_core.data.masks import Mask, Rules, check_sizes, read_mask
from zoo_core.data.reading import opened, orientation, to_channels, upright

T = TypeVar("T")
R = TypeVar("R")

_FEW: Final = 300
"""Pictures that are looked at sooner than other processes start."""

_CHUNK: Final = 16


@dataclass(frozen=True)
class Job:
    """A picture to look at, and its mask if it has one."""

    image: str
    mask: str | None = None


@dataclass(slots=True)
class Facts:
    """What was seen of a picture and its mask.

    Attributes:
        size: Width and height as it is shown; ``None`` if it cannot be read.
        mode: Pillow's mode of the file.
        turned: Whether its EXIF orientation turns it.
        digest: Hash of what is seen, in RGB; ``None`` if it cannot be read.
        pixels: Pixels of the mask by their number.
        flaws: What is wrong.
    """

    size: tuple[int, int] | None = None
    mode: str = ""
    turned: bool = False
    digest: bytes | None = None
    pixels: dict[int, int] = field(default_factory=dict)
    flaws: list[DataError] = field(default_factory=list)


def examine_all(jobs: Sequence[Job], rules: Rules, workers: int) -> Iterator[Facts]:
    """Look at pictures in several processes; facts come in the jobs' order."""
    yield from _in_processes(partial(examine, rules=rules), jobs, workers)


def count_pixels(masks: Sequence[str], workers: int) -> Iterator[dict[int, int]]:
    """Count the pixels of each number in masks, in several processes.

    Raises:
        DataError: If one cannot be read.
    """
    yield from _in_processes(_pixels, masks, workers)


def _in_processes(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    if workers < 2 or len(items) < _FEW:
        yield from map(function, items)
        return
    # Forked processes would inherit the locks of the threads that a library may have started.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, signal, (SIGINT, SIG_IGN)) as pool:
        yield from pool.map(function, items, chunksize=_CHUNK)


def _pixels(mask: str) -> dict[int, int]:
    return _counted(read_mask(mask))


def examine(job: Job, rules: Rules) -> Facts:
    """Look at a picture, and at its mask."""
    facts = Facts()
    try:
        with opened(job.image) as stored:
            facts.mode, facts.turned = stored.mode, orientation(stored) > 1
            picture = to_channels(upright(stored), 3)
            size = repr(picture.size).encode()
            facts.digest = blake2b(picture.tobytes(), key=size, digest_size=16).digest()
            facts.size = picture.size
    except DataError as error:
        facts.flaws.append(error)
    if job.mask is not None:
        _examine_mask(job, rules, facts)
    return facts


def _examine_mask(job: Job, rules: Rules, facts: Facts) -> None:
    assert job.mask is not None
    try:
        mask = read_mask(job.mask)
    except DataError as error:
        facts.flaws.append(error)
        return
    facts.pixels = _counted(mask)
    try:
        if facts.size is not None:
            check_sizes(job.image, facts.size, job.mask, (mask.shape[1], mask.shape[0]))
    except DataError as error:
        facts.flaws.append(error)
    try:
        rules.check(job.mask, mask)
    except DataError as error:
        facts.flaws.append(error)
    if set(facts.pixels) == {rules.ignore_index}:
        problem = f"every pixel is ignored ({rules.ignore_index})"
        mend = "leave it and its picture out, or correct it"
        facts.flaws.append(DataError(job.mask, problem, mend))


def _counted(mask: Mask) -> dict[int, int]:
    if mask.dtype == np.uint8:
        counts = np.bincount(mask.ravel(), minlength=256)
        return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
    numbers, found = np.unique(mask, return_counts=True)
    return dict(zip(numbers.tolist(), found.tolist(), strict=True))
