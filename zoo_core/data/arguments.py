"""Checks of the data sets' arguments."""

from __future__ import annotations

from collections.abc import Sequence

from zoo_core.errors import InputError


def check_whole(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Check that an argument is a whole number.

    Raises:
        InputError: If it is none, or too small or too large.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and value >= least and (most is None or value <= most):  # type: ignore[operator]
        return
    upto = "" if most is None else f" to {most}"
    raise InputError(f"{name} must be a whole number from {least}{upto}, not {value!r}")


def height_and_width(name: str, size: object) -> tuple[int, int]:
    """Give height and width of one side, or of both.

    Raises:
        InputError: If they are none.
    """
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2:
        raise InputError(f"{name} is one side, or height and width, not {size!r}")
    for side in sides:
        check_whole(name, side, least=1)
    height, width = sides
    return height, width


def distinct(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Give names of classes.

    Raises:
        InputError: If there are none, one comes twice, or one is no text.
    """
    given = tuple(names)
    words = not isinstance(names, str) and all(isinstance(item, str) for item in given)
    if not words or not given or len(set(given)) < len(given):
        raise InputError(f"{name} must be different names, at least one, not {names!r}")
    return given
