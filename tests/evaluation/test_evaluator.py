"""Evaluator: batches and outputs of every form, modes, losses, refusals."""

from __future__ import annotations

import io
import math
import sys
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import zoo_core as zoo
from zoo_core.data import Scenes
from zoo_core.errors import InputError, ZooWarning
from zoo_core.evaluation import ClassificationMetrics, Evaluator, SegmentationMetrics


class Pixels(nn.Module):
    """Takes the channels of a picture for the logits of its pixels, those of one for its own."""

    def __init__(self, form: str = "both") -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Any:
        outputs = {"classification": images[:, :, 0, 0], "segmentation": images}
        return outputs if self.form == "both" else outputs[self.form]


def drawn(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = torch.randn(count, 6, 4, 5, dtype=dtype, generator=generator)
    labels = torch.randint(0, 6, (count,), generator=generator)
    masks = torch.randint(0, 6, (count, 4, 5), generator=generator)
    labels[1] = -100
    masks[:, 1] = 255
    return images, labels, masks


IMAGES, LABELS, MASKS = drawn(11)


def scores(labels: Tensor | None, masks: Tensor | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if labels is not None:
        classification = ClassificationMetrics(6)
        classification.update(IMAGES[:, :, 0, 0], labels)
        found["classification"] = classification.compute()
    if masks is not None:
        segmentation = SegmentationMetrics(6)
        segmentation.update(IMAGES, masks)
        found["segmentation"] = segmentation.compute()
    return found


BOTH = scores(LABELS, MASKS)


def loader(*tensors: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*tensors), batch_size=4)


def mappings(**tensors: Tensor) -> Iterator[Any]:
    for start in range(0, 11, 4):
        yield UserDict({name: values[start : start + 4] for name, values in tensors.items()})


def test_the_forms_of_batches() -> None:
    one, other = BOTH["classification"], BOTH["segmentation"]
    evaluate = Evaluator(Pixels()).evaluate
    assert evaluate(loader(IMAGES, LABELS)) == one
    assert evaluate(loader(IMAGES, MASKS)) == other
    assert evaluate(loader(IMAGES, LABELS, MASKS)) == BOTH
    assert evaluate([(IMAGES, LABELS, MASKS)]) == BOTH
    assert evaluate(mappings(image=IMAGES, label=LABELS)) == one
    assert evaluate(mappings(image=IMAGES, mask=MASKS.byte())) == other
    assert evaluate(mappings(image=IMAGES, label=LABELS, mask=MASKS)) == BOTH
    assert evaluate([{"image": IMAGES, "label": LABELS, "mask": None}]) == one


def test_what_only_model_or_batch_has_is_left_out() -> None:
    evaluator = Evaluator(Pixels("classification"))
    assert evaluator.evaluate(loader(IMAGES, LABELS, MASKS)) == BOTH["classification"]
    assert list(evaluator.metrics) == ["classification"]
    assert evaluator.metrics["classification"].confusion_matrix.sum() == 10


def test_the_forms_of_outputs() -> None:
    class Wrapped(Pixels):
        def forward(self, images: Tensor) -> Any:
            logits = super().forward(images)
            return {"out": logits} if self.form == "segmentation" else UserDict(logits=logits)

    for form, targets in (("classification", LABELS), ("segmentation", MASKS)):
        for kind in (Pixels, Wrapped):
            assert Evaluator(kind(form)).evaluate(loader(IMAGES, targets)) == BOTH[form]


def test_a_model_of_the_zoo_on_scenes() -> None:
    data = DataLoader(Scenes(5, size=64), batch_size=2)
    model = zoo.build(
        "resnet18+cbam+unet",
        num_classes_classification=10,
        num_classes_segmentation=11,
        seed=0,
    )
    labels, masks = ClassificationMetrics(10), SegmentationMetrics(11)
    model.eval()
    with torch.no_grad():
        for batch in data:
            output = model(batch["image"])
            labels.update(output["classification"], batch["label"])
            masks.update(output["segmentation"], batch["mask"])
    model.train()
    found = Evaluator(model).evaluate(data)
    np.testing.assert_equal(
        found, {"classification": labels.compute(), "segmentation": masks.compute()}
    )
    assert found["segmentation"]["pixels"] == 5 * 64 * 64


def test_a_model_of_the_zoo_runs_only_the_branches_with_targets() -> None:
    model = zoo.build("resnet18+unet", num_classes_classification=10, num_classes_segmentation=11)
    ran = []
    model.decoder.register_forward_hook(lambda *_: ran.append("decoder"))
    model.classifier.register_forward_hook(lambda *_: ran.append("classifier"))
    images = torch.randn(2, 3, 64, 64)
    Evaluator(model).evaluate([(images, torch.tensor([1, 2]))])
    assert ran == ["classifier"]
    Evaluator(model).evaluate([(images, torch.zeros(2, 64, 64, dtype=torch.uint8))])
    assert ran == ["classifier", "decoder"]
    one = zoo.build("resnet18+unet", num_classes_classification=0, num_classes_segmentation=11)
    found = Evaluator(one).evaluate(DataLoader(Scenes(1, size=64)))
    assert found["pixels"] == 64 * 64


def test_torchvisions_segmentation_models() -> None:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    found = Evaluator(model).evaluate([(torch.randn(1, 3, 64, 64), torch.ones(1, 64, 64).long())])
    assert (found["pixels"], len(found["class_iou"])) == (64 * 64, 4)


def test_transformers_models_whose_logits_are_smaller_than_the_masks() -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16, num_labels=4
    )
    model = SegformerForSemanticSegmentation(config).eval()
    images, masks = torch.randn(2, 3, 65, 97), torch.ones(2, 65, 97).long()
    with torch.no_grad():
        small = model(images).logits
    assert small.shape[2:] != masks.shape[1:]
    expected = SegmentationMetrics(4)
    expected.update(nn.functional.interpolate(small, (65, 97), mode="bilinear"), masks)
    np.testing.assert_equal(Evaluator(model).evaluate([(images, masks)]), expected.compute())


