"""The maps against those of captum and pytorch-grad-cam."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchvision
from captum.attr import LayerAttribution, LayerGradCam
from pytorch_grad_cam.utils.model_targets import (
    ClassifierOutputTarget,
    SemanticSegmentationTarget,
)
from torch import Tensor, nn

from zoo_gradcam.ablation import AblationCAM
from zoo_gradcam.base import CAM
from zoo_gradcam.eigen import EigenCAM
from zoo_gradcam.gradient import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from zoo_gradcam.score import ScoreCAM

CLASSES = [1, 7, 4]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A convolutional network with random weights, whose scores are positive."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(inplace=True),
        nn.Conv2d(24, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip
    net(torch.randn(64, 3, 48, 72))
    with torch.no_grad():
        net[-1].weight.mul_(3000).add_(100)
        net[-1].bias += 4000
    return net.eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, 48, 72)


@pytest.mark.parametrize("layer", ["8", "7", "3"])
def test_grad_cam_is_captums(model: nn.Module, pictures: Tensor, layer: str) -> None:
    # In the order in memory that the zoo runs convolutions in, as the last bits depend on it.
    ordered = pictures.contiguous(memory_format=torch.channels_last)
    theirs = LayerGradCam(model, model.get_submodule(layer)).attribute(
        ordered, torch.tensor(CLASSES), relu_attributions=True
    )
    expected = LayerAttribution.interpolate(theirs, (48, 72), "bilinear")[:, 0].detach()
    found = GradCAM(model, layer).explain(pictures, target_class=CLASSES, normalize=False)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def peer(name: str, model: nn.Module, layer: nn.Module, pictures: Tensor, **options: Any) -> Tensor:
    cam = getattr(pytorch_grad_cam, name)(model=model, target_layers=[layer], **options)
    maps = cam(pictures, [ClassifierOutputTarget(category) for category in CLASSES])
    return torch.from_numpy(maps)


GRADIENTS = {
    "GradCAM": GradCAM,
    "GradCAMPlusPlus": GradCAMPlusPlus,
    "HiResCAM": HiResCAM,
    "LayerCAM": LayerCAM,
    "XGradCAM": XGradCAM,
}


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("layer", ["8", "5"])
def test_maps_from_gradients_are_pytorch_grad_cams(
    model: nn.Module, pictures: Tensor, name: str, layer: str
) -> None:
    # In float64, as processors round differently. It adds small numbers to what it divides by,
    # which are nothing beside gradients of this size.
    model, pictures = copy.deepcopy(model).double(), pictures.double()
    expected = peer(name, model, model.get_submodule(layer), pictures)
    found = GRADIENTS[name](model, layer).explain(pictures, target_class=CLASSES).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_eigen_cam_is_pytorch_grad_cams_with_its_sign(model: nn.Module, pictures: Tensor) -> None:
    found = EigenCAM(model, "8").explain(pictures, target_class=CLASSES)
    expected = peer("EigenCAM", model, model.get_submodule("8"), pictures)
    flipped = []
    for ours, theirs in zip(found, expected, strict=True):
        same = (ours - theirs).abs().max() < 1e-4
        # Theirs has the sign that the decomposition happens to give.
        opposite = ((ours > 0.05) & (theirs > 0.05)).sum() == 0
        assert same or opposite
        flipped.append(bool(opposite))
    assert not all(flipped)


def test_ablation_cam_is_pytorch_grad_cams(model: nn.Module, pictures: Tensor) -> None:
    expected = peer("AblationCAM", model, model.get_submodule("8"), pictures)
    found = AblationCAM(model, "8").explain(pictures, target_class=CLASSES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_score_cam_is_pytorch_grad_cams_where_no_map_is_enlarged(pictures: Tensor) -> None:
    # They enlarge maps with the corners aligned, which the paper's authors do not.
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()  # fmt: skip
    with torch.no_grad():
        model[-1].weight *= 20
    small = pictures[..., :24, :20]
    expected = peer("ScoreCAM", model, model[1], small)
    found = ScoreCAM(model, "1").explain(small, target_class=CLASSES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_segmentation_is_pytorch_grad_cams(pictures: Tensor) -> None:
    torch.manual_seed(0)
    model = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=False
    ).eval()

    class Out(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)["out"]

    explanation = GradCAM(model).explanation(pictures[:1], target_class=2)
    assert explanation.facts.target_layer == "backbone.layer4.2"
    with torch.no_grad():
        mask = (model(pictures[:1])["out"].argmax(1)[0] == 2).numpy()
    assert 0 < mask.sum() < mask.size
    cam = pytorch_grad_cam.GradCAM(model=Out(), target_layers=[model.backbone.layer4[-1]])
    expected = cam(pictures[:1], [SemanticSegmentationTarget(2, mask.astype(np.float32))])
    torch.testing.assert_close(explanation.values, torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_tokens_are_pytorch_grad_cams() -> None:
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=10).eval()
    nn.init.normal_(vit.heads.head.weight)
    pictures = torch.randn(3, 3, 32, 32)
    expected = peer(
        "GradCAM", vit, vit.encoder.layers[-1].ln_1, pictures,
        reshape_transform=lambda tokens: tokens[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2),
    )  # fmt: skip
    explanation = GradCAM(vit).explanation(pictures, target_class=CLASSES)
    assert explanation.facts.target_layer == "encoder.layers.encoder_layer_2.ln_1"
    torch.testing.assert_close(explanation.values, expected, rtol=0, atol=1e-5)


def test_every_method_has_its_peer_here() -> None:
    from zoo_gradcam import zoo_specs

    compared = {*GRADIENTS.values(), EigenCAM, AblationCAM, ScoreCAM}
    assert {spec.target.partition(":")[2] for spec in zoo_specs()} == {c.__name__ for c in compared}
    assert all(issubclass(kind, CAM) for kind in compared)
