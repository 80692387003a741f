"""Whether everything that the zoo and its plugins require is there, in a version that fits."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.requirements import Requirement

from zoo_core.doctor.distributions import CORE, Copy, copies, first, ours
from zoo_core.doctor.finding import Finding, ok, problem
from zoo_core.loader import normalise

_SHOWN = ("torch", "torchvision")


def examine() -> Iterator[Finding]:
    """Go through the requirements of the core and of each plugin, and through theirs in turn."""
    waiting = [copies()[name][0] for name in ours() if name in copies()]
    seen = {copy.name for copy in waiting}
    broken = 0
    while waiting:
        copy = waiting.pop(0)
        for requirement in copy.requirements():
            there = first(requirement.name)
            finding = _compare(copy, requirement, there)
            if finding:
                broken += 1
                yield finding
            if there and there.name not in seen:
                seen.add(there.name)
                waiting.append(there)
    for name in _SHOWN:
        one = first(name)
        if one:
            yield ok(name, one.version)
    if not broken:
        yield ok("requirements", f"{len(seen)} distributions fit together")


def _compare(copy: Copy, requirement: Requirement, there: Copy | None) -> Finding | None:
    who = f"{copy.name} {copy.version}".strip()
    needed = f"{requirement.name}{requirement.specifier}"
    if there is None:
        return problem(
            normalise(requirement.name),
            f"is not installed, and {who} needs {needed}",
            f"pip install '{needed}'",
        )
    if not there.version:
        return problem(
            there.name,
            f"its metadata in {there.folder} are damaged",
            f"pip install --force-reinstall {there.name}",
        )
    if requirement.specifier.contains(there.version, prereleases=True):
        return None
    # Whatever is asked of the core is mended by another version of the plugin too.
    remedy = f"pip install '{needed}'"
    if there.name == CORE:
        remedy = f"pip install --upgrade {CORE} {copy.name}"
    return problem(
        there.name, f"version {there.version} is installed, and {who} needs {needed}", remedy
    )
