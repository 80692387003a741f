"""timm's architectures as backbones, and its attention; neither timm nor torch is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zoo_core.hookspecs import hookimpl
from zoo_core.spec import Source, Spec
from zoo_timm.attention_names import MODULES, OPTIONS

ZOO_API = (1, 0)

_TARGET = "zoo_timm.model:TimmBackbone"
_ATTENTION = "zoo_timm.attention:TimmAttention"


def _names() -> Sequence[str]:
    """Give the names of all architectures of the installed timm, sorted."""
    from zoo_timm.names import architectures

    return architectures()


def _tags(name: str) -> Sequence[str]:
    """Give the tags of the weights of one architecture, its default first."""
    from zoo_timm.names import weight_tags

    return weight_tags(name)


def _spec(name: str) -> Spec:
    """Describe one architecture by its name in timm."""
    return Spec(
        kind="backbone",
        name=f"timm/{name}",
        target=_TARGET,
        kwargs={"model_name": name},
        summary=f"{name} of timm",
        options={},
    )


def _attention(name: str) -> Spec:
    """Describe one attention module by its name in timm."""
    summary, options = MODULES[name]
    return Spec(
        kind="attention",
        name=f"timm/{name}",
        target=_ATTENTION,
        kwargs={"name": name},
        summary=f"{summary}, of timm",
        options={option: "; ".join(OPTIONS[option]) for option in options},
    )


@hookimpl
def zoo_sources() -> Iterable[Source]:
    """Give timm's architectures, listed when they are first asked for, and its attention."""
    yield Source(
        kind="backbone",
        prefix="timm/",
        names=_names,
        spec=_spec,
        tags=_tags,
        target=_TARGET,
        weights="zoo_timm.weights:weights_entry",
        summary="every architecture of timm",
    )
    yield Source(
        kind="attention",
        prefix="timm/",
        names=lambda: tuple(MODULES),
        spec=_attention,
        target=_ATTENTION,
        summary="timm's attention modules",
    )
