"""Which weights a component and a tag mean."""

from __future__ import annotations

from zoo_core.catalogue import registry
from zoo_core.errors import WeightsError, ZooError
from zoo_core.loader import CATCH, describe
from zoo_core.manifest import WeightsEntry
from zoo_core.spec import Source, Spec
from zoo_core.targets import resolve


def find_entry(spec: Spec, tag: str | None = None) -> WeightsEntry:
    """Give the weights entry of a component; without a tag, its default.

    Registry files come first, then the source that the component is from.

    Raises:
        WeightsError: If there is none, naming those there are.
    """
    entries = registry.weights_of(spec)
    source = registry.source_of(spec)
    for entry in entries:
        if entry.tag == tag or (tag is None and source is None):
            return entry
    if source and source.weights:
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
    return entry
