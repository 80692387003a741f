"""Tables and JSON for the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click


def echo_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Print rows under a bold header, columns aligned.

    Args:
        header: Names of the columns.
        rows: Texts, as many as columns in each row.
        right: Names of columns to align on the right, separated by spaces.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    flush = [name in right.split() for name in header]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, flush, strict=True)
        )
        return "  ".join(aligned).rstrip()

    click.secho(line(header), bold=True)
    for row in rows:
        click.echo(line(row))


def echo_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
