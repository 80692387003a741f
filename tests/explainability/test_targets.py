"""What is explained: classes, tasks and regions, whatever the model's output looks like."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo_core.errors import InputError, ZooWarning
from zoo_core.explainability import GradCAM, NotApplicableError, VanillaSaliency
from zoo_core.explainability.outputs import run_heads


class Linear(nn.Module):
    """Whose gradient at a picture is the weight of its class, for whatever form of output."""

    def __init__(self, wrap: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 4 * 6, 5)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.fc(x.flatten(1)))

    def rows(self, classes: list[int]) -> Tensor:
        return self.fc.weight.detach()[classes].reshape(-1, 3, 4, 6)


PICTURES = torch.randn(3, 3, 4, 6, generator=torch.Generator().manual_seed(0))


def test_the_class_is_predicted_or_one_for_all_or_one_for_each() -> None:
    model = Linear()
    explainer = VanillaSaliency(model)
    predicted = model(PICTURES).argmax(1)
    explanation = explainer.explanation(PICTURES)
    assert explanation.facts.predicted
    assert torch.equal(explanation.facts.target_class, predicted)
    torch.testing.assert_close(explanation.values, model.rows(predicted.tolist()))
    for given in (2, np.int64(2), torch.tensor(2)):
        torch.testing.assert_close(explainer.explain(PICTURES, None, given), model.rows([2] * 3))
    for given in ([4, 0, 2], (4, 0, 2), torch.tensor([4, 0, 2]), np.array([4, 0, 2])):
        explanation = explainer.explanation(PICTURES, target_class=given)
        torch.testing.assert_close(explanation.values, model.rows([4, 0, 2]))
        assert explanation.facts.target_class.tolist() == [4, 0, 2]
        assert not explanation.facts.predicted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "target_class has 2 entries for 3 pictures; give one class, or one for each "
         "picture"),
        (torch.tensor([1]), "target_class has 1 entries for 3 pictures; give one class, or one "
         "for each picture"),
        (5, "target_class must be from 0 to 4 for this model, not 5"),
        (-1, "target_class must be from 0 to 4 for this model, not -1"),
        ([0, 7, 1], "target_class must be from 0 to 4 for this model, not 7"),
        (1.0, "target_class must be None, a whole number or one for each picture, not 1.0"),
        (True, "target_class must be None, a whole number or one for each picture, not True"),
        ("cat", "target_class must be None, a whole number or one for each picture, not 'cat'"),
        ([], "target_class must be None, a whole number or one for each picture, not []"),
        (torch.ones(3), "target_class must be whole numbers, not torch.float32"),
        (torch.ones(3, 5), "target_class must be None, a whole number or one for each picture, "
         "not a tensor [3, 5] of torch.float32"),
    ],
)  # fmt: skip
def test_a_wrong_class_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        VanillaSaliency(Linear()).explain(PICTURES, target_class=given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": PICTURES[0]}, "inputs must be pictures [B, C, H, W] of floating point, not "
         "[3, 4, 6] of torch.float32"),
        ({"inputs": PICTURES[:0]}, "inputs must be pictures [B, C, H, W] of floating point, not "
         "[0, 3, 4, 6] of torch.float32"),
        ({"inputs": PICTURES.int()}, "inputs must be pictures [B, C, H, W] of floating point, not "
         "[3, 3, 4, 6] of torch.int32"),
        ({"inputs": [1]}, "inputs must be pictures [B, C, H, W], not list"),
        ({"model": 3}, "model must be a torch.nn.Module, not int; a class is given as "
         "target_class="),
        ({"size": 3}, "explain of VanillaSaliency has no option 'size'; it has absolute, "
         "normalize, precision, region, task"),
        ({"task": "detection"}, "task must be 'classification' or 'segmentation', not "
         "'detection'"),
        ({"task": "segmentation"}, "Linear gives no logits for segmentation, [B, classes] or [B, "
         "classes, H, W], but [3, 5] of torch.float32"),
        ({"region": (0, 0)}, "region is for segmentation, and classification is explained"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        VanillaSaliency(Linear()).explain(**{"inputs": PICTURES, **arguments})
    assert str(caught.value) == message


def test_without_a_model_it_says_so() -> None:
    with pytest.raises(InputError) as caught:
        GradCAM().explain(PICTURES)
    assert str(caught.value) == "GradCAM has no model; give it to the constructor or to explain"
    model = Linear()
    found = VanillaSaliency().explain(PICTURES, model, 1)
    torch.testing.assert_close(found, model.rows([1] * 3))


Named = namedtuple("Named", ["logits", "aux"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: {"classification": x},
        lambda x: OrderedDict(loss=None, logits=x, hidden_states=(x,)),
        lambda x: (x, [x, x]),
        lambda x: [x],
        lambda x: Named(x, None),
        lambda x: {"image_features": x, "logit_scale": torch.ones(())},
        lambda x: (x, None, torch.ones(())),
        lambda x: x[:, :, None, None],
    ],
)
def test_logits_are_found_in_any_form(wrap: Callable[[Tensor], Any]) -> None:
    model = Linear(wrap)
    explanation = VanillaSaliency(model).explanation(PICTURES, target_class=[1, 0, 3])
    assert explanation.facts.task == "classification"
    torch.testing.assert_close(explanation.values, model.rows([1, 0, 3]))


def test_a_score_without_classes_is_class_zero() -> None:
    model = Linear(lambda x: x[:, 0])
    torch.testing.assert_close(VanillaSaliency(model).explain(PICTURES), model.rows([0] * 3))
    with pytest.raises(InputError, match="from 0 to 0 for this model, not 1"):
        VanillaSaliency(model).explain(PICTURES, target_class=1)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda x: None, "gives no logits, [B, classes] or [B, classes, H, W], but NoneType"),
        (lambda x: {"boxes": x[:, None]}, "but {'boxes': [3, 1, 5] of torch.float32}"),
        (lambda x: x.argmax(1, keepdim=True), "gives [3, 1] of torch.int64 for 3 pictures"),
        (lambda x: x[:1], "gives [1, 5] of torch.float32 for 3 pictures, which are no logits"),
    ],
)
def test_an_output_without_logits_is_named(wrap: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        VanillaSaliency(Linear(wrap)).explain(PICTURES)
    assert message in str(caught.value)


def test_a_score_that_is_cut_off_is_not_applicable() -> None:
    with pytest.raises(NotApplicableError, match="has no gradient at the pictures"):
        VanillaSaliency(Linear(lambda x: x.detach())).explain(PICTURES)


class Pixelwise(nn.Module):
    """A 1×1 convolution, whose gradient at a pixel is the weight of its class."""

    def __init__(self, wrap: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.conv(x))

    def expected(self, mask: Tensor, classes: list[int]) -> Tensor:
        return self.conv.weight.detach()[classes] * mask[:, None]


@pytest.fixture
def pixelwise() -> Pixelwise:
    torch.manual_seed(0)
    return Pixelwise()


SCENES = torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(2))


def test_segmentation_explains_the_pixels_of_the_commonest_class(pixelwise: Pixelwise) -> None:
    predicted = pixelwise(SCENES).argmax(1)
    classes = [int(predicted[row].flatten().mode().values) for row in range(3)]
    explanation = VanillaSaliency(pixelwise).explanation(SCENES)
    facts = explanation.facts
    assert (facts.task, facts.region, facts.predicted) == ("segmentation", "predicted", True)
    assert facts.target_class.tolist() == classes
    mask = predicted == torch.tensor(classes)[:, None, None]
    torch.testing.assert_close(explanation.values, pixelwise.expected(mask, classes))


def test_segmentation_explains_a_mask_or_a_pixel(pixelwise: Pixelwise) -> None:
    explainer = VanillaSaliency(pixelwise)
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[1:3, 2:7] = True
    masks = torch.stack([mask, ~mask, mask])
    for region, whole in ((mask, mask.expand(3, -1, -1)), (masks, masks), (masks[:, None], masks)):
        found = explainer.explanation(SCENES, target_class=[0, 1, 2], region=region)
        torch.testing.assert_close(found.values, pixelwise.expected(whole, [0, 1, 2]))
        assert found.facts.region == "mask"
    found = explainer.explanation(SCENES, target_class=3, region=(4, 7))
    assert found.facts.region == "pixel"
    pixel = torch.zeros(3, 6, 8)
    pixel[:, 4, 7] = 1
    torch.testing.assert_close(found.values, pixelwise.expected(pixel, [3] * 3))


def test_a_region_is_brought_to_the_size_of_the_logits(pixelwise: Pixelwise) -> None:
    coarse = Pixelwise(lambda x: {"out": nn.functional.avg_pool2d(x, 2)})
    coarse.conv = pixelwise.conv
    explainer = VanillaSaliency(coarse)
    thin = torch.zeros(6, 8)
    thin[3, :5] = 1  # it touches the second row and the first three columns of 3×4
    cells = torch.zeros(3, 6, 8)
    cells[:, 2:4, :6] = 1 / 4
    found = explainer.explain(SCENES, target_class=1, region=thin)
    torch.testing.assert_close(found, coarse.expected(cells, [1] * 3))
    found = explainer.explain(SCENES, target_class=1, region=(3, 7))
    cells = torch.zeros(3, 6, 8)
    cells[:, 2:4, 6:8] = 1 / 4
    torch.testing.assert_close(found, coarse.expected(cells, [1] * 3))


def test_an_empty_region_warns_and_gives_zeros(pixelwise: Pixelwise) -> None:
    with torch.no_grad():
        pixelwise.conv.bias[2] -= 100
    with pytest.warns(ZooWarning) as caught:
        values = VanillaSaliency(pixelwise).explain(SCENES, target_class=2)
    assert [str(warning.message) for warning in caught] == [
        "picture 0, 1, 2: no pixel is predicted as its class, 2; there is nothing to explain, and "
        "its map is zero"
    ]
    assert not values.any()
    masks = torch.ones(3, 6, 8)
    masks[1] = 0
    with pytest.warns(ZooWarning, match="picture 1: the mask is empty; there is nothing to expl"):
        VanillaSaliency(pixelwise).explain(SCENES, target_class=2, region=masks)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((6, 0), "region as a pixel must be its row and column in 6×8, not (6, 0)"),
        ((0, -1), "region as a pixel must be its row and column in 6×8, not (0, -1)"),
        (torch.ones(2, 6, 8), "region as a mask must be [H, W] or [3, H, W], not [2, 6, 8]"),
        (torch.ones(6), "region as a mask must be [H, W] or [3, H, W], not [6]"),
        ("all", "region must be 'predicted', a mask or a pixel (row, column), not 'all'"),
    ],
)
def test_a_wrong_region_is_refused(pixelwise: Pixelwise, region: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        VanillaSaliency(pixelwise).explain(SCENES, region=region)
    assert str(caught.value) == message


def test_one_logit_a_pixel_is_a_mask(pixelwise: Pixelwise) -> None:
    binary = Pixelwise(lambda x: x[:, :1])
    binary.conv = pixelwise.conv
    found = VanillaSaliency(binary).explain(SCENES)
    positive = binary(SCENES)[:, 0] > 0
    torch.testing.assert_close(found, binary.expected(positive, [0] * 3))


def test_masks_of_queries_are_added_up() -> None:
    torch.manual_seed(0)
    from transformers import (
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        MaskFormerImageProcessor,
        SwinConfig,
    )

    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=2,
        out_features=stages,
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=swin, num_labels=4, fpn_feature_size=32, mask_feature_size=32
    )
    model = MaskFormerForInstanceSegmentation(config).eval()
    pictures = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        task, logits = run_heads(model, pictures, None)
        output = model(pictures)
    assert task == "segmentation"
    [expected] = MaskFormerImageProcessor().post_process_semantic_segmentation(
        output, target_sizes=[logits.shape[2:]]
    )
    # It enlarges the masks to its own size in between.
    assert (logits[0].argmax(0) == expected).float().mean() > 0.95


def test_two_heads_are_told_apart(two_heads: Callable[[], Any]) -> None:
    model = two_heads()
    pictures = torch.randn(2, 3, 32, 32)
    run: list[str] = []
    model.decoder.register_forward_hook(lambda *_: run.append("decoder"))
    explainer = VanillaSaliency(model)
    facts = explainer.explanation(pictures, target_class=1).facts
    assert (facts.task, run) == ("classification", [])
    facts = explainer.explanation(pictures, task="segmentation").facts
    assert (facts.task, facts.region, run) == ("segmentation", "predicted", ["decoder"])
    assert facts.target_class.shape == (2,)
