"""What is wrong with an installation, and what mends it: ``zoo doctor``.

Nothing here imports torch: that is tried in a process of its own, so that all else is told even
where it is broken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from zoo_core.doctor import distributions
from zoo_core.doctor.finding import Finding, problem
from zoo_core.loader import CATCH, describe

EXAMINATIONS: Final = {
    "python": "python",
    "requirements": "requirements",
    "duplicates": "duplicates",
    "extras": "extras",
    "plugins": "plugins",
    "registry": "registries",
    "cache": "cache",
    "endpoint": "endpoint",
    "devices": "devices",
}
"""What is looked at, in this order, and the module whose ``examine`` does it."""


def examine() -> Iterator[Finding]:
    """Look at everything; what cannot be looked at is a finding too."""
    distributions.copies.cache_clear()
    with _plugins_isolated():
        for about, module in EXAMINATIONS.items():
            try:
                yield from import_module(f"{__name__}.{module}").examine()
            except CATCH as error:
                yield problem(
                    about,
                    f"cannot be looked at: {describe(error)}",
                    "pip install --force-reinstall zoo-core",
                )


@contextmanager
def _plugins_isolated() -> Iterator[None]:
    """Let a failure of a plugin stop nothing, which ``ZOO_STRICT`` would ask for."""
    strict = os.environ.pop("ZOO_STRICT", None)
    try:
        yield
    finally:
        if strict is not None:
            os.environ["ZOO_STRICT"] = strict
