"""``zoo birdhouse``: which sizes of ConvMixer there are."""

from __future__ import annotations

import json

import click

from birdhouse.sizes import SIZES


@click.command()
@click.option(
    "--at-most",
    metavar="MILLIONS",
    type=click.FloatRange(min=0, min_open=True),
    help="Only sizes with no more parameters.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def birdhouse(at_most: float | None, as_json: bool) -> None:
    """List the sizes of ConvMixer by their number of parameters.

    \b
    Examples:
      zoo birdhouse
      zoo birdhouse --at-most 2.5
    """
    sizes = sorted(SIZES.items(), key=lambda item: item[1].parameters)
    if at_most is not None:
        sizes = [(name, size) for name, size in sizes if size.parameters <= at_most * 1e6]
    if as_json:
        rows = [
            {"name": f"birdhouse/{name}", "parameters": size.parameters, **size.arguments}
            for name, size in sizes
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for name, size in sizes:
        click.echo(f"birdhouse/{name:24} {size.parameters:>11,} parameters")
