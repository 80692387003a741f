"""Each decoder over its encoder, beside segmentation_models_pytorch's of the same name.

The native decoders are others than smp's of their names, made to cost less; those called ``smp/…``
are smp's own on the zoo's backbones, and the run checks that they give smp's logits for the same
maps and weights. The limit is the encoder alone. Operations are counted by torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import zoo_core as zoo
from benchmarks.comparing import ZOO, Area, Comparison, interleaved
from zoo_core.models import MultitaskModel

LIMIT: Final = "the encoder alone"
PEER: Final = "smp"
CLASSES: Final = 21
QUICK: Final = ("segformer", "linear", "smp/linknet", "smp/deeplabv3plus", "smp/dpt")


@dataclass(frozen=True)
class Row:
    """A decoder of the zoo, and smp's.

    Attributes:
        decoder: Its name in the zoo.
        peer: Its name in smp; empty if it has none.
        encoder: The zoo's backbone, smp's encoder.
        backbone: Options of the backbone.
        options: Options of smp's model.
    """

    decoder: str
    peer: str
    encoder: tuple[str, str]
    backbone: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


def rows(resnet: str, vit: str) -> list[Row]:
    """Give all decoders.

    Args:
        resnet: The ResNet of most.
        vit: The size of the ViT of DPT, which smp has for nothing else.
    """
    plain = (resnet, resnet)
    # The zoo's own ResNet has no map of stride 2, and these read it.
    from_two = (f"timm/{resnet}", f"tu-{resnet}")
    vits = (f"vit_{vit}", f"tu-vit_{vit}_patch16_224")
    ignoring = {"decoder_readout": "ignore"}
    by_8, by_16 = {"output_stride": 8}, {"output_stride": 16}
    return [
        *(Row(name, name, plain) for name in ("unet", "fpn", "segformer", "upernet")),
        Row("deeplabv3plus", "deeplabv3plus", plain, by_16),
        Row("dpt", "dpt", vits, options=ignoring),
        Row("linear", "", plain),
        *(
            Row(f"smp/{name}", name, from_two)
            for name in ("unet", "unetplusplus", "manet", "linknet", "segformer")
        ),
        *(Row(f"smp/{name}", name, plain) for name in ("fpn", "upernet")),
        # By default smp's PSPNet ends its encoder early.
        Row("smp/pspnet", "pspnet", plain, options={"encoder_depth": 5, "upsampling": 32}),
        Row("smp/pan", "pan", plain, by_16),
        Row("smp/deeplabv3", "deeplabv3", plain, by_8),
        Row("smp/deeplabv3plus", "deeplabv3plus", plain, by_16),
        Row("smp/dpt", "dpt", vits, options=ignoring),
    ]


def ours(row: Row) -> MultitaskModel:
    """Give the zoo's model."""
    return zoo.build(
        f"{row.encoder[0]}+{row.decoder}",
        num_classes_classification=0,
        num_classes_segmentation=CLASSES,
        backbone=dict(row.backbone),
    ).eval()


def theirs(row: Row) -> nn.Module:
    """Give smp's model."""
    model: nn.Module = smp.create_model(
        row.peer, row.encoder[1], encoder_weights=None, classes=CLASSES, **row.options
    )
    return model.eval()


def check(own: MultitaskModel, peer: Any, pictures: Tensor) -> None:
    """Check that a decoder of smp gives in the zoo what it gives in smp."""
    decoder: Any = own.decoder
    for ours_, theirs_ in (
        (decoder.decoder, peer.decoder),
        (decoder.segmentation_head, peer.segmentation_head),
    ):
        missing, unexpected = ours_.load_state_dict(theirs_.state_dict(), strict=False)
        assert not missing
        assert all(".attention1." in name for name in unexpected), unexpected  # which never run
    with torch.no_grad():
        given = peer.encoder(pictures)
        # Of a ViT, maps and class tokens; of others the picture, then maps of stride 2 and so on.
        maps = given[0] if isinstance(given, tuple) else given[-len(_schedule(own)) :]
        found = decoder(maps, output_size=tuple(pictures.shape[-2:]))
        torch.testing.assert_close(found, peer(pictures), atol=1e-4, rtol=1e-4)


def _schedule(model: MultitaskModel) -> Sequence[int]:
    return model.backbone.get_channel_schedule()


def operations(run: Callable[[], object]) -> float:
    """Count floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


@torch.no_grad()
def compared(row: Row, size: int, rounds: int) -> list[Comparison]:
    """Give time and operations of one decoder."""
    pictures = torch.randn(1, 3, size, size)
    own = ours(row)
    runs: dict[str, Callable[[], object]] = {ZOO: partial(own, pictures)}
    if row.peer:
        peer = theirs(row)
        if row.decoder.startswith("smp/"):
            check(own, peer, pictures)
        assert own(pictures).shape == peer(pictures).shape
        runs[PEER] = partial(peer, pictures)
    runs[LIMIT] = partial(own.backbone, pictures)
    work = f"{row.decoder} on {row.encoder[0].removeprefix('timm/')}"
    taken = interleaved(runs, rounds, clock=time.process_time)
    counted = {name: [operations(run)] for name, run in runs.items()}
    return [
        Comparison(work, taken, limit=LIMIT),
        Comparison(work, counted, "operations", limit=LIMIT),
    ]


def measure(quick: bool) -> Area:
    """Measure all decoders over a ResNet, and DPT over a ViT."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names, rounds = (("resnet18", "tiny"), 1) if quick else (("resnet50", "small"), 7)
    found = []
    for row in rows(*names):
        if quick and row.decoder not in QUICK:
            continue
        size = 128 if quick and "resnet" in row.encoder[0] else 224
        found += compared(row, size, rounds)
    return Area(
        "decoders",
        "Decoders",
        "A forward of one picture of 224×224 pixels with 21 classes, on one thread and by its own "
        "clock, and its floating-point operations as torch counts them. Both have the same encoder "
        "and their own defaults otherwise; the deepest map has stride 32, but for DeepLab v3 8, "
        "for v3+ and PAN 16. "
        "The decoders called `smp/…` are smp's own on the zoo's backbones: the run checks that "
        "they give smp's logits. The others are the zoo's, after the same papers.",
        comparisons=found,
        versions={name: version(name) for name in ("segmentation_models_pytorch", "timm")},
    )
