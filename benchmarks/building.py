"""Building models with initial values: ``zoo.build`` beside the peers' ways of making one.

The limit is the same model put together by hand on the meta device, whose values are then drawn
once, by the initialisers that the zoo's have in the end: no layer draws values that another
initialiser overwrites. The run checks that the values have the same names, shapes and spread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn

import zoo_core as zoo
from benchmarks.comparing import ZOO, Area, Comparison, interleaved
from zoo_core.models import MultitaskModel
from zoo_core.models.attention import CBAM
from zoo_core.models.backbones import CNNBackbone, VisionTransformer
from zoo_core.models.encoder_decoder import UNetDecoder

LIMIT: Final = "values drawn once"
CLASSES: Final = 1000
MANY: Final = 1000
"""Values of which the spread tells something."""


def resnet(depth: int) -> MultitaskModel:
    """Put a ResNet together by hand."""
    return MultitaskModel(CNNBackbone(depth), num_classes_classification=CLASSES)


def vit(**shape: Any) -> MultitaskModel:
    """Put a vision transformer together by hand."""
    return MultitaskModel(VisionTransformer(**shape), num_classes_classification=CLASSES)


def segmenter(depth: int) -> MultitaskModel:
    """Put ``resnet+cbam+unet`` together by hand."""
    backbone = CNNBackbone(depth)
    channels = backbone.get_channel_schedule()
    attention, decoder = CBAM(channels[-1]), UNetDecoder(channels, 21)
    return MultitaskModel(backbone, attention, decoder, CLASSES, 21)


def drawn_once(make: Callable[[], MultitaskModel]) -> MultitaskModel:
    """Construct a model without values, and draw each of them once."""
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    for part in model.modules():
        reset: Callable[[], None] | None = getattr(part, "reset_parameters", None)
        if reset is not None and not _has_own(part, model):
            reset()
    backbone = model.backbone
    if isinstance(backbone, CNNBackbone):
        for part in backbone.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(backbone, VisionTransformer):
        for part in backbone.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        for token in (backbone.cls_token, backbone.pos_embed):
            assert token is not None
            nn.init.trunc_normal_(token, std=0.02)
    return model


def _has_own(part: nn.Module, model: MultitaskModel) -> bool:
    """Tell whether a layer's values are drawn by its backbone's initialiser."""
    kind = nn.Conv2d if isinstance(model.backbone, CNNBackbone) else nn.Linear
    return isinstance(part, kind) and any(part is other for other in model.backbone.modules())


def check(ours: nn.Module, limit: nn.Module) -> None:
    """Check that two models have values of the same names, shapes and spread."""
    wanted, found = ours.state_dict(), limit.state_dict()
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert value.shape == found[name].shape, name
        if value.numel() >= MANY:
            torch.testing.assert_close(_spread(found[name]), _spread(value), atol=0, rtol=0.2)


def _spread(values: Tensor) -> Tensor:
    return values.float().square().mean().sqrt()


def works(quick: bool) -> Mapping[str, Mapping[str, Callable[[], nn.Module]]]:
    """Give what is built, and how each contender builds it."""
    depth = 18 if quick else 50
    size = "tiny" if quick else "base"
    shape = {"hidden_dim": 192, "num_heads": 3, "mlp_dim": 768} if quick else {}
    theirs: dict[str, Callable[[], nn.Module]] = (
        {} if quick else {"torchvision": torchvision.models.vit_b_16}
    )
    encoder = f"resnet{depth}"
    return {
        f"ResNet-{depth}": {
            ZOO: partial(zoo.build, encoder),
            "timm": partial(timm.create_model, encoder),
            "torchvision": getattr(torchvision.models, encoder),
            LIMIT: partial(drawn_once, partial(resnet, depth)),
        },
        f"ViT of size {size}, patches of 16": {
            ZOO: partial(zoo.build, f"vit_{size}"),
            "timm": partial(timm.create_model, f"vit_{size}_patch16_224"),
            **theirs,
            LIMIT: partial(drawn_once, partial(vit, **shape)),
        },
        f"{encoder}+cbam+unet": {
            ZOO: partial(zoo.build, f"{encoder}+cbam+unet"),
            "smp": partial(smp.Unet, encoder, encoder_weights=None, classes=21),
            LIMIT: partial(drawn_once, partial(segmenter, depth)),
        },
    }


def measure(quick: bool) -> Area:
    """Measure how long it takes to build three models."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = []
    for work, contenders in works(quick).items():
        check(contenders[ZOO](), contenders[LIMIT]())
        taken = interleaved(contenders, 2 if quick else 9, clock=time.process_time)
        remark = "smp's U-Net has a larger decoder, no attention and no classifier."
        found.append(Comparison(work, taken, limit=LIMIT, remark=remark * work.endswith("unet")))
    return Area(
        "building",
        "Building models",
        "From the call to a model with initial values, all code imported, on one thread and by its "
        "own clock. `zoo.build` also draws each part's values from a seed of its own, and proves "
        "with a forward on shapes alone that the parts fit. The limit is the same model put "
        "together by hand without values, each of which is then drawn once.",
        comparisons=found,
        versions={
            name: version(name) for name in ("timm", "torchvision", "segmentation_models_pytorch")
        },
    )
