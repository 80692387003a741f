"""Which weights a component and a tag mean."""

from __future__ import annotations

from dataclasses import replace

from zoo_core.catalogue import registry
from zoo_core.errors import WeightsError, ZooError
from zoo_core.loader import CATCH, describe
from zoo_core.manifest import WeightsEntry
from zoo_core.spec import Source, Spec
from zoo_core.targets import resolve


def find_entry(spec: Spec, tag: str | None = None) -> WeightsEntry:
    """Give the weights entry of a component; without a tag, its default.

    Registry files come first, then the source that the component is from. What a source does not
    pin is pinned as an entry for the same file is.

    Raises:
        WeightsError: If there is none, naming those there are.
    """
    entries = registry.weights_of(spec)
    source = registry.source_of(spec)
    if source and not source.weights:
        source = None  # what it has is listed, as other components' weights are
    for entry in entries:
        if entry.tag == tag or (tag is None and source is None):
            return entry
    if source:
        return _from_source(source, spec, tag)
    if tag is None:
        raise WeightsError(f"{spec.name!r} has no pretrained weights")
    tags = ", ".join(entry.tag for entry in entries)
    raise WeightsError(f"{spec.name!r} has no weights {tag!r}; it has {tags or 'none'}")


def _from_source(source: Source, spec: Spec, tag: str | None) -> WeightsEntry:
    who = f"source {source.provider}:{source.prefix}…"
    give = resolve(source.weights, who)
    try:
        entry = give(spec.name.removeprefix(source.prefix), tag)
    except ZooError:
        raise
    except CATCH as error:
        raise WeightsError(
            f"{who} cannot give weights of {spec.name}: {describe(error)}"
        ) from error
    if not isinstance(entry, WeightsEntry):
        raise WeightsError(f"{who} gave {entry!r} for {spec.name}, which is no WeightsEntry")
    origin = registry.describe_plugin(source.provider)
    return _pinned(replace(entry, provider=source.provider, origin=origin))


def _pinned(entry: WeightsEntry) -> WeightsEntry:
    """Give an entry with the pins that a registry has of the same file, if it has none itself."""
    if entry.pinned:
        return entry
    for known in registry.weights:
        same = (known.repository, known.filename) == (entry.repository, entry.filename)
        agree = entry.revision in (None, known.revision) and entry.sha256 in (None, known.sha256)
        if known.pinned and same and agree:
            return replace(entry, revision=known.revision, sha256=known.sha256, size=known.size)
    return entry