def test_every_module_gets_its_own_mode_back() -> None:
    model = nn.Sequential(nn.BatchNorm2d(6), nn.Dropout(), nn.Sequential(nn.Dropout()), Pixels())
    model[0].eval()
    model[2][0].eval()
    before = [module.training for module in model.modules()]
    seen: list[bool] = []
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: seen.append(module.training))
    statistics = model[0].running_mean.clone()
    Evaluator(model).evaluate(loader(IMAGES, LABELS))
    assert len(seen) == 18
    assert not any(seen)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(model[0].running_mean, statistics)

    def broken() -> Iterator[Any]:
        yield IMAGES, LABELS
        raise OSError("no such picture")

    with pytest.raises(OSError, match="no such picture"):
        Evaluator(model).evaluate(broken())
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_a_model_that_remembers_tensors_can_be_trained_afterwards() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(6))
            self.grid: Tensor | None = None

        def forward(self, images: Tensor) -> Tensor:
            if self.grid is None:
                self.grid = torch.linspace(0, 1, 6)
            return images.mean((2, 3)) * (self.grid * self.weight)

    model = Remembering()
    Evaluator(model).evaluate(loader(IMAGES, LABELS))
    model(IMAGES).sum().backward()
    assert model.weight.grad is not None


def test_mixed_precision_runs_the_model_in_it_and_nothing_else() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(120, 6))
    types = []
    model[1].register_forward_hook(lambda *args: types.append(args[-1].dtype))
    labels = LABELS.clamp(min=0)
    evaluator = Evaluator(model, "cpu", mixed_precision=torch.bfloat16, criterion=Recording())
    found = evaluator.evaluate([(IMAGES, labels)])
    assert types == [torch.bfloat16]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = ClassificationMetrics(6)
        expected.update(model(IMAGES), labels)
    assert found.pop("loss") == 4  # bytes of a float32
    assert found == expected.compute()
    assert not torch.is_autocast_enabled("cpu")


class Recording(nn.Module):
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled(logits.device.type)
        return torch.tensor(float(logits.element_size()))


