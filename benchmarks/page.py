"""The page, the charts and the file of figures that the measurements become."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from benchmarks.comparing import ZOO, Area, Comparison, Growth

FIGURES: Final = "figures.json"
PAGE: Final = "README.md"
COLOURS: Final = ("#4878a8", "#e49444", "#6a9f58", "#a87c9f", "#967662", "#85b6b2", "#d37295")


def machine() -> dict[str, str]:
    """Give what figures depend on: the day, the machine, Python, torch and the commit."""
    import torch

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    units = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    gpu = {"GPU": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "commit": _commit(),
        "on": date.today().isoformat(),
        "processor": f"{_processor()}, {'with' if units else 'no'} units for bfloat16",
        "cores": str(os.cpu_count()),
        **gpu,
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    root = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else "no repository"


def spread(values: Sequence[float]) -> str:
    """Give the median with the least and the most."""
    middle = statistics.median(values)
    low, high = min(values), max(values)
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


def table(comparisons: Sequence[Comparison]) -> str:
    """Give a table: what the peers took in times of the zoo, and the zoo in times of the limit."""
    peers = list(dict.fromkeys(name for one in comparisons for name in one.peers))
    limited = any(one.limit for one in comparisons)
    head = ["work", "of", *peers, *(["limit", "zoo / limit"] if limited else [])]
    rows = [
        [
            one.work,
            one.quantity,
            *(spread(one.ratios(name)) if name in one.taken else "" for name in peers),
            *([one.limit, spread(one.ratios(ZOO, one.limit)) if one.limit else ""] * limited),
        ]
        for one in comparisons
    ]
    return _markdown(head, rows)


def growth_table(growth: Growth) -> str:
    """Give a table of curves, in times of the zoo's at the first point."""
    head = [f"{growth.work}: {growth.quantity} by {growth.along}", *map(str, growth.points)]
    rows = [[name, *(f"{value:.3g}" for value in growth.curve(name))] for name in growth.taken]
    return _markdown(head, rows)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def chart(area: Area, file: Path) -> None:
    """Draw an area's ratios as bars, or its curves, and write them as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    count = len(area.growths) if area.growths and not area.comparisons else 1
    rows = sum(len(one.peers) + 1.2 for one in area.comparisons)
    size = (8, 0.8 + 0.22 * rows) if area.comparisons else (8, 3 * ((count + 1) // 2))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots((count + 1) // 2, min(count, 2), squeeze=False)
    if area.comparisons:
        _bars(axes[0][0], area.comparisons)
    else:
        for axis, growth in zip(axes.flat, area.growths, strict=False):
            _curves(axis, growth)
        for axis in axes.flat[count:]:
            axis.axis("off")
    with rc_context({"svg.hashsalt": "zoo"}):  # the same picture for the same figures
        figure.savefig(file, metadata={"Date": None})


def _bars(axis: Any, comparisons: Sequence[Comparison]) -> None:
    peers = list(dict.fromkeys(name for one in comparisons for name in one.peers))
    colours = dict(zip(peers, COLOURS * (1 + len(peers) // len(COLOURS)), strict=False))
    place, ticks = 0.0, []
    for one in comparisons:
        start = place
        for name in one.peers:
            ratios = one.ratios(name)
            middle = statistics.median(ratios)
            errors = [[middle - min(ratios)], [max(ratios) - middle]]
            axis.barh(place, middle, 0.9, xerr=errors, color=colours[name], ecolor="#888888")
            place += 1
        if one.limit:
            middle = statistics.median(one.ratios(one.limit))
            axis.vlines(middle, start - 0.5, max(place, start + 1) - 0.5, "#d1615d", linewidth=2)
        ticks.append(((start + max(place - 1, start)) / 2, f"{one.work} ({one.quantity})"))
        place += 1.2 if one.peers else 1
    axis.set_yticks([at for at, _ in ticks], [what for _, what in ticks], fontsize=7)
    axis.invert_yaxis()
    axis.axvline(1, color="#222222", linewidth=1)
    axis.set_xlabel("times of the zoo's; right of the line the zoo takes less", fontsize=8)
    if max((statistics.median(o.ratios(n)) for o in comparisons for n in o.peers), default=1) > 8:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    handles = [axis.barh(0, 0, color=colour) for colour in colours.values()]
    names = list(colours)
    if any(one.limit for one in comparisons):
        handles.append(axis.vlines([], 0, 1, "#d1615d", linewidth=2))
        names.append("limit")
    axis.figure.legend(handles, names, fontsize=7, loc="outside lower center", ncols=4)


def _curves(axis: Any, growth: Growth) -> None:
    for name, colour in zip(growth.taken, ("#222222", *COLOURS), strict=False):
        axis.plot(growth.points, growth.curve(name), marker="o", color=colour, label=name)
    if min(growth.points) > 0:
        axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(growth.points, list(map(str, growth.points)))
    axis.set_xlabel(growth.along, fontsize=8)
    axis.set_title(f"{growth.work}: {growth.quantity}", fontsize=8)
    axis.legend(fontsize=7)


def distances(areas: Sequence[Area], count: int = 10) -> str:
    """Give a table of the rows in which the zoo is farthest from the limit."""
    found = [
        (one.distance, area.title, one) for area in areas for one in area.comparisons if one.limit
    ]
    found.sort(key=lambda each: -(each[0] or 0))
    rows = [
        [title, one.work, one.quantity, one.limit, f"{distance:.3g}"]
        for distance, title, one in found[:count]
    ]
    return _markdown(["area", "work", "of", "limit", "zoo / limit"], rows)


def write(folder: Path, areas: Sequence[Area]) -> None:
    """Write the page, its charts and the figures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = [area.as_json() for area in areas]
    (folder / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for area in areas:
        chart(area, folder / f"{area.name}.svg")
    (folder / PAGE).write_text(page(areas), encoding="utf-8")


def page(areas: Sequence[Area]) -> str:
    """Give the page."""
    parts = [
        "# The zoo beside its peers",
        "Written by `python -m benchmarks`. All contenders do the same work in one run, in rounds "
        "that are interleaved. A cell is what a peer took in times of what the zoo took in the "
        "same round: the median, and the least and most in brackets. Above one, the zoo takes "
        "less. Where a limit is known, the last column is the zoo's distance from it.",
    ]
    if not any("GPU" in area.measured for area in areas):
        parts.append("No GPU was at hand, so none was measured.")
    parts += ["## Farthest from the limit", distances(areas)]
    for area in areas:
        parts += [f"## {area.title}", area.text]
        if area.comparisons:
            parts.append(table(area.comparisons))
            parts += [f"{one.work}: {one.remark}" for one in area.comparisons if one.remark]
        parts += map(growth_table, area.growths)
        parts += [f"![{area.title}]({area.name}.svg)", _circumstances(area)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _circumstances(area: Area) -> str:
    told = [f"{name} {value}" for name, value in {**area.measured, **area.versions}.items()]
    return f"Measured with {', '.join(told)}."
