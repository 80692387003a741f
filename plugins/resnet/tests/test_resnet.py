"""CNNBackbone against torchvision's and timm's ResNet."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from zoo_core import registry
from zoo_core.errors import InputError
from zoo_resnet.model import CNNBackbone

SIZES = [(32, 32), (33, 47), (64, 96), (97, 131)]


def torchvision_maps(resnet: nn.Module, x: Tensor) -> list[Tensor]:
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(x))))
    maps = []
    for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        x = layer(x)
        maps.append(x)
    return maps


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_same_weights_give_torchvisions_maps_and_pooled_vector(depth: int) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, f"resnet{depth}")().eval()
    backbone = CNNBackbone(depth).eval()
    weights = {k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    assert list(backbone.state_dict()) == list(weights)
    backbone.load_state_dict(weights)
    x = torch.randn(2, 3, 65, 96)
    with torch.no_grad():
        maps, pooled = backbone.forward_features(x)
        expected = torchvision_maps(reference, x)
        scale = max(float(m.abs().max()) for m in expected)
        for found, wanted in zip(maps, expected, strict=True):
            torch.testing.assert_close(found / scale, wanted / scale, atol=1e-5, rtol=1e-5)
        logits = reference.fc(pooled)
        torch.testing.assert_close(logits, reference(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_bottlenecks_equal_torchvisions(output_stride: int) -> None:
    torch.manual_seed(0)
    dilate = [False, output_stride == 8, True]
    reference = torchvision.models.resnet50(replace_stride_with_dilation=dilate).eval()
    backbone = CNNBackbone(50, output_stride=output_stride).eval()
    backbone.load_state_dict(reference.state_dict(), strict=False)
    x = torch.randn(1, 3, 97, 64)
    with torch.no_grad():
        for found, wanted in zip(backbone(x), torchvision_maps(reference, x), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_basic_blocks_equal_timms(output_stride: int) -> None:
    torch.manual_seed(0)
    reference = timm.create_model("resnet18", output_stride=output_stride).eval()
    backbone = CNNBackbone(18, output_stride=output_stride).eval()
    backbone.load_state_dict(reference.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 97)
    with torch.no_grad():
        wanted = reference.forward_features(x)
        torch.testing.assert_close(backbone(x)[-1], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("size", SIZES)
def test_maps_have_the_promised_shapes(
    depth: int, output_stride: int, size: tuple[int, int]
) -> None:
    with torch.device("meta"):
        backbone = CNNBackbone(depth, in_channels=5, output_stride=output_stride)
        maps = backbone(torch.empty(2, 5, *size))
    schedule = backbone.get_channel_schedule()
    assert schedule.strides == tuple(min(s, output_stride) for s in (4, 8, 16, 32))
    assert [tuple(m.shape) for m in maps] == [
        (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        for channels, stride in zip(schedule, schedule.strides, strict=True)
    ]


def test_declared_facts_are_true() -> None:
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        spec = registry.backbones[name]
        with torch.device("meta"):
            backbone = CNNBackbone(**spec.kwargs)
        assert tuple(spec.channels) == tuple(backbone.get_channel_schedule())
        assert tuple(spec.strides) == backbone.get_channel_schedule().strides


def test_explainers_reach_the_stages() -> None:
    backbone = CNNBackbone(18)
    assert isinstance(backbone.layer4[-1], nn.Module)
    assert backbone.layer1[0].conv1.in_channels == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 42}, "depth must be one of 18, 34, 50, 101, 152, not 42"),
        ({"output_stride": 4}, "output_stride must be 8, 16 or 32, not 4"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        CNNBackbone(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_a_seed_gives_torchvisions_initial_values_by_its_names(depth: int) -> None:
    torch.manual_seed(3)
    ours = CNNBackbone(depth).state_dict()
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(f"resnet{depth}", num_classes=1).state_dict()
    assert list(ours) == [name for name in theirs if not name.startswith("fc.")]
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
