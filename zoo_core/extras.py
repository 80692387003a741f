"""Libraries that only some uses need; an optional extra of zoo-core installs them."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

from zoo_core.errors import MissingDistributionError


def require(extra: str, what: str, **modules: str) -> None:
    """Check, without importing them, that the libraries of an extra are installed.

    Args:
        extra: The extra that brings them.
        what: What needs them, as the subject of the message: ``"Scenes"``.
        **modules: The module to look for, and the distribution that gives it.

    Raises:
        MissingDistributionError: If one is missing; the message says how to install it.
    """
    missing = [name for module, name in modules.items() if not is_installed(module)]
    if missing:
        raise MissingDistributionError(
            f'{what} needs {" and ".join(missing)}; pip install "zoo-core[{extra}]"'
        )


def is_installed(module: str) -> bool:
    """Tell whether a module can be imported, without importing it."""
    with suppress(ImportError, ValueError):  # ValueError: imported, but by no ordinary means
        return find_spec(module) is not None
    return False
