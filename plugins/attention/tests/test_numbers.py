"""Each module against a reference, or against its formula where there is none."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from timm.layers import EcaModule, NonLocalAttn, SEModule
from timm.layers.coord_attn import CoordAttn
from timm.layers.global_context import GlobalContext as TimmGlobalContext
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo_attention.channel import EfficientChannelAttention, SqueezeExcitation
from zoo_attention.context import GlobalContext, NonLocal
from zoo_attention.spatial import BAM, ConcurrentSqueezeExcitation, CoordinateAttention, SimAM

TRAINING = pytest.mark.parametrize("training", [False, True])


def randomised(module: nn.Module) -> nn.Module:
    """Give every tensor values that matter, those that begin at zero or one too, in doubles.

    The order of sums, which threads change, shows in floats.
    """
    torch.manual_seed(1)
    module = module.double()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5 if name.endswith("running_var") else -0.5, 1.5)
    return module


def copied(source: nn.Module, target: nn.Module) -> None:
    """Copy tensors in their order, whatever their names; the shapes may differ by ones."""
    target.double()
    for mine, theirs in zip(
        source.state_dict().values(), target.state_dict().values(), strict=True
    ):
        theirs.copy_(mine.view_as(theirs))


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("channels", "reduction"), [(64, 16), (48, 4), (10, 16)])
def test_squeeze_excitation_equals_timms(channels: int, reduction: int) -> None:
    ours = randomised(SqueezeExcitation(channels, reduction))
    theirs = SEModule(channels, rd_channels=max(1, channels // reduction))
    copied(ours, theirs)
    x = torch.randn(2, channels, 9, 7, dtype=torch.float64)
    same(ours(x), theirs(x))


@pytest.mark.parametrize("channels", [1, 16, 64, 100, 512, 2048])
def test_efficient_channel_attention_equals_timms(channels: int) -> None:
    ours, theirs = randomised(EfficientChannelAttention(channels)), EcaModule(channels)
    copied(ours, theirs)
    x = torch.randn(2, channels, 5, 8, dtype=torch.float64)
    same(ours(x), theirs(x))


def test_the_adaptive_kernel_is_timms_for_every_width() -> None:
    sizes = [EfficientChannelAttention(c).conv.kernel_size for c in range(1, 1025)]
    assert sizes == [EcaModule(c).conv.kernel_size for c in range(1, 1025)]
    assert set(sizes) == {(3,), (5,)}
    assert EfficientChannelAttention(64, kernel_size=9).conv.kernel_size == (9,)


@pytest.mark.parametrize(("channels", "reduction"), [(64, 16), (32, 2)])
def test_concurrent_squeeze_excitation_equals_smps(channels: int, reduction: int) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    ours = randomised(ConcurrentSqueezeExcitation(channels, reduction))
    theirs = smp.base.modules.SCSEModule(channels, reduction)
    copied(ours, theirs)
    x = torch.randn(2, channels, 9, 7, dtype=torch.float64)
    same(ours(x), theirs(x))


def test_concurrent_squeeze_excitation_is_its_formula() -> None:
    ours = randomised(ConcurrentSqueezeExcitation(6, 3))
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    squeezed = torch.relu(ours.channel.mlp[0](x.mean((2, 3), keepdim=True)))
    channels = torch.sigmoid(ours.channel.mlp[2](squeezed))
    weight, bias = ours.place.weight.flatten(), ours.place.bias
    places = torch.sigmoid(torch.einsum("bchw,c->bhw", x, weight) + bias)
    same(ours(x), x * channels + x * places[:, None])


@TRAINING
@pytest.mark.parametrize("size", [(9, 7), (1, 6), (1, 1)])
def test_coordinate_attention_equals_timms(size: tuple[int, int], training: bool) -> None:
    ours = randomised(CoordinateAttention(48, reduction=4)).train(training)
    theirs = CoordAttn(48, rd_channels=12, bias=True).train(training)
    theirs.conv1.bias = None  # a batch norm follows
    copied(ours, theirs)
    x = torch.randn(2, 48, *size, dtype=torch.float64)
    same(ours(x), theirs(x))


@pytest.mark.parametrize("size", [(9, 7), (1, 2), (1, 1)])
def test_simam_is_its_formula(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = torch.empty_like(x)
    for picture in range(2):
        for channel in range(3):
            values = x[picture, channel]
            others = max(values.numel() - 1, 1)
            mean = values.sum() / values.numel()
            variance = sum((value - mean) ** 2 for value in values.flatten()) / others
            energy = 4 * (variance + 1e-2) / ((values - mean) ** 2 + 2 * (variance + 1e-2))
            expected[picture, channel] = values / (1 + torch.exp(-1 / energy))
    same(SimAM(3, e_lambda=1e-2)(x), expected)


@TRAINING
@pytest.mark.parametrize("dilation", [1, 4])
def test_bam_is_its_formula(training: bool, dilation: int) -> None:
    bam = randomised(BAM(12, reduction=4, dilation=dilation)).train(training)
    x = torch.randn(3, 12, 9, 7, dtype=torch.float64)

    def normed(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        mean, variance = norm.running_mean, norm.running_var
        if training:
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
        scale = norm.weight / (variance + norm.eps).sqrt()
        return (y - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]

    def convolved(y: Tensor, conv: nn.Conv2d) -> Tensor:
        if conv.kernel_size == (1, 1):
            return torch.einsum("bchw,dc->bdhw", y, conv.weight[..., 0, 0])
        padded = F.pad(y, (dilation,) * 4)
        taps = F.unfold(padded, 3, dilation=dilation)
        return (conv.weight.flatten(1) @ taps).unflatten(2, y.shape[2:])

    first, _, second, norm = bam.channel
    hidden = torch.relu(convolved(x.mean((2, 3), keepdim=True), first) + first.bias[:, None, None])
    channel = normed(convolved(hidden, second), norm)
    place = x
    for conv, inner, _ in bam.place[:3]:
        place = torch.relu(normed(convolved(place, conv), inner))
    place = normed(convolved(place, bam.place[3]), bam.place[4])
    with torch.no_grad():
        expected = x * (1 + 1 / (1 + torch.exp(-channel - place)))
        same(bam(x), expected)


@pytest.mark.parametrize("size", [(9, 7), (1, 1)])
def test_global_context_equals_timms(size: tuple[int, int]) -> None:
    ours = randomised(GlobalContext(64, reduction=4))
    theirs = TimmGlobalContext(64, fuse_add=True, fuse_scale=False, rd_channels=16)
    theirs.mlp_add.norm.eps = ours.transform[1].eps
    theirs.conv_attn.bias = None  # a softmax follows
    copied(ours, theirs)
    x = torch.randn(2, 64, *size, dtype=torch.float64)
    same(ours(x), theirs(x))


@TRAINING
@pytest.mark.parametrize("size", [(9, 7), (1, 5), (1, 1)])
def test_non_local_equals_timms(size: tuple[int, int], training: bool) -> None:
    ours = randomised(NonLocal(24, reduction=3, subsample=1)).train(training)
    theirs = NonLocalAttn(24, rd_channels=8).train(training)
    theirs.scale = 1 / math.sqrt(8)  # timm divides by the root of all channels
    theirs.p.bias = theirs.g.bias = theirs.z.bias = None  # a softmax and a batch norm follow
    copied(ours, theirs)
    x = torch.randn(2, 24, *size, dtype=torch.float64)
    same(ours(x), theirs(x))


def test_non_local_looks_at_the_maxima_of_squares() -> None:
    ours = randomised(NonLocal(6, reduction=2, subsample=2)).eval()
    x = torch.randn(1, 6, 5, 3, dtype=torch.float64)
    corners = [(row, column) for row in (0, 2, 4) for column in (0, 2)]
    seen = torch.stack([x[..., r : r + 2, c : c + 2].amax((2, 3)) for r, c in corners], 2)[
        ..., None
    ]
    query, key, value = ours.query(x).flatten(2), ours.key(seen), ours.value(seen)
    weights = (query.mT @ key.flatten(2) / math.sqrt(3)).softmax(2)
    assert weights.shape == (1, 15, 6)
    attended = (value.flatten(2) @ weights.mT).unflatten(2, (5, 3))
    same(ours(x), x + ours.norm(ours.project(attended)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_non_local_never_makes_the_matrix_of_all_weights(layout: torch.memory_format) -> None:
    ours = NonLocal(16).to(memory_format=layout)
    x = torch.randn(2, 16, 12, 9).contiguous(memory_format=layout).requires_grad_()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # refuses what needs another kernel
        ours(x).sum().backward()


@pytest.mark.parametrize("module", [GlobalContext(32), NonLocal(32)])
@TRAINING
def test_they_begin_as_the_identity(module: nn.Module, training: bool) -> None:
    x = torch.randn(2, 32, 6, 5)
    assert torch.equal(module.train(training)(x), x)
