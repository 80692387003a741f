"""Trained weights and photographs, beside captum and pytorch-grad-cam."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import LayerAttribution, LayerGradCam, Saliency
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

import zoo_core as zoo
from zoo_core.explainability import (
    Explainer,
    GradCAM,
    IntegratedGradients,
    SmoothGrad,
    VanillaSaliency,
)
from zoo_core.explainability import precision as precisions
from zoo_core.explainability.precision import agreement
from zoo_core.pictures import prepare

TABBY, ESPRESSO = 281, 967


@pytest.fixture(scope="module")
def model(lite0: Path) -> Any:
    return zoo.build("timm/efficientnet_lite0", weights=lite0).eval()


@pytest.fixture(scope="module")
def pictures(model: Any, photos: dict[str, Path]) -> Tensor:
    """A cat, an espresso, a Chinese temple and a flower."""
    files = [Image.open(photos[name]).convert("RGB") for name in ("chelsea", "coffee")]
    files += map(Image.fromarray, load_sample_images().images)
    return torch.stack([prepare(picture, model.preprocessing) for picture in files])


@pytest.fixture(scope="module")
def explanations(model: Any, pictures: Tensor) -> Any:
    methods = {
        "grad_cam": {}, "grad_cam_plus_plus": {}, "layer_cam": {}, "hires_cam": {}, "xgrad_cam": {},
        "saliency": {"absolute": True},
        "guided_backprop": {"absolute": True}, "ablation_cam": {},
        "smoothgrad": {"num_samples": 4, "absolute": True},
    }  # fmt: skip
    return Explainer(model, methods).explain(pictures)


def test_what_is_predicted_is_explained(explanations: Any) -> None:
    classes = explanations.target_class.tolist()
    assert classes[:2] == [TABBY, ESPRESSO]
    assert len(set(classes)) == 4
    assert explanations.facts["grad_cam"].target_layer == "backbone.model.bn2"
    assert not explanations.skipped


def test_maps_are_the_peers(model: Any, pictures: Tensor, explanations: Any) -> None:
    layer, classes = model.backbone.model.bn2, explanations.target_class
    raw = LayerGradCam(model, layer).attribute(pictures, classes, relu_attributions=True)
    expected = LayerAttribution.interpolate(raw, (224, 224), "bilinear")[:, 0].detach()
    found = GradCAM(model).explain(pictures, normalize=False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    targets = [pytorch_grad_cam.utils.model_targets.ClassifierOutputTarget(int(c)) for c in classes]
    # Grad-CAM++ there adds 1e-6 to squares of gradients, which are no larger here.
    for name, kind, tolerance in (
        ("grad_cam", "GradCAM", 1e-4),
        ("grad_cam_plus_plus", "GradCAMPlusPlus", 0.03),
        ("layer_cam", "LayerCAM", 1e-4),
        ("hires_cam", "HiResCAM", 1e-4),
        ("xgrad_cam", "XGradCAM", 1e-4),
    ):
        theirs = getattr(pytorch_grad_cam, kind)(model=model, target_layers=[layer])
        maps = torch.from_numpy(theirs(pictures, targets))
        torch.testing.assert_close(explanations[name], maps, rtol=0, atol=tolerance)
    expected = Saliency(model).attribute(pictures.clone().requires_grad_(), classes)
    torch.testing.assert_close(explanations["saliency"], expected, rtol=1e-4, atol=1e-6)


def test_saliency_is_captums_in_float64(model: Any, pictures: Tensor) -> None:
    exact, inputs = deepcopy(model).double(), pictures[:2].double()
    classes = torch.tensor([TABBY, ESPRESSO])
    expected = Saliency(exact).attribute(inputs.clone().requires_grad_(), classes, abs=False)
    found = VanillaSaliency(exact).explain(inputs, target_class=classes)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("method", ["grad_cam", "ablation_cam", "layer_cam", "smoothgrad"])
def test_hiding_what_counts_costs_more_than_hiding_what_does_not(
    model: Any, pictures: Tensor, explanations: Any, method: str
) -> None:
    maps = explanations[method]
    maps = maps.sum(1) if maps.ndim == 4 else maps
    coarse = torch.nn.functional.avg_pool2d(maps[:, None], 16)
    order = coarse.flatten(1).argsort(1, descending=True)
    rows = torch.arange(len(pictures))
    probabilities = []
    for hidden in (order[:, :50], order[:, -50:]):
        mask = torch.zeros(len(pictures), 14 * 14).scatter_(1, hidden, 1).reshape(-1, 1, 14, 14)
        covered = torch.where(
            mask.repeat_interleave(16, 2).repeat_interleave(16, 3) > 0, 0, pictures
        )
        with torch.no_grad():
            probabilities.append(model(covered).softmax(1)[rows, explanations.target_class])
    assert probabilities[0].mean() < 0.6 * probabilities[1].mean()


def test_integrated_gradients_begin_with_black(model: Any, pictures: Tensor) -> None:
    explanation = IntegratedGradients(model, num_steps=8).explanation(pictures[:2])
    facts = explanation.facts
    assert facts.details["baseline"] == "black"
    mean, std = (torch.tensor(v) for v in (model.preprocessing.mean, model.preprocessing.std))
    black = (-mean / std)[:, None, None].expand_as(pictures[:2])
    with torch.no_grad():
        change = (model(pictures[:2]) - model(black))[[0, 1], [TABBY, ESPRESSO]]
    torch.testing.assert_close(explanation.values.sum((1, 2, 3)), change, rtol=1e-4, atol=1e-4)
    assert np.array(facts.details["gap"]).max() < 1


def test_integrated_gradients_are_captums(model: Any, pictures: Tensor) -> None:
    # In float64, as rounding decides which gradient is met where a ReLU bends; captum weighs steps
    # in float32 all the same.
    exact, inputs = deepcopy(model).double(), pictures[:2].double()
    expected = CaptumIntegratedGradients(exact).attribute(
        inputs, baselines=0, target=[TABBY, ESPRESSO], n_steps=3, method="gausslegendre"
    )
    explainer = IntegratedGradients(exact, num_steps=3, baseline="zero", complete=False)
    found = explainer.explain(inputs, target_class=[TABBY, ESPRESSO])
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("explains", [IntegratedGradients, SmoothGrad])
def test_the_precision_that_auto_picks_keeps_the_order_of_values(
    model: Any, pictures: Tensor, explains: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "has_units", lambda device: True)
    explainer = explains(model, 4)
    full = explainer.explain(pictures[:2])
    found = explainer.explanation(pictures[:2], precision="auto")
    assert found.facts.details["precision"] == "bfloat16 backward"
    assert not found.values.equal(full)
    assert agreement(found.values, full, torch.arange(2)) > 0.999
