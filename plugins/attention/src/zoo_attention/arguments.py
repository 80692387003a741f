"""What the constructors have in common: checking whole numbers."""

from __future__ import annotations

from zoo_core.errors import InputError


def check_positive(owner: str, **arguments: object) -> None:
    """Refuse arguments that are no positive whole numbers.

    Raises:
        InputError: Naming the argument, its owner and what was given.
    """
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name} of {owner} must be a positive whole number, not {value!r}")
