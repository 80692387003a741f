"""The arithmetic of comparisons, and rounds in which contenders take turns."""

from __future__ import annotations

import itertools
import json

import pytest

from benchmarks.comparing import Area, Comparison, Growth, in_turn, interleaved, seconds

TAKEN = {"zoo": [2.0, 4.0, 3.0], "peer": [6.0, 8.0, 3.0], "bare": [1.0, 1.0, 2.0]}


def test_ratios_are_of_the_same_round() -> None:
    comparison = Comparison("work", TAKEN, limit="bare")
    assert comparison.ratios("peer") == [3, 2, 1]
    assert comparison.ratios("zoo", "bare") == [2, 4, 1.5]
    assert comparison.ratios("peer", "bare") == [6, 8, 1.5]


def test_distance_is_the_median_ratio_to_the_limit() -> None:
    assert Comparison("work", TAKEN, limit="bare").distance == 2


def test_without_a_limit_there_is_no_distance_and_all_others_are_peers() -> None:
    comparison = Comparison("work", TAKEN)
    assert comparison.distance is None
    assert comparison.peers == ["peer", "bare"]


def test_the_limit_is_no_peer() -> None:
    assert Comparison("work", TAKEN, limit="bare").peers == ["peer"]


def test_rounds_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        Comparison("work", {"zoo": [1.0, 2.0], "peer": [1.0]}).ratios("peer")


def test_curves_are_medians_in_times_of_the_zoos_first_point() -> None:
    taken = {"zoo": [[2.0, 2.0, 9.0], [4.0, 3.0, 5.0]], "peer": [[1.0, 1.0, 1.0], [8.0, 7.0, 9.0]]}
    growth = Growth("work", "batch", [1, 2], taken)
    assert growth.curve("zoo") == [1, 2]
    assert growth.curve("peer") == [0.5, 4]


def test_an_area_comes_back_from_a_file() -> None:
    area = Area(
        "name",
        "Title",
        "Text.",
        [Comparison("work", TAKEN, "peak memory", "bare", "A remark.")],
        [Growth("work", "batch", [1, 2], {"zoo": [[1.0], [2.0]]})],
        {"peer": "1.2"},
        {"commit": "abc"},
    )
    assert Area.from_json(json.loads(json.dumps(area.as_json()))) == area


def test_every_other_round_goes_backwards_and_warming_does_not_count() -> None:
    order: list[str] = []
    counter = itertools.count()

    def run(name: str) -> int:
        order.append(name)
        return next(counter)

    found = in_turn({"a": lambda: run("a"), "b": lambda: run("b")}, rounds=2, warm=1)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert found == {"a": [2, 5], "b": [3, 4]}


def test_a_runs_time_is_what_the_clock_goes_on_by() -> None:
    now = [0.0]

    def waits(time: float) -> None:
        now[0] += time

    taken = interleaved({"a": lambda: waits(1), "b": lambda: waits(3)}, 2, clock=lambda: now[0])
    assert taken == {"a": [1, 1], "b": [3, 3]}


def test_time_passes() -> None:
    assert 0 < seconds(lambda: sum(range(100_000))) < 60
