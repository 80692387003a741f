"""Running a model for its answers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core import inference
from zoo_core.errors import InputError
from zoo_core.inference import Inference, agree
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
@pytest.mark.parametrize("agrees", [True, False])
def test_bfloat16_is_used_where_the_first_answers_agree(
    model: MultitaskModel, pictures: Tensor, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    """Without units it is emulated, so that only the choice is new to the processor."""
    monkeypatch.setattr(inference, "has_units", lambda device: True)
    monkeypatch.setattr(inference, "agree", lambda one, other: agrees)
    kinds = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kinds.append(output.dtype)

    running = Inference(model)
    assert model.classifier is not None
    handle = model.classifier.register_forward_hook(note)
    try:
        for _ in range(3):
            assert running.logits("classification", pictures).dtype == torch.float32
    finally:
        handle.remove()
    low = torch.bfloat16 if agrees else torch.float32
    assert kinds == [torch.float32, torch.bfloat16, low, low]


def test_agreement_is_of_answers() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    assert agree(logits, logits + 5)
    assert agree(logits, logits * 1.001)
    assert not agree(logits, logits * 1.2)
    close = torch.tensor([[1.0, 1.0001, 0.0]])
    assert not agree(close, close[:, [1, 0, 2]])
    maps = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert agree(maps, maps + 1e-4)
    changed = maps.clone()
    changed[..., :2, :] = changed[..., :2, :].flip(1)
    assert not agree(maps, changed)


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
