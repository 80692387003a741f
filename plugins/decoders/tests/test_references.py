"""The decoders against other implementations, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3 import decoder as deeplab
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder as TheirDPT
from segmentation_models_pytorch.decoders.dpt.decoder import DPTSegmentationHead
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder as TheirFPN
from segmentation_models_pytorch.decoders.segformer.decoder import (
    SegformerDecoder as TheirSegFormer,
)
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder as TheirUPerNet
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3

from zoo_decoders.deeplabv3plus import ASPP
from zoo_decoders.dpt import DPTDecoder
from zoo_decoders.fpn import FPNDecoder
from zoo_decoders.pooling import adaptive_average
from zoo_decoders.segformer import SegFormerDecoder
from zoo_decoders.upernet import UPerNetDecoder

from .conftest import maps_of, schedule_of

CHANNELS = (8, 16, 24, 32)


@pytest.fixture(autouse=True)
def corners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs resize some maps with aligned corners, which shifts the picture; ours never do."""
    torch.manual_seed(0)
    plain: Callable[..., Tensor] = F.interpolate

    def interpolate(*arguments: Any, align_corners: bool | None = None, **options: Any) -> Tensor:
        return plain(*arguments, align_corners=align_corners and False, **options)

    monkeypatch.setattr(F, "interpolate", interpolate)


def trained(module: nn.Module) -> Any:
    """Norms that are not as they were initialised."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return module.eval()


def take_over(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy tensors in their order, whatever they are called."""
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))


def take_over_bias(ours: nn.Module, conv: nn.Module, norm: nn.BatchNorm2d) -> None:
    """Make their norm nothing but a bias, as ours has no norm there, and copy both."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    nn.init.ones_(norm.weight)
    ours.load_state_dict({"weight": conv.weight, "bias": norm.bias})


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_adaptive_average_is_torchs(bins: int) -> None:
    for height in range(1, 20):
        for width in (1, 5, 6, 13, 24):
            x = torch.randn(2, 3, height, width, dtype=torch.float64)
            torch.testing.assert_close(adaptive_average(x, bins), F.adaptive_avg_pool2d(x, bins))


def test_fpn() -> None:
    theirs = trained(TheirFPN(list(CHANNELS), 4))
    ours = FPNDecoder(CHANNELS, 3).eval()
    laterals = [theirs.p2.skip_conv, theirs.p3.skip_conv, theirs.p4.skip_conv, theirs.p5]
    for lateral, other in zip(ours.laterals, laterals, strict=True):
        take_over(lateral, other)
    for branch, block in zip(ours.branches, theirs.seg_blocks[::-1], strict=True):
        take_over(branch, block)
    maps = maps_of(schedule_of("cnn"), (96, 160))
    assert_same(ours.fuse(maps), ours.head(theirs(maps)))


def test_segformer() -> None:
    theirs = trained(TheirSegFormer([3, 0, *CHANNELS], 5, 32))
    ours = SegFormerDecoder(CHANNELS, 3, channels=32).eval()
    deep_first = list(ours.levels)[::-1]
    mixing = theirs.fuse_stage[0].weight.chunk(4, dim=1)
    for level, mlp, mix in zip(deep_first, theirs.mlp_stage, mixing, strict=True):
        nn.init.zeros_(mlp.linear.bias)  # The norm behind it has one.
        level.load_state_dict({"0.weight": mlp.linear.weight[..., None, None], "2.weight": mix})
    take_over(ours.head[0], theirs.fuse_stage[1])
    maps = maps_of(schedule_of("cnn"), (96, 160))
    image, none = torch.empty(2, 3, 96, 160), torch.empty(2, 0, 48, 80)
    assert_same(ours.fuse(maps), ours.head[3](theirs([image, none, *maps])))


def test_upernet() -> None:
    theirs = trained(TheirUPerNet([3, 0, *CHANNELS], 5, 32))
    for level in range(4):
        theirs.feature_norms[level] = nn.Identity()  # Norms of its own before the decoder.
    ours = UPerNetDecoder(CHANNELS, 3, channels=32).eval()
    pooling = ours.deepest[0]
    (_, (conv, norm, _)), *blocks = theirs.psp.blocks
    take_over_bias(pooling.scales[0][0], conv, norm)
    for scale, block in zip(pooling.scales[1:], blocks, strict=True):
        take_over(scale, block)
    take_over(pooling.join, theirs.psp.out_conv)
    for lateral, block in zip(ours.laterals[::-1], theirs.fpn_lateral_blocks, strict=True):
        take_over(lateral, block)
    for smooth, block in zip(ours.smooth[::-1], theirs.fpn_conv_blocks, strict=True):
        take_over(smooth, block)
    take_over(ours.head[0], theirs.fusion_block)
    for size in [(96, 160), (97, 131)]:
        maps = maps_of(schedule_of("cnn"), size)
        nothing = torch.empty(0)
        assert_same(ours.fuse(maps), ours.head[1](theirs([nothing, nothing, *maps])))


@pytest.mark.parametrize("name", ["cnn", "vit 16"])
def test_dpt(name: str) -> None:
    schedule = schedule_of(name)
    theirs = trained(
        TheirDPT(tuple(schedule), schedule.strides, False, "ignore", (32,) * 4, fusion_channels=32)
    )
    their_head = trained(DPTSegmentationHead(32, 3))
    ours = DPTDecoder(schedule, 3, channels=32).eval()
    for level, block in zip(ours.reassemble, theirs.reassemble_blocks, strict=True):
        take_over(level, block)
    for fusion, block in zip(ours.fusions[::-1], theirs.fusion_blocks, strict=True):
        take_over(fusion, block)
    take_over(ours.head, their_head)
    maps = maps_of(schedule, (96, 160))
    assert_same(ours(maps), their_head(theirs(maps, [None] * 4)))


def dense(separable: nn.Module) -> Tensor:
    """The weight of the one convolution that does what a separable one does."""
    depthwise, pointwise = separable[0].weight, separable[1][0].weight
    return pointwise * depthwise.movedim(0, 1)


@pytest.mark.parametrize("separable", [False, True])
def test_aspp(separable: bool) -> None:
    rates = (2, 4, 6)
    if separable:
        theirs = trained(deeplab.ASPP(16, 24, rates, separable=True, dropout=0.5))
    else:
        theirs = trained(deeplabv3.ASPP(16, rates, 24))
    ours = ASPP(16, 24, rates).eval()
    plain, *atrous, average = theirs.convs
    take_over(ours.branches[0], plain)
    for branch, other in zip(ours.branches[1:], atrous, strict=True):
        if separable:
            take_over(nn.Sequential(branch[0], branch[1][0]), other[0])
        else:
            other[0].load_state_dict({"weight": dense(branch)})
        take_over(branch[1][1], other[1])
    take_over_bias(ours.average[0], average[1], average[2])
    conv, norm = theirs.project[:2]
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).reshape(-1, 1, 1, 1)
    ours.join[0].load_state_dict({"weight": conv.weight[:, :96]})
    ours.average[2].load_state_dict({"weight": conv.weight[:, 96:] * scale})
    take_over(ours.join[1], norm)
    x = torch.randn(2, 16, 17, 12)
    assert_same(ours(x), theirs(x))
