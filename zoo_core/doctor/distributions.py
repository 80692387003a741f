"""The installed distributions, as their metadata tell of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from zoo_core.loader import installed, normalise

CORE = "zoo-core"


@dataclass(frozen=True)
class Copy:
    """One installed distribution; there may be several of one name.

    Attributes:
        name: Its name, normalised.
        version: Its version; empty where the metadata are damaged.
        folder: The folder that it is installed in.
        distribution: What reads its metadata.
    """

    name: str
    version: str
    folder: Path
    distribution: Distribution

    def requirements(self, extra: str = "") -> list[Requirement]:
        """Give what it requires here, alone or with one of its extras too.

        Requirements that cannot be read are left out: pip refuses such distributions.
        """
        found = []
        for text in self.distribution.requires or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.append(requirement)
        return found


@cache
def copies() -> dict[str, list[Copy]]:
    """Give every installed distribution by name, the copy that Python imports first."""
    found: dict[str, list[Copy]] = {}
    for copy in _all():
        others = found.setdefault(copy.name, [])
        if (copy.folder, copy.version) not in {(one.folder, one.version) for one in others}:
            others.append(copy)
    return found


def _all() -> Iterator[Copy]:
    for distribution in distributions(path=list(dict.fromkeys(sys.path))):
        try:
            if not (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")):
                continue  # remains of an uninstallation, which have no name
        except ValueError:  # no UTF-8
            continue
        name = distribution.metadata["Name"]
        if name:
            folder = Path(str(distribution.locate_file(""))).resolve()
            version = distribution.metadata["Version"] or ""
            yield Copy(normalise(name), version, folder, distribution)


def first(name: str) -> Copy | None:
    """Give the copy of a distribution that Python imports, ``None`` if it is not installed."""
    found = copies().get(normalise(name))
    return found[0] if found else None


def ours() -> list[str]:
    """Give the names of the core and of the installed plugins."""
    return [CORE, *(name for name in installed() if name in copies())]
