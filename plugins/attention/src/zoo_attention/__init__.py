"""Attention modules that refine one feature map, each after its paper."""

from typing import Final

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)

_REDUCTION: Final = {"reduction": "how many times fewer channels the hidden layer has"}


def _spec(name: str, place: str, summary: str, options: dict[str, str]) -> Spec:
    target = f"zoo_attention.{place}"
    return Spec(kind="attention", name=name, target=target, summary=summary, options=options)


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give the modules."""
    return [
        _spec(
            "se",
            "channel:SqueezeExcitation",
            "weighs channels by their averages (squeeze and excitation)",
            _REDUCTION,
        ),
        _spec(
            "eca",
            "channel:EfficientChannelAttention",
            "weighs channels by the averages of their neighbours",
            {"kernel_size": "how many neighbours count, odd; by default it follows the channels"},
        ),
        _spec(
            "scse",
            "spatial:ConcurrentSqueezeExcitation",
            "weighs channels and places side by side",
            _REDUCTION,
        ),
        _spec(
            "coord",
            "spatial:CoordinateAttention",
            "weighs channels row by row and column by column",
            _REDUCTION,
        ),
        _spec(
            "simam",
            "spatial:SimAM",
            "weighs each value by how it stands out, without parameters",
            {"e_lambda": "what is added to the variance; smaller sharpens the weights"},
        ),
        _spec(
            "bam",
            "spatial:BAM",
            "weighs channels and wide surroundings together (bottleneck attention)",
            {**_REDUCTION, "dilation": "dilation of the spatial branch's convolutions"},
        ),
        _spec(
            "gc",
            "context:GlobalContext",
            "adds one summary of the whole map to every place",
            _REDUCTION,
        ),
        _spec(
            "nonlocal",
            "context:NonLocal",
            "adds to each place what all others show it (self-attention)",
            {**_REDUCTION, "subsample": "side of the squares of places that are seen as one"},
        ),
    ]
