"""Tables and JSON for the terminal."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

import click

NARROWEST: Final = 9  # characters that a column keeps in a narrow terminal


def echo_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Print rows under a bold header, columns aligned.

    Where a terminal is too narrow for the table, its widest cells are wrapped; in a pipe or a file
    each row is one line.

    Args:
        header: Names of the columns.
        rows: Texts, as many as columns in each row.
        right: Names of columns to align on the right, separated by spaces.
    """
    widths = needed = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    if sys.stdout.isatty():
        widths = _fitted(needed, shutil.get_terminal_size().columns)
    flush = ["" if name in right.split() else "-" for name in header]
    line = "  ".join(f"%{side}{width}s" for side, width in zip(flush, widths, strict=True))

    def lines(rows: Sequence[Sequence[str]]) -> list[str]:
        if widths != needed:
            rows = [cells for row in rows for cells in _split(row, widths)]
        return [(line % tuple(cells)).rstrip() for cells in rows]

    click.echo("\n".join(click.style(text, bold=True) for text in lines([header])))
    if rows:
        # At once, as line by line takes a third of a long table's time; and without the header,
        # whose style would be looked for, to be taken off in a pipe, in thrice the time.
        click.echo("\n".join(lines(rows)))


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Narrow the widest columns, never the first, until they fit or no column can give more."""
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > room:
        widest = max(range(1, len(fitted)), key=fitted.__getitem__)
        if fitted[widest] <= NARROWEST:
            break
        fitted[widest] -= 1
    return fitted


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines after hyphens and slashes too, between digits as well."""

    wordsep_re = re.compile(r"(\s+|[^\s/-]*[/-])")


def _split(row: Sequence[str], widths: Sequence[int]) -> Iterator[Sequence[str]]:
    return zip_longest(*map(_wrapped, row, widths), fillvalue="")


def _wrapped(cell: str, width: int) -> list[str]:
    return [cell] if len(cell) <= width else _Wrapper(width).wrap(cell)


def echo_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
