"""Helpers for tests of the zoo and of its plugins."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_core.testing.conformance.cases import (
        AttentionTests,
        BackboneTests,
        CatalogueTests,
        DecoderTests,
        ExplainerTests,
    )
    from zoo_core.testing.faults import (
        Cut,
        Drip,
        Fault,
        Hang,
        Header,
        NoRange,
        Redirect,
        Request,
        Rule,
        Slow,
        Status,
        Tampered,
        WrongSize,
    )
    from zoo_core.testing.hub import LoopbackHub

__all__ = [
    "AttentionTests",
    "BackboneTests",
    "CatalogueTests",
    "Cut",
    "DecoderTests",
    "Drip",
    "ExplainerTests",
    "Fault",
    "Hang",
    "Header",
    "LoopbackHub",
    "NoRange",
    "Redirect",
    "Request",
    "Rule",
    "Slow",
    "Status",
    "Tampered",
    "WrongSize",
]


def __getattr__(name: str) -> Any:
    # Not imported at once: each run of pytest imports this package for its plugin.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "hub" if name == "LoopbackHub" else "faults"
    if name.endswith("Tests"):
        home = "conformance.cases"
    return getattr(import_module(f"{__name__}.{home}"), name)
