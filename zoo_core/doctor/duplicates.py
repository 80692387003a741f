"""Distributions that are installed more than once, so that pip and Python may mean another."""

from __future__ import annotations

from collections.abc import Iterator

from zoo_core.doctor.distributions import copies, ours
from zoo_core.doctor.finding import Finding, note, ok, problem


def examine() -> Iterator[Finding]:
    """Tell of each name that stands more than once on Python's path.

    It is a problem where the zoo or a plugin is meant, or where one folder holds remains of
    another version.
    """
    found = 0
    names = ours()
    for name, same in copies().items():
        if len(same) == 1:
            continue
        found += 1
        told = ", ".join(f"{copy.version or 'no version'} in {copy.folder}" for copy in same)
        message = f"is installed {len(same)} times: {told}; the first one counts"
        remedy = f"pip uninstall {name}, until it is gone, then pip install {name}"
        one_folder = len({copy.folder for copy in same}) < len(same)
        yield (problem if name in names or one_folder else note)(name, message, remedy)
    if not found:
        yield ok("duplicates", "no distribution is installed twice")
