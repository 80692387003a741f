"""The attributions against captum's."""

from __future__ import annotations

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from zoo_saliency.gradient import InputXGradient, VanillaSaliency
from zoo_saliency.guided import GuidedBackprop
from zoo_saliency.occlusion import Occlusion
from zoo_saliency.path import IntegratedGradients

CLASSES = [1, 7, 4]


def network(activation: type[nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), activation(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), activation(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10),
    ).eval().to(dtype)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return network(nn.ReLU)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 3, 24, 36)


def test_saliency_is_captums(model: nn.Module, pictures: Tensor) -> None:
    theirs = captum.attr.Saliency(model)
    targets = torch.tensor(CLASSES)
    for absolute in (False, True):
        expected = theirs.attribute(pictures.clone().requires_grad_(), targets, abs=absolute)
        found = VanillaSaliency(model).explain(pictures, None, CLASSES, absolute=absolute)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_input_x_gradient_is_captums(model: nn.Module, pictures: Tensor) -> None:
    theirs = captum.attr.InputXGradient(model)
    expected = theirs.attribute(pictures.clone().requires_grad_(), torch.tensor(CLASSES)).detach()
    found = InputXGradient(model).explain(pictures, target_class=CLASSES)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
def test_guided_backprop_is_captums(model: nn.Module, pictures: Tensor) -> None:
    theirs = captum.attr.GuidedBackprop(model)
    expected = theirs.attribute(pictures.clone().requires_grad_(), torch.tensor(CLASSES))
    found = GuidedBackprop(model).explain(pictures, target_class=CLASSES)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("patch", "stride"), [((8, 12), (4, 6)), ((7, 7), (5, 3)), ((3, 5), (3, 4))]
)
def test_occlusion_is_captums(
    model: nn.Module, pictures: Tensor, patch: tuple[int, int], stride: tuple[int, int]
) -> None:
    theirs = captum.attr.Occlusion(model)
    expected = theirs.attribute(
        pictures, (3, *patch), (3, *stride), baselines=0.5, target=torch.tensor(CLASSES)
    )
    explainer = Occlusion(model, patch, stride, baseline=0.5)
    found = explainer.explain(pictures, target_class=CLASSES)
    assert found.shape == (3, 24, 36)
    for channel in range(3):
        torch.testing.assert_close(found, expected[:, channel], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [20, 50])
def test_integrated_gradients_are_captums(pictures: Tensor, steps: int) -> None:
    for activation, complete, tolerance in ((nn.ReLU, False, 1e-10), (nn.GELU, True, 1e-9)):
        model = network(activation, torch.float64)
        inputs = pictures.double()
        expected = captum.attr.IntegratedGradients(model).attribute(
            inputs, torch.full_like(inputs, -0.5), torch.tensor(CLASSES),
            n_steps=steps, method="gausslegendre",
        )  # fmt: skip
        explainer = IntegratedGradients(model, steps, baseline=-0.5, complete=complete)
        found = explainer.explain(inputs, target_class=CLASSES)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
