"""The values against captum's own, called by hand."""

from __future__ import annotations

from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo_captum.explainer import CaptumExplainer
from zoo_captum.methods import METHODS

CLASSES = [1, 7]
pytestmark = pytest.mark.filterwarnings("ignore:Setting:UserWarning", "ignore:Input Tensor")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(1),
        nn.Conv2d(8, 12, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), Head(),
    ).eval()  # fmt: skip


class Head(nn.Module):
    """captum's LRP has no rule for nn.Flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 10)
        nn.init.normal_(self.linear.weight, std=20)  # LIME's lasso leaves out what counts little

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(1))


BASE = torch.full((1, 3, 24, 32), 0.25)
SEVERAL = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, 3, 24, 32).contiguous()
MASK = (torch.arange(24)[:, None] // 8) * 4 + torch.arange(32) // 8

CASES: dict[str, dict[str, Any]] = {
    "deep_lift": {"baselines": BASE},
    "deep_lift_shap": {"baselines": SEVERAL},
    "gradient_shap": {"baselines": SEVERAL, "n_samples": 4, "stdevs": 0.1},
    "deconvolution": {},
    "guided_gradcam": {"layer": "3"},
    "lrp": {},
    "noise_tunnel": {"nt_type": "vargrad", "nt_samples": 4, "stdevs": 0.3},
    "feature_ablation": {"baselines": BASE, "feature_mask": MASK},
    "occlusion": {"baselines": BASE, "sliding_window_shapes": (3, 8, 6), "strides": (3, 4, 5)},
    "shapley_value_sampling": {"baselines": BASE, "feature_mask": MASK, "n_samples": 3},
    "shapley_values": {"baselines": BASE, "feature_mask": MASK // 4},
    "lime": {"baselines": BASE, "feature_mask": MASK, "n_samples": 40},
    "kernel_shap": {"baselines": BASE, "feature_mask": MASK, "n_samples": 40},
    "internal_influence": {"layer": "3", "baselines": BASE, "n_steps": 6},
    "layer_conductance": {"layer": "3", "baselines": BASE, "n_steps": 6},
    "layer_integrated_gradients": {"layer": "3", "baselines": BASE, "n_steps": 6},
    "layer_gradient_x_activation": {"layer": "3"},
    "layer_deep_lift": {"layer": "3", "baselines": BASE},
    "layer_deep_lift_shap": {"layer": "3", "baselines": SEVERAL},
    "layer_gradient_shap": {"layer": "3", "baselines": SEVERAL, "n_samples": 4},
}


def by_hand(model: Any, name: str, options: dict[str, Any], picture: Tensor, target: int) -> Tensor:
    """Call captum for one picture."""
    given = dict(options)
    kind = getattr(captum.attr, METHODS[name].captum)
    made = [model[int(given.pop("layer"))]] if "layer" in given else []
    first = captum.attr.Saliency(model) if name == "noise_tunnel" else model
    if name == "noise_tunnel":
        given["abs"] = False
    if "feature_mask" in given:
        given["feature_mask"] = given["feature_mask"].expand(1, 3, -1, -1).contiguous()
    np.random.seed(5)
    torch.manual_seed(5)
    values = kind(first, *made).attribute(picture.clone(), target=target, **given)
    values = values[0] if isinstance(values, tuple) else values
    if METHODS[name].layer:
        size = picture.shape[2:]
        values = nn.functional.interpolate(values.sum(1, keepdim=True), size, mode="bilinear")[:, 0]
    return values.detach()


@pytest.mark.parametrize("name", METHODS)
def test_values_are_captums(model: nn.Module, pictures: Tensor, name: str) -> None:
    options = CASES[name]
    seeded = {"seed": 5} if "seed" in METHODS[name].options else {}
    explainer = CaptumExplainer(model, name, **options, **seeded)
    found = explainer.explain(pictures, target_class=torch.tensor(CLASSES))
    for row, target in enumerate(CLASSES):
        expected = by_hand(model, name, options, pictures[row : row + 1], target)
        assert expected.abs().max() > 0
        torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-4, atol=1e-6)


def test_deep_lift_adds_up_where_captums_does_not(pictures: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 10),
    ).eval().double()  # fmt: skip
    inputs, base = pictures.double(), BASE.double()
    with torch.no_grad():
        rise = model(inputs)[[0, 1], CLASSES] - model(base)[0, CLASSES]
    theirs = captum.attr.DeepLift(model).attribute(inputs.clone(), base, CLASSES).detach()
    ours = CaptumExplainer(model, "deep_lift", baselines=base).explain(inputs, target_class=CLASSES)
    # A ReLU before a pool, and windows that overlap, are more than captum's hooks can follow.
    assert (theirs.sum((1, 2, 3)) - rise).abs().max() > 1e-3
    torch.testing.assert_close(ours.sum((1, 2, 3)), rise, rtol=1e-10, atol=1e-12)
