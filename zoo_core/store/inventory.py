"""The weights that registry files and plugins tell of, and where their files are."""

from __future__ import annotations

from pathlib import Path

from zoo_core.catalogue import registry
from zoo_core.errors import UsageError, WeightsError
from zoo_core.loader import normalise
from zoo_core.manifest import WeightsEntry
from zoo_core.store.cache import Repository
from zoo_core.store.fetching import WeightsFile


def component_of(entry: WeightsEntry) -> tuple[str, str]:
    """Give the distribution, empty for any, and the plain name of an entry's component."""
    distribution, _, plain = entry.component.rpartition(":")
    return normalise(distribution) or entry.provider, plain


def named_entries() -> dict[str, WeightsEntry]:
    """Give every entry that is not overridden, by the shortest name that means it."""
    named: dict[str, WeightsEntry] = {}
    for entry in registry.weights:
        owner, component = component_of(entry)
        plain = f"{component}.{entry.tag}"
        if _means(plain, entry):
            named[plain] = entry
            continue
        owners = [owner] if owner else [spec.provider for spec in registry.candidates(component)]
        qualified = [f"{provider}:{plain}" for provider in owners]
        named |= {name: entry for name in qualified if _means(name, entry)}
    return named


def _means(name: str, entry: WeightsEntry) -> bool:
    try:
        return registry.find_weights(name) is entry
    except (UsageError, WeightsError):
        return False


def named_path(entry: WeightsEntry, file: WeightsFile) -> Path:
    """Give the path by which a file has its entry's filename, else the file's own."""
    if file.repository and file.commit:
        placed = Repository(file.repository).snapshot(file.commit, entry.filename)
        if placed.exists() and placed.samefile(file.path):
            return placed
    return file.path
