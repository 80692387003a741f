"""Which weights a component and a tag mean."""

from __future__ import annotations

from zoo_core.catalogue import registry
from zoo_core.errors import WeightsError
from zoo_core.manifest import WeightsEntry
from zoo_core.spec import Spec
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
        give = resolve(source.weights, f"source {source.provider}:{source.prefix}…")
        entry = give(spec.name.removeprefix(source.prefix), tag)
        if not isinstance(entry, WeightsEntry):
            raise WeightsError(f"{source.weights!r} gave {entry!r} instead of a WeightsEntry")
        return entry
    if tag is None:
        raise WeightsError(f"{spec.name!r} has no pretrained weights")
    tags = ", ".join(entry.tag for entry in entries)
    raise WeightsError(f"{spec.name!r} has no weights {tag!r}; it has {tags or 'none'}")
