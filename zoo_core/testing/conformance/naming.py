"""What the user means by a name, found without importing torch."""

from __future__ import annotations

from difflib import get_close_matches

from zoo_core.catalogue import registry
from zoo_core.errors import UnknownComponentError
from zoo_core.loader import Plugin, normalise
from zoo_core.spec import Spec


def find(name: str) -> Plugin | Spec:
    """Give the plugin of a distribution's name, or else the component of a name.

    Raises:
        UnknownComponentError: If there is neither, with near misses.
        AmbiguousComponentError: If several components have this name.
    """
    plugins = {plugin.distribution: plugin for plugin in registry.plugins}
    if normalise(name) in plugins:
        return plugins[normalise(name)]
    try:
        return registry[name]
    except UnknownComponentError as error:
        near = get_close_matches(normalise(name), plugins, 1, 0.7)
        hint = f"; of the distributions, did you mean {near[0]}?" if near else ""
        raise UnknownComponentError(f"{error}{hint}") from None


def find_plugin(name: str) -> Plugin:
    """Give the plugin of a distribution.

    Raises:
        UnknownComponentError: If none is installed under this name.
    """
    plugins = {plugin.distribution: plugin for plugin in registry.plugins}
    if normalise(name) not in plugins:
        raise UnknownComponentError(
            f"no plugin {name!r} is installed; installed: {', '.join(plugins) or 'none'}"
        )
    return plugins[normalise(name)]


def checked_by_default() -> list[Plugin]:
    """Give every plugin that is not blocked."""
    return [plugin for plugin in registry.plugins if plugin.status != "blocked"]
