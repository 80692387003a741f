"""``python -m benchmarks``, for real, with few rounds of small work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.__main__ import AREAS
from benchmarks.comparing import Area, Comparison
from benchmarks.page import FIGURES, PAGE, growth_table

ROOT = Path(__file__).parent.parent.parent
FAST = ("data", "plugins")
THERE = [name for name in AREAS if (ROOT / "benchmarks" / f"{name}.py").exists()]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def measured(folder: Path, *names: str) -> list[Area]:
    """Measure areas, and give those that the folder has figures of then."""
    done = run(*names, "--quick", "-o", folder)
    missing = re.search(r"cannot be measured without (\w+): pip install", done.stderr)
    if missing and find_spec(missing[1]) is None:
        pytest.skip(f"{missing[1]} is not installed")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder / PAGE}\n"
    return [Area.from_json(one) for one in json.loads((folder / FIGURES).read_text())]


def check(area: Area, folder: Path) -> None:
    """Check that an area is whole, and all of it on the page."""
    shown = (folder / PAGE).read_text(encoding="utf-8")
    assert json.loads(json.dumps(area.as_json())) == area.as_json()
    assert area.comparisons or area.growths
    for comparison in area.comparisons:
        check_comparison(comparison)
        assert f"\n| {comparison.work} | {comparison.quantity} | " in shown
    for growth in area.growths:
        assert "zoo" in growth.taken
        assert all(len(points) == len(growth.points) for points in growth.taken.values())
        assert growth_table(growth) in shown
    assert f"## {area.title}\n\n{area.text}\n" in shown
    assert f"({area.name}.svg)" in shown
    assert "<svg" in (folder / f"{area.name}.svg").read_text(encoding="utf-8")
    assert set(area.measured) >= {"commit", "on", "processor", "cores", "Python", "torch"}
    assert area.versions


def check_comparison(comparison: Comparison) -> None:
    assert {"zoo", comparison.limit} - {""} <= set(comparison.taken)
    assert len(comparison.taken) > 1
    assert len({len(rounds) for rounds in comparison.taken.values()}) == 1
    assert all(value > 0 for rounds in comparison.taken.values() for value in rounds)


def test_a_second_run_keeps_the_figures_of_the_first(tmp_path: Path) -> None:
    first = measured(tmp_path, FAST[0])
    assert [area.name for area in first] == [FAST[0]]
    both = {area.name: area for area in measured(tmp_path, FAST[1])}
    assert both[FAST[0]] == first[0]
    assert list(both) == sorted(FAST, key=AREAS.index)
    for area in both.values():
        check(area, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(THERE) - set(FAST), key=AREAS.index))
def test_an_area_is_measured_and_shown(name: str, tmp_path: Path) -> None:
    (area,) = measured(tmp_path, name)
    assert area.name == name
    check(area, tmp_path)


def test_a_missing_peer_costs_one_line_and_no_figures(tmp_path: Path) -> None:
    peer = tmp_path / "peers" / "skimage.py"
    peer.parent.mkdir()
    peer.write_text("raise ModuleNotFoundError(\"No module named 'skimage'\", name='skimage')\n")
    done = run("data", "--quick", "-o", tmp_path / "page", PYTHONPATH=str(peer.parent))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "measuring data",
        "Error: data cannot be measured without skimage: "
        "pip install -r requirements.txt -e '.[bench]'",
        "Error: not measured, for the reasons above: data",
    ]
    assert not (tmp_path / "page").exists()


def test_quick_figures_do_not_go_into_the_documents() -> None:
    done = run("--quick")
    assert done.returncode == 2
    assert "--quick gives no figures for docs/benchmarks: add -o DIR" in done.stderr


def test_an_unknown_area_is_refused() -> None:
    done = run("speed")
    assert done.returncode == 2
    assert "'speed' is not one of" in done.stderr


def test_help_names_all_areas_and_gives_examples() -> None:
    shown = run("--help").stdout
    flat = " ".join(shown.split())
    assert "Examples:\n" in shown
    assert all(name in flat for name in AREAS)
    assert max(map(len, shown.splitlines())) <= 80