CRITERIA = [
    nn.CrossEntropyLoss(),
    nn.CrossEntropyLoss(ignore_index=3),
    nn.CrossEntropyLoss(label_smoothing=0.2),
    nn.CrossEntropyLoss(weight=torch.arange(6).double() + 0.5),
    nn.CrossEntropyLoss(weight=torch.arange(6).double(), label_smoothing=0.1),
]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_loss_is_the_mean_over_everything(
    criterion: nn.CrossEntropyLoss, reduction: str
) -> None:
    images, labels, masks = drawn(11, torch.float64)
    labels[4:8] = -100  # a batch in which nothing counts
    inner = criterion.ignore_index
    expected = {
        "classification": criterion(images[:, :, 0, 0], labels.masked_fill(labels == -100, inner)),
        "segmentation": criterion(images, masks.masked_fill(masks == 255, inner)),
    }
    criterion.reduction = reduction
    try:
        found = Evaluator(Pixels(), criterion=criterion).evaluate(loader(images, labels, masks))
    finally:
        criterion.reduction = "mean"
    for task, loss in expected.items():
        assert found[task]["loss"] == pytest.approx(float(loss), rel=1e-13)


def test_a_mean_of_batch_means_would_be_another_loss() -> None:
    images, labels, _ = drawn(9, torch.float64)
    criterion = nn.CrossEntropyLoss()
    found = Evaluator(Pixels(), criterion=criterion).evaluate(loader(images, labels))
    logits = images[:, :, 0, 0]
    pairs = zip(logits.split(4), labels.split(4), strict=True)
    means = [float(criterion(some, wanted)) for some, wanted in pairs]
    assert found["loss"] == pytest.approx(float(criterion(logits, labels)), rel=1e-13)
    assert found["loss"] != pytest.approx(sum(means) / 3, rel=1e-3)


def test_each_task_may_have_a_criterion_of_its_own() -> None:
    def wrongness(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(1) != targets).double().mean()

    labels = LABELS.clamp(min=0)
    data = loader(IMAGES, labels, MASKS)
    found = Evaluator(Pixels(), criterion={"classification": wrongness}).evaluate(data)
    accuracy = found["classification"]["accuracy"]
    assert found["classification"]["loss"] == pytest.approx(1 - accuracy)
    assert "loss" not in found["segmentation"]
    several = nn.ModuleDict({"segmentation": nn.CrossEntropyLoss()})
    found = Evaluator(Pixels(), criterion=several).evaluate(data)
    assert "loss" not in found["classification"]
    assert found["segmentation"]["loss"] > 0


def test_the_loss_of_nothing_and_of_nan_is_nan() -> None:
    for images, labels in ((IMAGES, LABELS * 0 - 100), (IMAGES * math.nan, LABELS)):
        evaluator = Evaluator(Pixels(), criterion=nn.CrossEntropyLoss())
        found = evaluator.evaluate(loader(images, labels))
        assert math.isnan(found["loss"])
        assert math.isnan(found["accuracy"])


def test_another_ignored_class_of_masks() -> None:
    masks = MASKS.masked_fill(MASKS == 255, 0)
    expected = SegmentationMetrics(6, ignore_index=0)
    expected.update(IMAGES, masks)
    found = Evaluator(Pixels(), ignore_index=0).evaluate(loader(IMAGES, masks))
    np.testing.assert_equal(found, expected.compute())


def test_two_evaluations_are_two() -> None:
    evaluator = Evaluator(Pixels())
    first = evaluator.evaluate(loader(IMAGES, LABELS))
    assert evaluator.evaluate(loader(IMAGES, LABELS)) == first
    assert evaluator.evaluate(loader(IMAGES, MASKS)) == BOTH["segmentation"]
    assert list(evaluator.metrics) == ["segmentation"]


