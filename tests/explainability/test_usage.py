"""Explaining as a user writes it down."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo_core.models import MultitaskModel
from zoo_core.models.backbones import CNNBackbone

CLASS_OF_INTEREST = 0


@pytest.fixture(scope="module")
def model() -> MultitaskModel:
    torch.manual_seed(0)
    model = MultitaskModel(CNNBackbone(18), num_classes_classification=5)
    assert model.classifier is not None
    with torch.no_grad():
        model.classifier.weight.abs_()
    return model


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_an_explainer_of_ones_own(model: nn.Module, inputs: Tensor) -> None:
    from zoo_core.explainability import BaseExplainer

    class MyExplainer(BaseExplainer):
        def explain(self, inputs, model, target_class):  # type: ignore # noqa: ANN001, ANN202
            return model(inputs)[:, target_class, None, None] * inputs[:, 0]

    heatmap = MyExplainer().explain(inputs, model, 0)
    assert heatmap.shape == (2, 64, 64)


def test_grad_cam(model: Any, inputs: Tensor) -> None:
    from zoo_core.explainability import GradCAM

    gradcam = GradCAM(
        model=model,
        target_layer=model.backbone.layer4[-1],
    )
    heatmap = gradcam.explain(
        inputs,
        target_class=0,
        normalize=True,
    )
    assert heatmap.shape == (2, 64, 64)
    assert (heatmap.min(), heatmap.max()) == (0, 1)
    assert torch.equal(heatmap, GradCAM(model).explain(inputs, target_class=0))


def test_saliency(model: nn.Module, inputs: Tensor) -> None:
    from zoo_core.explainability import (
        IntegratedGradients,
        SmoothGrad,
        VanillaSaliency,
    )

    saliency = VanillaSaliency(model)
    smoothgrad = SmoothGrad(model, num_samples=50)
    intgrad = IntegratedGradients(model, num_steps=50)
    for method in (saliency, smoothgrad, intgrad):
        attribution = method.explain(inputs, target_class=0)
        assert attribution.shape == (2, 3, 64, 64)
        assert attribution.min() < 0 < attribution.max()


def test_several_methods_at_once(model: nn.Module, inputs: Tensor) -> None:
    from zoo_core.explainability import Explainer, Skipped

    pytest.importorskip("zoo_attention_maps")
    model.eval()
    explainer = Explainer(
        model=model,
        methods=["grad_cam", "saliency", "smoothgrad", "attention"],
    )
    with torch.no_grad():
        explanations = explainer.explain(
            inputs,
            target_class=0,
        )
    assert list(explanations) == ["grad_cam", "saliency", "smoothgrad", "attention"]
    assert explanations["grad_cam"].shape == (2, 64, 64)
    assert explanations["saliency"].shape == (2, 3, 64, 64)
    assert explanations["smoothgrad"].shape == (2, 3, 64, 64)
    assert isinstance(explanations["attention"], Skipped)


def test_the_names_that_are_promised_can_be_imported() -> None:
    import zoo_core.explainability

    promised = {"BaseExplainer", "Explainer", "GradCAM", "VanillaSaliency", "SmoothGrad"}
    assert promised | {"IntegratedGradients"} <= set(dir(zoo_core.explainability))
