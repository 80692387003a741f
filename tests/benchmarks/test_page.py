"""The tables, the charts and the page that figures become."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.comparing import Area, Comparison, Growth
from benchmarks.page import FIGURES, PAGE, distances, growth_table, machine, page, table, write

NEAR = Comparison("near", {"zoo": [2.0, 3.0], "peer": [4.0, 3.0], "bare": [1.0, 2.0]}, limit="bare")
FAR = Comparison("far", {"zoo": [50.0], "bare": [1.0]}, "peak memory", limit="bare")
FREE = Comparison("free", {"zoo": [1.0], "another": [0.5]}, remark="Nobody knows the limit.")
GROWTH = Growth("forward", "batch", [1, 8], {"zoo": [[2.0], [8.0]], "peer": [[1.0], [9.0]]})
AREA = Area("one", "One area", "What was done.", [NEAR, FAR, FREE], measured={"commit": "abc"})
CURVES = Area("two", "Two", "How it grows.", growths=[GROWTH, GROWTH, GROWTH])


def test_a_table_has_a_column_for_each_peer_and_the_distance() -> None:
    assert table([NEAR, FAR, FREE]).splitlines() == [
        "| work | of | peer | another | limit | zoo / limit |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| near | time | 1.5 (1–2) |  | bare | 1.75 (1.5–2) |",
        "| far | peak memory |  |  | bare | 50 (50–50) |",
        "| free | time |  | 0.5 (0.5–0.5) |  |  |",
    ]


def test_a_table_without_limits_has_no_column_for_them() -> None:
    assert table([FREE]).splitlines()[0] == "| work | of | another |"


def test_curves_stand_in_a_table_by_point() -> None:
    assert growth_table(GROWTH).splitlines() == [
        "| forward: time by batch | 1 | 8 |",
        "| --- | ---: | ---: |",
        "| zoo | 1 | 4 |",
        "| peer | 0.5 | 4.5 |",
    ]


def test_the_farthest_comes_first_and_what_has_no_limit_does_not_come() -> None:
    rows = distances([AREA]).splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["far", "near"]
    assert rows[0] == "| One area | far | peak memory | bare | 50 |"


def test_only_so_many_distances_are_shown() -> None:
    many = [replace(FAR, work=f"work {number}") for number in range(20)]
    rows = distances([replace(AREA, comparisons=many)], count=3).splitlines()[2:]
    assert len(rows) == 3


def test_the_page_tells_what_was_done_where_and_what_to_know() -> None:
    shown = page([AREA, CURVES])
    assert "## One area\n\nWhat was done.\n\n| work |" in shown
    assert "free: Nobody knows the limit." in shown
    assert "![One area](one.svg)" in shown
    assert "Measured with commit abc." in shown
    assert "No GPU was at hand" in shown


def test_the_page_does_not_miss_a_gpu_that_was_there() -> None:
    assert "No GPU" not in page([replace(AREA, measured={"GPU": "H200"})])


def test_charts_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write(tmp_path / folder, [AREA, CURVES])
    for name in ("one.svg", "two.svg", FIGURES, PAGE):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second"))
        assert first == second
        if name.endswith("svg"):
            assert ElementTree.fromstring(first).tag.endswith("svg")


def test_figures_are_written_in_full(tmp_path: Path) -> None:
    write(tmp_path, [AREA, CURVES])
    read = json.loads((tmp_path / FIGURES).read_text(encoding="utf-8"))
    assert [Area.from_json(one) for one in read] == [
        replace(AREA, growths=[]),
        replace(CURVES, comparisons=[]),
    ]


def test_the_machine_is_told() -> None:
    told = machine()
    assert told["torch"].startswith("2.")
    assert "units for bfloat16" in told["processor"]
    assert int(told["cores"]) >= 1
    assert told["commit"]
