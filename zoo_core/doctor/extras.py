"""The optional parts of the core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from zoo_core.doctor.distributions import CORE, Copy, first
from zoo_core.doctor.finding import Finding, note, ok

DEVELOPMENT: Final = ("bench", "test")
"""Extras for those who develop the zoo itself, which are not told of."""


def examine() -> Iterator[Finding]:
    """Tell of each extra whether what it brings is installed."""
    core = first(CORE)
    if core is None:
        return
    for extra in core.distribution.metadata.get_all("Provides-Extra") or ():
        if extra not in DEVELOPMENT:
            yield _examine_one(core, extra)


def _examine_one(core: Copy, extra: str) -> Finding:
    always = set(map(str, core.requirements()))
    brought = [one for one in core.requirements(extra) if str(one) not in always]
    lacking = []
    for requirement in brought:
        there = first(requirement.name)
        if there is None:
            lacking.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(there.version, prereleases=True):
            needed = f"{requirement.name}{requirement.specifier}"
            lacking.append(f"{needed} is needed, and {there.version} installed")
    about = f"extra {extra}"
    if lacking:
        return note(about, "; ".join(lacking), f"pip install '{CORE}[{extra}]'")
    return ok(about, ", ".join(requirement.name for requirement in brought))
