"""What birdhouse gives; no torch here, because ``zoo list`` imports it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_core import Source, Spec, hookimpl

if TYPE_CHECKING:
    import click
    from zoo_core import WeightsEntry

ZOO_API = (1, 0)  # the version of the plugin API that this was written for

_CONVMIXER = "birdhouse.convmixer:ConvMixer"


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give one component of each kind."""
    return [
        Spec(
            kind="backbone",
            name="convmixer",
            target=_CONVMIXER,
            summary="patches mixed by depthwise convolutions, all maps of one stride",
            channels=(256, 256, 256, 256),
            strides=(7, 7, 7, 7),
            options={
                "width": "channels of every map",
                "depth": "blocks",
                "patch_size": "side of a patch in pixels, the stride of every map",
                "kernel_size": "side of the depthwise convolutions, an odd number",
            },
            tags=("cnn", "isotropic"),
        ),
        Spec(
            kind="attention",
            name="srm",
            target="birdhouse.srm:SRM",
            summary="weighs channels by their mean and deviation, two weights a channel",
            options={},
        ),
        Spec(
            kind="decoder",
            name="lraspp",
            target="birdhouse.lraspp:LRASPP",
            summary="the last map, weighed by its average, with a map of stride 8: Lite R-ASPP",
            options={"channels": "width of what becomes of the last map"},
        ),
        Spec(
            kind="explainer",
            name="vargrad",
            target="birdhouse.vargrad:VarGrad",
            summary="the gradient's variance over noisy copies",
            options={
                "num_samples": "noisy copies of each picture",
                "noise_level": "the noise's deviation, as a share of the picture's range",
                "seed": "fixes what is drawn by chance",
            },
        ),
    ]


def _names() -> Sequence[str]:
    """Give the names of the source, without its prefix."""
    from birdhouse.sizes import SIZES

    return tuple(SIZES)


def _spec(name: str) -> Spec:
    """Describe one name of the source."""
    from birdhouse.sizes import SIZES

    size = SIZES[name]
    return Spec(
        kind="backbone",
        name=f"birdhouse/{name}",
        target=_CONVMIXER,
        kwargs=size.arguments,
        summary=f"ConvMixer of {size.parameters / 1e6:.1f} million parameters",
        channels=(size.width,) * 4,
        strides=(size.patch_size,) * 4,
        options={},
    )


@hookimpl
def zoo_sources() -> Iterator[Source]:
    """Give ConvMixer in many sizes, described when they are asked for."""
    yield Source(
        kind="backbone",
        prefix="birdhouse/",
        names=_names,
        spec=_spec,
        target=_CONVMIXER,
        summary="ConvMixer in many sizes",
    )


@hookimpl
def zoo_weights() -> Sequence[WeightsEntry]:
    """Give the weights that are published for sizes of the source."""
    from birdhouse.weights import ENTRIES

    return ENTRIES


@hookimpl
def zoo_fetch_weights(entry: WeightsEntry) -> Path | None:
    """Give a file of the folder that BIRDHOUSE_MIRROR names, if it has the one that is wanted."""
    from birdhouse.weights import mirrored

    return mirrored(entry)


@hookimpl
def zoo_register_commands(cli: click.Group) -> None:
    """Add ``zoo birdhouse``."""
    from birdhouse.command import birdhouse

    cli.add_command(birdhouse)