def test_a_progress_bar_is_shown_in_a_terminal_only(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Evaluator(Pixels()).evaluate(loader(IMAGES, LABELS))
    assert capfd.readouterr() == ("", "")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    Evaluator(Pixels()).evaluate(loader(IMAGES, LABELS))
    assert "evaluating" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_a_sampler_that_pads_is_warned_of() -> None:
    data = TensorDataset(IMAGES, LABELS)
    padding = DistributedSampler(data, num_replicas=2, rank=0, shuffle=False)
    with pytest.warns(ZooWarning) as caught:
        Evaluator(Pixels()).evaluate(DataLoader(data, batch_size=4, sampler=padding))
    assert str(caught[0].message) == (
        "DistributedSampler gives 12 samples of 11, so the results are not exact; use "
        "zoo_core.evaluation.UnpaddedSampler"
    )
    assert caught[0].filename == __file__
    even = DistributedSampler(data, num_replicas=1, rank=0)
    Evaluator(Pixels()).evaluate(DataLoader(data, batch_size=4, sampler=even))


BATCH = (
    "a batch must be a mapping with 'image' and 'label' or 'mask', or (images, labels [B]), "
    "(images, masks [B, H, W]) or (images, labels, masks), all tensors, not "
)
OUTPUT = (
    "a model must give logits [B, C] or [B, C, H, W], or a mapping with 'classification', "
    "'segmentation', 'out' or 'logits', not "
)
REFUSED: list[tuple[nn.Module, Any, str]] = [
    (Pixels(), [], "the loader gave no batch"),
    (Pixels(), [IMAGES], BATCH + "a tensor [11, 6, 4, 5]"),
    (Pixels(), [()], BATCH + "()"),
    (Pixels(), [(IMAGES,)], BATCH + "(a tensor [11, 6, 4, 5])"),
    (Pixels(), [(IMAGES, MASKS[:, None])],
     BATCH + "(a tensor [11, 6, 4, 5], a tensor [11, 1, 4, 5])"),
    (Pixels(), [(IMAGES, [1, 2])], BATCH + "(a tensor [11, 6, 4, 5], (int, int))"),
    (Pixels(), [(IMAGES, LABELS, "names")],
     BATCH + "(a tensor [11, 6, 4, 5], a tensor [11], str)"),
    (Pixels(), [{"image": IMAGES}], BATCH + "{'image': a tensor [11, 6, 4, 5]}"),
    (Pixels(), [{"images": IMAGES, "label": LABELS}],
     BATCH + "{'images': a tensor [11, 6, 4, 5], 'label': a tensor [11]}"),
    (Pixels("segmentation"), [(IMAGES, LABELS)],
     "the batch has targets for classification, but the model gives logits for segmentation only"),
    (nn.Flatten(2), [(IMAGES, LABELS)], OUTPUT + "a tensor [11, 6, 20]"),
    (nn.Flatten(0), [(IMAGES, LABELS)], OUTPUT + "a tensor [1320]"),
    (Pixels(), [(IMAGES, LABELS[:3])],
     "targets must be class indices [11], as many as the predictions, not [3] of torch.int64"),
    (Pixels(), [(IMAGES, LABELS + 3)],
     "targets must be classes from 0 to 5, not -97; ignore_index is -100"),
    (nn.Sequential(nn.Flatten(), nn.LazyLinear(1)), [(IMAGES, LABELS)],
     "num_classes must be a whole number from 2, not 1"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "data", "message"), REFUSED)
def test_what_cannot_be_evaluated_is_refused(model: nn.Module, data: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Evaluator(model).evaluate(data)
    assert str(caught.value) == message


def test_a_mapping_without_logits_is_refused() -> None:
    class Features(nn.Module):
        def forward(self, images: Tensor) -> dict[str, Any]:
            return {"features": [images], "aux": None}

    with pytest.raises(InputError) as caught:
        Evaluator(Features()).evaluate([(IMAGES, LABELS)])
    expected = OUTPUT + "{'features': (a tensor [11, 6, 4, 5]), 'aux': NoneType}"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": print}, "model must be a torch.nn.Module, not builtin_function_or_method"),
        ({"mixed_precision": True},
         "mixed_precision is torch.float16 or torch.bfloat16, not True"),
        ({"criterion": {"depth": nn.L1Loss()}},
         "criterion must be a loss, or a mapping with losses for classification and segmentation, "
         "not 'depth': L1Loss()"),
        ({"criterion": "cross entropy"},
         "criterion must be a loss, or a mapping with losses for classification and segmentation, "
         "not 'classification': 'cross entropy'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Evaluator(**{"model": Pixels(), **options})
    assert str(caught.value) == message
