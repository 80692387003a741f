"""Decoders: FPN, DeepLabV3+, SegFormer, UPerNet, DPT and a linear probe."""

from collections.abc import Mapping

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)

WIDTH = {"channels": "width of the decoder"}
DROPOUT = {"dropout": "share of values dropped in training"}


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give the six decoders."""
    return [
        _spec("fpn", "fpn:FPNDecoder", "feature pyramid, summed at its finest level", WIDTH),
        _spec(
            "deeplabv3plus",
            "deeplabv3plus:DeepLabV3PlusDecoder",
            "atrous spatial pyramid, refined by a low-level map",
            WIDTH
            | {"atrous_rates": "dilation rates; by default they follow the deepest stride"}
            | DROPOUT,
        ),
        _spec(
            "segformer",
            "segformer:SegFormerDecoder",
            "linear layers only, summed at the finest map",
            WIDTH | DROPOUT,
        ),
        _spec(
            "upernet",
            "upernet:UPerNetDecoder",
            "pyramid pooling, then a feature pyramid, concatenated",
            WIDTH,
        ),
        _spec(
            "dpt",
            "dpt:DPTDecoder",
            "residual fusion step by step, from deep to shallow",
            WIDTH | DROPOUT,
        ),
        _spec(
            "linear",
            "linear:LinearDecoder",
            "linear probe: one linear classifier for every place",
            {"maps": "how many of the last maps it reads"},
        ),
    ]


def _spec(name: str, target: str, summary: str, options: Mapping[str, str]) -> Spec:
    return Spec(
        kind="decoder",
        name=name,
        target=f"zoo_decoders.{target}",
        summary=summary,
        options=options,
    )
