"""Running a model for its answers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import zoo_core as zoo
from zoo_core.errors import InputError
from zoo_core.inference import Inference
from zoo_core.models import MultitaskModel
from zoo_core.prediction import Predictor, predict


@pytest.fixture(scope="module")
def model() -> MultitaskModel:
    return zoo.build(
        "resnet18+unet", num_classes_classification=6, num_classes_segmentation=4, seed=0,
        image_size=64,
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(4, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
@pytest.mark.parametrize("head", ["classification", "segmentation"])
def test_logits_differ_by_rounding(model: MultitaskModel, pictures: Tensor, head: str) -> None:
    expected: Any = model.run(pictures, head == "classification", head == "segmentation")
    assert Inference(model, exact=True).logits(head, pictures).equal(expected)
    running = Inference(model)
    for _ in range(3):
        found = running.logits(head, pictures)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_was(model: MultitaskModel, pictures: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    strides = [parameter.stride() for parameter in model.parameters()]
    running = Inference(model)
    for _ in range(2):
        with torch.inference_mode():
            running.logits("classification", pictures)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert not any(p.is_inference() for p in model.parameters())


@torch.inference_mode()
@pytest.mark.parametrize("head", ["classification", "segmentation"])
def test_lower_precision_is_used_where_it_is_asked_for(
    model: MultitaskModel, pictures: Tensor, head: str
) -> None:
    full = Inference(model).logits(head, pictures)
    low = Inference(model, mixed_precision=torch.bfloat16).logits(head, pictures)
    assert low.dtype == torch.float32
    error = (low - full).norm() / full.norm()
    assert 1e-4 < error < 0.05


def test_pictures_of_many_sizes_are_predicted_together(model: MultitaskModel) -> None:
    images = [Image.effect_noise((width, 70), 80).convert("RGB") for width in (90, 70, 90, 130)]
    predictor = Predictor(model, top=3)
    found = predictor.predict([predictor.prepare(image) for image in images])
    for image, prediction in zip(images, found, strict=True):
        alone = predict(model, image, top=3)
        assert alone.mask is not None
        assert prediction.mask is not None
        assert prediction.mask.shape == (image.height, image.width)
        assert (alone.mask == prediction.mask).mean() > 0.999
        assert alone.classification is not None
        assert prediction.classification is not None
        for one, other in zip(alone.classification, prediction.classification, strict=True):
            assert one.index == other.index
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_no_pictures_are_no_predictions(model: MultitaskModel) -> None:
    assert Predictor(model).predict([]) == []


def test_a_model_without_preprocessing_is_refused(model: MultitaskModel, tmp_path: Path) -> None:
    unprepared = zoo.build("resnet18")
    unprepared.preprocessing = None
    with pytest.raises(InputError, match="does not know its preprocessing"):
        Predictor(unprepared)
