"""``python -m benchmarks``: all measurements, or some areas, and the page of them.

Each area is measured in a process of its own, so that none inherits what another loaded or kept.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click

from benchmarks.comparing import Area
from benchmarks.page import FIGURES, PAGE, machine, write

AREAS: Final = (
    "startup", "plugins", "loading", "building", "forward", "decoders", "segmentation",
    "training", "data", "metrics", "explaining", "attention", "predicting", "growth",
)  # fmt: skip
"""Modules with a ``measure(quick)`` that gives an :class:`~benchmarks.comparing.Area`."""
FOLDER: Final = Path(__file__).parent.parent / "docs" / "benchmarks"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("areas", nargs=-1, type=click.Choice(AREAS), metavar="[AREA]...")
@click.option("--quick", is_flag=True, help="Few rounds of small work: does it run, not how fast.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    show_default="docs/benchmarks",
    metavar="DIR",
    help="Where page, charts and figures go; areas not measured now keep what is there.",
)
@click.option("--into", type=click.Path(path_type=Path), hidden=True, help="Measure one area here.")
def main(areas: tuple[str, ...], quick: bool, output: Path, into: Path | None) -> None:
    """Measure the zoo beside its peers, and write a page of ratios.

    AREA is one of startup, plugins, loading, building, forward, decoders, segmentation, training,
    data, metrics, explaining, attention, predicting and growth; all by default.

    \b
    Examples:
      python -m benchmarks
      python -m benchmarks startup metrics --quick -o /tmp/benchmarks
    """
    if into is not None:
        area = replace(_measured(areas[0], quick), measured=machine())
        into.write_text(json.dumps(area.as_json()), encoding="utf-8")
        return
    if quick and output == FOLDER:
        raise click.UsageError("--quick gives no figures for docs/benchmarks: add -o DIR")
    kept, failed = _read(output / FIGURES), []
    # Byte code is written, as it is where a wheel is installed.
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    with TemporaryDirectory() as folder:
        for name in areas or AREAS:
            click.echo(f"measuring {name}", err=True)
            file = Path(folder, name)
            command = [sys.executable, "-m", "benchmarks", name, "--into", str(file)]
            command += ["--quick"] * quick
            if subprocess.run(command, env=environment, check=False).returncode:
                failed.append(name)
                continue
            kept[name] = Area.from_json(json.loads(file.read_text(encoding="utf-8")))
            write(output, [kept[name] for name in AREAS if name in kept])
    if failed:
        raise click.ClickException(f"not measured, for the reasons above: {', '.join(failed)}")
    click.echo(output / PAGE)


def _measured(name: str, quick: bool) -> Area:
    """Measure an area, whose peers may not be there.

    Raises:
        click.ClickException: If one of them is not.
    """
    try:
        area: Area = importlib.import_module(f"benchmarks.{name}").measure(quick)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "benchmarks", "zoo_core"):
            raise
        raise click.ClickException(
            f"{name} cannot be measured without {missing}: "
            "pip install -r requirements.txt -e '.[bench]'"
        ) from error
    return area


def _read(file: Path) -> dict[str, Area]:
    """Give the areas that were measured before."""
    if not file.exists():
        return {}
    figures = json.loads(file.read_text(encoding="utf-8"))
    return {area["name"]: Area.from_json(area) for area in figures}


if __name__ == "__main__":
    main()
