"""Compose multi-task vision models from installed plugins by name.

Importing this package imports neither torch nor numpy; the names that need them are imported
when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo_core._version import __version__
from zoo_core.catalogue import list_components, registry
from zoo_core.errors import ZooError, ZooWarning
from zoo_core.hookspecs import hookimpl
from zoo_core.spec import Source, Spec

if TYPE_CHECKING:
    from zoo_core.building import build
    from zoo_core.contracts import (
        Attention,
        Backbone,
        BaseExplainer,
        ChannelSchedule,
        Decoder,
        Features,
    )
    from zoo_core.exporting import export
    from zoo_core.manifest import Preprocessing, WeightsEntry
    from zoo_core.models.multitask import MultitaskModel

_HOME = {
    "Attention": "contracts",
    "Backbone": "contracts",
    "BaseExplainer": "contracts",
    "ChannelSchedule": "contracts",
    "Decoder": "contracts",
    "Features": "contracts",
    "MultitaskModel": "models.multitask",
    "Preprocessing": "manifest",
    "WeightsEntry": "manifest",
    "build": "building",
    "export": "exporting",
}

__all__ = [
    "Attention",
    "Backbone",
    "BaseExplainer",
    "ChannelSchedule",
    "Decoder",
    "Features",
    "MultitaskModel",
    "Preprocessing",
    "Source",
    "Spec",
    "WeightsEntry",
    "ZooError",
    "ZooWarning",
    "__version__",
    "build",
    "export",
    "hookimpl",
    "list_components",
    "registry",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"zoo_core.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
