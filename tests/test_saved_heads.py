"""Class heads of a saved model: kept, replaced, taken off or added, and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo_core as zoo
from zoo_core import MultitaskModel
from zoo_core.errors import InputError, SavedModelError
from zoo_core.models.attention import CBAM
from zoo_core.models.backbones import TimmBackbone
from zoo_core.weights import LoadReport

RECIPE = "timm/test_efficientnet+cbam@2+unet"
IMAGES = torch.randn(1, 3, 64, 97, generator=torch.Generator().manual_seed(0))


def build(recipe: str = RECIPE, **options: Any) -> MultitaskModel:
    if "unet" in recipe:
        options = {"unet": {"decoder_channels": [12, 8, 8, 4]}, **options}
    return zoo.build(recipe, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of both heads: ten classes and three."""
    model = build(seed=1, num_classes_classification=10, num_classes_segmentation=3)
    model.labels = {
        "classification": tuple(f"class {number}" for number in range(10)),
        "segmentation": ("ground", "leaf", "sky"),
    }
    folder: Path = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    return folder


def load(folder: Path, **options: Any) -> tuple[MultitaskModel, LoadReport]:
    model = MultitaskModel.from_pretrained(folder, **options)
    assert model.load_report is not None
    told = [*model.load_report.loaded, *model.load_report.random]
    assert {fate.name: fate.elements for fate in told} == {
        name: tensor.numel() for name, tensor in model.state_dict().items()
    }
    return model, model.load_report


def differing(one: MultitaskModel, other: MultitaskModel) -> set[str]:
    mine, theirs = one.state_dict(), other.state_dict()
    return {
        name
        for name in mine.keys() | theirs.keys()
        if name not in mine or name not in theirs or not torch.equal(mine[name], theirs[name])
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes_classification": 10},
        {"num_classes_classification": 10, "num_classes_segmentation": 3, "seed": 5},
    ],
)
def test_heads_of_the_same_classes_are_kept(saved: Path, options: dict[str, int]) -> None:
    model, report = load(saved, **options)
    assert not differing(model, MultitaskModel.from_pretrained(saved))
    assert report.share == 1.0
    assert len(model.labels) == 2


def test_a_classification_head_of_other_classes_is_replaced(saved: Path) -> None:
    model, report = load(saved, num_classes_classification=5, seed=7)
    kept = MultitaskModel.from_pretrained(saved)
    assert differing(model, kept) == {"classifier.weight", "classifier.bias"}
    assert model.num_classes_classification == 5
    reason = "the classification head was asked for with 5 classes; the file has 10"
    for fates in (report.random, report.dropped):
        assert {fate.name: fate.reason for fate in fates} == {
            "classifier.weight": reason,
            "classifier.bias": reason,
        }
    assert model.labels.keys() == {"segmentation"}
    built = build(seed=7, num_classes_classification=5, num_classes_segmentation=3)
    assert torch.equal(model.classifier.weight, built.classifier.weight)
    assert f"random: classifier.weight and classifier.bias, 1,285 values ({reason})" in (
        report.lines()
    )


def test_a_segmentation_head_of_other_classes_is_replaced_where_it_depends_on_them(
    saved: Path,
) -> None:
    model, report = load(saved, num_classes_segmentation=6, seed=7)
    kept = MultitaskModel.from_pretrained(saved)
    assert differing(model, kept) == {"decoder.head.weight", "decoder.head.bias"}
    reason = "the segmentation head was asked for with 6 classes; the file has 3"
    assert {fate.reason for fate in (*report.random, *report.dropped)} == {reason}
    built = build(seed=7, num_classes_segmentation=6)
    assert torch.equal(model.decoder.head.weight, built.decoder.head.weight)
    assert model.labels.keys() == {"classification"}


def test_both_heads_can_be_replaced_and_saved_again(saved: Path, tmp_path: Path) -> None:
    options = {"num_classes_classification": 5, "num_classes_segmentation": 6}
    model, _ = load(saved, **options, seed=7)
    again, _ = load(saved, **options, seed=7)
    assert not differing(model, again)
    other, _ = load(saved, **options)
    assert differing(model, other) == {
        "classifier.weight", "classifier.bias", "decoder.head.weight", "decoder.head.bias",
    }  # fmt: skip
    model.save_pretrained(tmp_path)
    loaded, report = load(tmp_path)
    assert not differing(model, loaded)
    assert report.random == ()
    with torch.no_grad():
        mine, theirs = model(IMAGES), loaded(IMAGES)
    assert all(torch.equal(mine[head], theirs[head]) for head in mine)


