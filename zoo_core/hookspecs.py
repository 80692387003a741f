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
    """Give the plugin's components; called when the catalogue is first read."""


@hookspec
def zoo_sources() -> Iterable[Source]:  # type: ignore[empty-body]
    """Give families of components that are listed lazily; called with ``zoo_specs``."""


@hookspec
def zoo_weights() -> Iterable[WeightsEntry]:  # type: ignore[empty-body]
    """Give weights beside those of registry.yaml; called when weights are first looked up."""


@hookspec(firstresult=True)
def zoo_fetch_weights(entry: WeightsEntry) -> Path | None:
    """Give a local safetensors file for an entry, or ``None`` to leave it to the next store.

    Called before the Hugging Face Hub is asked; the first result wins.
    """


@hookspec
def zoo_register_commands(cli: click.Group) -> None:
    """Add commands to ``zoo``; called when help is shown or a command is not built in."""


@hookspec
def zoo_model_built(model: MultitaskModel, recipe: Recipe) -> None:
    """Look at a model that ``zoo.build`` has just composed."""
