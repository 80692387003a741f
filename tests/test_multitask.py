"""MultitaskModel: outputs, batches, refusals, compilation and export."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core import ChannelSchedule, MultitaskModel
from zoo_core.errors import ContractError, InputError
from zoo_core.models.attention import CBAM
from zoo_core.models.backbones import CNNBackbone
from zoo_core.models.encoder_decoder import UNetDecoder

SCHEDULE = ChannelSchedule([64, 128, 256, 512])


def parts(**more: Any) -> dict[str, Any]:
    return {
        "backbone": CNNBackbone(18),
        "attention": CBAM(512),
        "decoder": UNetDecoder(SCHEDULE, 21),
        "num_classes_classification": 10,
        "num_classes_segmentation": 21,
        **more,
    }


@pytest.fixture(scope="module")
def both() -> MultitaskModel:
    return MultitaskModel(**parts()).eval()


IMAGES = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(0))


def test_one_head_gives_a_tensor_and_two_give_a_dict(both: MultitaskModel) -> None:
    one = MultitaskModel(CNNBackbone(18), num_classes_classification=10).eval()
    assert one(IMAGES).shape == (2, 10)
    masks = parts(attention=None, num_classes_classification=None)
    assert MultitaskModel(**masks).eval()(IMAGES).shape == (2, 21, 65, 97)
    output = both(IMAGES)
    assert {name: tuple(value.shape) for name, value in output.items()} == {
        "classification": (2, 10),
        "segmentation": (2, 21, 65, 97),
    }


def test_a_batchs_keys_choose_the_branches(both: MultitaskModel) -> None:
    output = both(IMAGES)
    label, mask = torch.zeros(2), torch.zeros(2, 65, 97)
    torch.testing.assert_close(both({"image": IMAGES, "label": label}), output["classification"])
    torch.testing.assert_close(both({"image": IMAGES, "mask": mask}), output["segmentation"])
    assert both({"image": IMAGES, "label": label, "mask": mask}).keys() == output.keys()
    assert both({"image": IMAGES, "label": None, "mask": None}).keys() == output.keys()


def test_only_the_branch_that_is_asked_for_runs(both: MultitaskModel) -> None:
    ran = []
    handle = both.decoder.register_forward_hook(lambda *_: ran.append(1))
    both({"image": IMAGES, "label": torch.zeros(2)})
    handle.remove()
    assert not ran


def test_classification_reads_the_attended_map() -> None:
    model = MultitaskModel(**parts(decoder=None, num_classes_segmentation=None)).eval()
    attended = model.attention["4"](model.backbone(IMAGES)[-1])
    torch.testing.assert_close(model(IMAGES), model.classifier(attended.mean((-2, -1))))
    plain = MultitaskModel(CNNBackbone(18), num_classes_classification=10).eval()
    pooled = plain.backbone.forward_features(IMAGES).pooled
    torch.testing.assert_close(plain(IMAGES), plain.classifier(pooled))


CLASSIFYING = ["resnet18", "resnet18+cbam"]
SEGMENTING = [
    "resnet18+unet",
    "resnet18+cbam@all+unet",
    "resnet18+cbam@1,3+unet",
    "timm/efficientnet_lite0+cbam@5+unet",
    "timm/efficientnet_lite0+unet",
    "timm/vit_tiny_patch16_224+cbam@1,4+unet",
]


@pytest.mark.parametrize(
    ("recipe", "classes"),
    [(recipe, {}) for recipe in CLASSIFYING + SEGMENTING]
    + [(recipe, {"num_classes_classification": 0}) for recipe in SEGMENTING],
)
def test_every_parameter_of_a_composition_is_trained(recipe: str, classes: dict[str, int]) -> None:
    model = zoo.build(recipe, seed=0, **classes)
    output = model(torch.randn(2, 3, 64, 64))
    tensors = output.values() if isinstance(output, dict) else [output]
    sum(t.square().mean() for t in tensors).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_no_attention_is_no_attention() -> None:
    for nothing in ([], {}, {4: []}):
        model = MultitaskModel(CNNBackbone(18), nothing, num_classes_classification=2)
        assert not model.attends_last
        assert not model.attention


def test_attention_stands_on_any_level_and_in_a_row() -> None:
    rows = {2: CBAM(128), 4: [CBAM(512), CBAM(512, reduction=8)]}
    model = MultitaskModel(**parts(attention=rows)).eval()
    assert [len(row) for row in model.attention.values()] == [1, 2]
    assert model(IMAGES)["segmentation"].shape == (2, 21, 65, 97)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"decoder": None}, "num_classes_segmentation is 21, but there is no decoder; give one"),
    ({"num_classes_segmentation": None},
     "a decoder needs num_classes_segmentation, here num_classes_segmentation=21"),
    ({"num_classes_segmentation": 7},
     "num_classes_segmentation is 7, but the decoder gives 21 channels"),
    ({"decoder": UNetDecoder([256, 512, 1024, 2048], 21)},
     "the decoder is for maps of [256, 512, 1024, 2048] channels, but the backbone gives "
     "[64, 128, 256, 512]; make it from backbone.get_channel_schedule()"),
    ({"attention": CBAM(2048)},
     "CBAM is for 2048 channels, but level 4 of [64, 128, 256, 512] has 512; "
     "attention={level: module} chooses another level"),
    ({"attention": {5: CBAM(512)}}, "attention on level 5; levels go from 1 to 4"),
    ({"num_classes_classification": -1},
     "num_classes_classification must be a whole number from 0, not -1"),
    ({"num_classes_classification": True},
     "num_classes_classification must be a whole number from 0, not True"),
    ({"decoder": None, "num_classes_segmentation": None, "num_classes_classification": None},
     "the model has no head; give num_classes_classification, or a decoder and "
     "num_classes_segmentation"),
    ({"decoder": None, "num_classes_segmentation": None, "attention": {1: CBAM(64)}},
     "attention on level 1 is read by no head; without a decoder only the last level, 4, is"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        MultitaskModel(**parts(**changes))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": nn.Linear(3, 3)}, "the backbone must be a zoo_core.Backbone, not Linear"),
        ({"decoder": nn.Identity()}, "the decoder must be a zoo_core.Decoder, not Identity"),
        ({"attention": ["cbam"]}, "an attention must be a module, not str"),
    ],
)
def test_parts_of_another_kind_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        MultitaskModel(**parts(**changes))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(3, 64, 64), "images [B, 3, H, W] of floating point, not [3, 64, 64]"),
        (torch.zeros(1, 4, 64, 64), "images [B, 3, H, W] of floating point, not [1, 4, 64, 64]"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "not [1, 3, 64, 64] of torch.uint8"),
        ("cat.png", "images [B, 3, H, W] of floating point, not str"),
        ({"label": torch.zeros(1)}, "the batch has no 'image', only 'label'"),
    ],
)
def test_wrong_input_is_refused(both: MultitaskModel, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=r"^(the model takes|the batch)") as caught:
        both(given)
    assert message in str(caught.value)


@pytest.mark.parametrize(("key", "head"), [("mask", "segmentation"), ("label", "classification")])
def test_a_batch_that_asks_for_a_missing_head_is_refused(key: str, head: str) -> None:
    if key == "mask":
        model = MultitaskModel(CNNBackbone(18), num_classes_classification=10)
    else:
        model = MultitaskModel(**parts(attention=None, num_classes_classification=None))
    with pytest.raises(InputError) as caught:
        model({"image": IMAGES, key: torch.zeros(2)})
    assert str(caught.value) == f"the batch has a '{key}', but the model has no {head} head"


def test_a_copy_is_equal_and_independent(both: MultitaskModel) -> None:
    twin = copy.deepcopy(both)
    assert twin.backbone.constructor_arguments == both.backbone.constructor_arguments
    assert twin.backbone.get_channel_schedule().strides == (4, 8, 16, 32)
    torch.testing.assert_close(twin(IMAGES), both(IMAGES))
    nn.init.zeros_(twin.classifier.weight)
    assert both.classifier.weight.any()


def assert_same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for head, logits in expected.items():
        torch.testing.assert_close(found[head], logits, atol=1e-4, rtol=1e-4)


def test_it_compiles_whole(both: MultitaskModel) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for size in [(2, 3, 64, 96), (3, 3, 65, 97), (2, 3, 128, 80)]:
            images = torch.randn(size)
            assert_same(compiled(images), both(images))


@pytest.mark.parametrize(
    ("recipe", "least"),
    [
        ("resnet18", 33),
        ("resnet18+cbam+unet", 33),
        pytest.param("timm/resnet18+unet", 33, marks=pytest.mark.long),
        pytest.param("timm/efficientnet_lite0+unet", 33, marks=pytest.mark.long),
        ("timm/vit_tiny_patch16_224+unet", 64),
    ],
)
def test_it_exports_with_dynamic_batch_and_size(recipe: str, least: int) -> None:
    model = zoo.build(recipe, seed=0).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    height = torch.export.Dim("height", min=least, max=2048)
    width = torch.export.Dim("width", min=least, max=2048)
    program = torch.export.export(
        model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=({0: batch, 2: height, 3: width},)
    )
    exported = program.module()
    for size in [(1, 3, 64, 64), (3, 3, 65, 131), (2, 3, least, 224)]:
        images = torch.randn(size)
        with torch.no_grad():
            found, expected = exported(images), model(images)
        if isinstance(expected, Tensor):
            found, expected = {"only": found}, {"only": expected}
        assert_same(found, expected)
