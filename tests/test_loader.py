"""Loading plugins leaves the collection of garbage as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from zoo_core.loader import uncollected


class Cycle:
    """What only a collection of garbage takes away."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_nor_at_once_afterwards() -> None:
    collections = gc.get_stats()
    with uncollected():
        made: list[object] = [[] for _ in range(10 * gc.get_threshold()[0])]
        assert not gc.isenabled()
    made += [[] for _ in range(gc.get_threshold()[0] // 2)]
    assert gc.get_stats() == collections
    assert gc.isenabled()


def test_what_was_made_is_collected_later() -> None:
    with uncollected():
        cycle = Cycle()
        told = weakref.ref(cycle)
        del cycle
    assert any(kept is told() for kept in gc.get_objects(generation=2))
    gc.collect()
    assert told() is None


def test_a_program_that_collects_none_is_left_so() -> None:
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


def test_what_a_program_froze_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with uncollected():
        pass
    assert gc.get_freeze_count() == frozen > 0
