"""Results to be read: tables for the terminal, and what JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zoo_core.errors import InputError
from zoo_core.evaluation.metrics import Metrics


class Table(NamedTuple):
    """What ``zoo_core.cli.tables.echo_table`` prints.

    Attributes:
        header: Names of the columns.
        rows: Texts, as many as columns in each row.
        right: Names of the columns to align on the right, separated by spaces.
    """

    header: list[str]
    rows: list[list[str]]
    right: str


def per_class_table(metrics: Metrics, names: Sequence[str] | None = None) -> Table:
    """Give a row for each class: its number, its name, shares, and how many targets it has.

    Args:
        metrics: What to show.
        names: Names of the classes, as a model's ``labels`` has them for each head.

    Raises:
        InputError: If there are not as many names as classes.
    """
    columns = metrics.per_class()
    classes = _classes(metrics, names)
    rows = zip(classes, *([_text(v) for v in column] for column in columns.values()), strict=True)
    return Table(["class", *columns], [list(row) for row in rows], " ".join(columns))


def confusion_table(metrics: Metrics, names: Sequence[str] | None = None) -> Table:
    """Give a row for each class: how often it was taken for the classes of the columns.

    The columns are headed by the classes' numbers, the rows begin with number and name.

    Args:
        metrics: What to show.
        names: Names of the classes.

    Raises:
        InputError: If there are not as many names as classes, or too many classes.
    """
    numbers = [str(number) for number in range(metrics.num_classes)]
    counts = metrics.confusion_matrix.tolist()
    rows = [
        [name, *map(_text, row)] for name, row in zip(_classes(metrics, names), counts, strict=True)
    ]
    return Table(["target", *numbers], rows, " ".join(numbers))


def for_json(value: Any) -> Any:
    """Give results with ``None`` in place of numbers that are not finite, which JSON has not."""
    if isinstance(value, Mapping):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _classes(metrics: Metrics, names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [str(number) for number in range(metrics.num_classes)]
    if len(names) != metrics.num_classes:
        raise InputError(f"{len(names)} names for {metrics.num_classes} classes")
    return [f"{number} {name}" for number, name in enumerate(names)]


def _text(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if math.isnan(value) else f"{value:.4f}"