def test_no_random_number_is_drawn_unless_a_head_needs_it(saved: Path) -> None:
    before = torch.random.get_rng_state()
    load(saved, num_classes_classification=5, seed=3)
    load(saved, num_classes_classification=10)
    assert torch.equal(torch.random.get_rng_state(), before)
    load(saved, num_classes_classification=5)
    assert not torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("head", "part"), [("classification", "classifier"), ("segmentation", "decoder")]
)
def test_a_head_can_be_taken_off(saved: Path, tmp_path: Path, head: str, part: str) -> None:
    recipe = "timm/test_efficientnet+cbam+unet"
    build(recipe, seed=1, num_classes_classification=10).save_pretrained(tmp_path / "both")
    model, report = load(tmp_path / "both", **{f"num_classes_{head}": 0})
    assert getattr(model, part) is None
    assert report.random == ()
    assert {fate.name.partition(".")[0] for fate in report.dropped} == {part}
    assert {fate.reason for fate in report.dropped} == {
        f"the {head} head was left away (num_classes_{head}=0)"
    }
    with torch.no_grad():
        mine = model(IMAGES)
        theirs = MultitaskModel.from_pretrained(tmp_path / "both")(IMAGES)
    left = "segmentation" if head == "classification" else "classification"
    assert isinstance(mine, Tensor)
    assert torch.equal(mine, theirs[left])
    model.save_pretrained(tmp_path / "one")
    again, _ = load(tmp_path / "one")
    assert not differing(model, again)


def test_layers_that_only_a_head_read_go_with_it_and_come_with_it(tmp_path: Path) -> None:
    whole = build("timm/mobilenetv3_small_050+unet", seed=1, num_classes_classification=4)
    whole.save_pretrained(tmp_path / "whole")
    model, report = load(tmp_path / "whole", num_classes_classification=0)
    names = {fate.name.rpartition(".")[0] for fate in report.dropped}
    assert names == {"backbone.model.conv_head", "classifier"}
    model.save_pretrained(tmp_path / "less")
    more, report = load(tmp_path / "less", num_classes_classification=4, seed=1)
    assert not differing(more, whole)
    assert {fate.reason for fate in report.random} == {
        "the classification head is new; the file has none"
    }


def test_a_head_can_be_added(tmp_path: Path) -> None:
    recipe = "timm/test_efficientnet+cbam+unet"
    build(recipe, seed=1, num_classes_classification=0).save_pretrained(tmp_path)
    model, report = load(tmp_path, num_classes_classification=4, seed=9)
    assert {fate.name for fate in report.random} == {"classifier.weight", "classifier.bias"}
    assert report.dropped == ()
    built = build(recipe, seed=9, num_classes_classification=4)
    assert torch.equal(model.classifier.weight, built.classifier.weight)


def test_a_replaced_head_has_the_type_of_the_rest(saved: Path, tmp_path: Path) -> None:
    MultitaskModel.from_pretrained(saved).to(torch.bfloat16).save_pretrained(tmp_path)
    model, _ = load(tmp_path, num_classes_classification=5, num_classes_segmentation=6)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        model(IMAGES.to(torch.bfloat16))


def test_a_model_put_together_by_hand_can_have_other_heads(tmp_path: Path) -> None:
    backbone = TimmBackbone("test_efficientnet")
    attention = CBAM(backbone.get_channel_schedule()[-1])
    model = MultitaskModel(backbone, attention, num_classes_classification=3)
    model.save_pretrained(tmp_path)
    loaded, report = load(tmp_path, num_classes_classification=8)
    assert differing(model, loaded) == {"classifier.weight", "classifier.bias"}
    assert len(report.random) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes_classification": 0, "num_classes_segmentation": 0},
         "the model has no head"),
        ({"num_classes_segmentation": 0},
         "attention on level 2 is read by no head; without a decoder only the last level, "),
    ],
)  # fmt: skip
def test_heads_that_cannot_be_are_refused(
    saved: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(SavedModelError) as caught:
        MultitaskModel.from_pretrained(saved, **options)
    assert str(caught.value).startswith(f"{saved}: {message}")


def test_a_segmentation_head_needs_a_decoder(tmp_path: Path) -> None:
    build("timm/test_efficientnet", seed=1, num_classes_classification=3).save_pretrained(tmp_path)
    with pytest.raises(SavedModelError) as caught:
        MultitaskModel.from_pretrained(tmp_path, num_classes_segmentation=3)
    assert str(caught.value).startswith(
        "num_classes_segmentation is 3, but the saved model 'zoo-timm:timm/test_efficientnet' has "
        "no decoder; compose one that has with zoo.build"
    )


@pytest.mark.parametrize("count", [-1, True, 2.0, "3"])
def test_numbers_that_are_none_are_refused(saved: Path, count: Any) -> None:
    for name in ("num_classes_classification", "num_classes_segmentation"):
        with pytest.raises(InputError, match=f"{name} must be a whole number from 0, not"):
            MultitaskModel.from_pretrained(saved, **{name: count})
    with pytest.raises(InputError, match="seed must be a whole number, not 'x'"):
        MultitaskModel.from_pretrained(saved, seed="x")
