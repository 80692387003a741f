"""What a measurement gives, and how contenders are timed side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
ZOO: Final = "zoo"


@dataclass(frozen=True)
class Comparison:
    """The same work, done by the zoo and by others in interleaved rounds.

    Attributes:
        work: What was done, such as ``"ResNet-50, 224 px"``.
        taken: What each contender took in each round, in one unit; the zoo is called ``"zoo"``.
        quantity: What it took: ``"time"``, ``"peak memory"``, ``"operations"``.
        limit: The contender that nobody could undercut, such as a bare forward; empty where none
            is known.
        remark: What a reader must know to read the numbers.
    """

    work: str
    taken: Mapping[str, Sequence[float]]
    quantity: str = "time"
    limit: str = ""
    remark: str = ""

    @property
    def peers(self) -> list[str]:
        """The contenders beside the zoo and the limit."""
        return [name for name in self.taken if name not in (ZOO, self.limit)]

    def ratios(self, name: str, to: str = ZOO) -> list[float]:
        """Give what one took, in times of what another took in the same round."""
        return [one / other for one, other in zip(self.taken[name], self.taken[to], strict=True)]

    @property
    def distance(self) -> float | None:
        """The median of what the zoo took, in times of the limit; nothing where none is known."""
        return statistics.median(self.ratios(ZOO, self.limit)) if self.limit else None


@dataclass(frozen=True)
class Growth:
    """How what each takes grows along something, such as the size of the batch.

    Attributes:
        work: What was done.
        along: What grows.
        points: Its values, smallest first.
        taken: What each contender took at each point in each round, in one unit.
        quantity: What it took.
    """

    work: str
    along: str
    points: Sequence[int]
    taken: Mapping[str, Sequence[Sequence[float]]]
    quantity: str = "time"

    def curve(self, name: str) -> list[float]:
        """Give the medians of one contender in times of the zoo's at the first point."""
        first = statistics.median(self.taken[ZOO][0])
        return [statistics.median(rounds) / first for rounds in self.taken[name]]


@dataclass(frozen=True)
class Area:
    """All that one module of the benchmarks measures.

    Attributes:
        name: The module's name.
        title: The heading.
        text: What was done, for the page, in Markdown.
        comparisons: One row of the table each.
        growths: One small table each.
        versions: The version of each library that was measured.
        measured: On what machine, when, and at which commit.
    """

    name: str
    title: str
    text: str
    comparisons: Sequence[Comparison] = ()
    growths: Sequence[Growth] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give it for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Area:
        """Give what :meth:`as_json` gave."""
        return cls(
            **{
                **read,
                "comparisons": [Comparison(**one) for one in read["comparisons"]],
                "growths": [Growth(**one) for one in read["growths"]],
            }
        )


def in_turn(
    runs: Mapping[str, Callable[[], Result]], rounds: int, warm: int = 1
) -> dict[str, list[Result]]:
    """Give what each run gave in each round.

    Each round runs all of them in turn, so that whatever else the machine does falls on all. Every
    other round goes backwards, so that nobody always follows the same one.

    Args:
        runs: What to run, by contender.
        rounds: How many count.
        warm: How many come before and do not count.
    """
    found: dict[str, list[Result]] = {name: [] for name in runs}
    for number in range(-warm, rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            given = runs[name]()
            if number >= 0:
                found[name].append(given)
    return found


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Give the seconds that a run takes."""
    start = clock()
    run()
    return clock() - start


def interleaved(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Give the seconds that each run took in each round; see :func:`in_turn`.

    Args:
        runs: What to time, by contender.
        rounds: How many count.
        warm: How many come before and do not count.
        clock: What tells the time; ``time.process_time`` stands still while other programs run.
    """
    timed = {name: partial(seconds, run, clock) for name, run in runs.items()}
    return in_turn(timed, rounds, warm)
