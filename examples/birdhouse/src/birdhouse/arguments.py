"""What the components' constructors check."""

from __future__ import annotations

from zoo_core.errors import InputError


def check_whole(**arguments: object) -> None:
    """Refuse arguments that are no positive whole numbers.

    Raises:
        InputError: Naming the first of them, and what was given.
    """
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a positive whole number, not {value!r}")
