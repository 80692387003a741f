"""The hooks a plugin may implement, with ``from zoo_core import hookimpl``.

An implementation may leave out arguments that it does not use.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from zoo_core.grammar import Recipe
    from zoo_core.manifest import WeightsEntry
    from zoo_core.models import MultitaskModel
    from zoo_core.spec import Source, Spec

hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


@hookspec
def zoo_specs() -> Iterable[Spec]:  # type: ignore[empty-body]
    """Give the plugin's components; called when the catalogue is first read.

    That is at nearly every command, so neither this nor the package imports torch: a component is
    imported, by its ``target``, when it is built. A plugin that fails here, or gives a name twice,
    fails to load.
    """


@hookspec
def zoo_sources() -> Iterable[Source]:  # type: ignore[empty-body]
    """Give families of components that are listed lazily; called with ``zoo_specs``.

    For catalogues of a thousand names: the names are asked for when somebody lists or completes
    them, and a name is described when somebody means it.
    """


@hookspec
def zoo_weights() -> Iterable[WeightsEntry]:  # type: ignore[empty-body]
    """Give weights beside those of registry.yaml; called when weights are first looked up.

    A plain component name means the plugin's own component. Registry files win over what is given
    here for the same component and tag; of what is left, a component's first entry is its default.
    A plugin that fails here costs one line, and keeps its components.
    """


@hookspec(firstresult=True)
def zoo_fetch_weights(entry: WeightsEntry) -> Path | None:
    """Give a local safetensors file for an entry, or ``None`` to leave it to the next store.

    Called before cache and Hugging Face Hub are asked; the first result wins. The file must have
    the hash that the entry is pinned to, or else the one that it had when it was first used. An
    error ends what the user does, and tells of the plugin.

    Args:
        entry: The weights that are wanted.
    """


@hookspec
def zoo_register_commands(cli: click.Group) -> None:
    """Add commands to ``zoo``; called when help is shown or a command is not built in.

    A command whose name is taken is refused, with all others of its plugin.

    Args:
        cli: A group of click that the commands are added to.
    """


@hookspec
def zoo_model_built(model: MultitaskModel, recipe: Recipe) -> None:
    """Look at a model that ``zoo.build`` has just composed, to count or to log it.

    A plugin that fails here costs one line, and the model is given all the same.

    Args:
        model: The model.
        recipe: Its recipe, which ``model.recipe`` is too; ``recipe.canonical`` is the text.
    """
