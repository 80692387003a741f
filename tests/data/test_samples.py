"""A sample is a mapping that is unpacked like a tuple, and stays so in every loader."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, default_collate

import zoo_core as zoo
from zoo_core.data import (
    ClassificationDataset,
    DummyClassificationDataset,
    DummyMultitaskDataset,
    DummySegmentationDataset,
    Sample,
    Scenes,
    Transforms,
)
from zoo_core.errors import InputError

fork_is_meant = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


@pytest.fixture
def sample() -> Sample:
    return Sample(image=torch.rand(3, 4, 5), label=torch.tensor(1), mask=torch.ones(4, 5))


def test_it_is_a_mapping(sample: Sample) -> None:
    assert isinstance(sample, dict)
    assert isinstance(sample, Mapping)
    assert len(sample) == 3
    assert list(sample.keys()) == ["image", "label", "mask"]
    assert "mask" in sample
    assert "masks" not in sample
    assert sample.get("depth") is None
    with pytest.raises(KeyError, match=r"^'depth'$"):
        sample["depth"]
    for plain in (dict(sample), {**sample}, dict(**sample), dict(sample.items())):
        assert type(plain) is dict
        assert plain.keys() == sample.keys()
        assert all(plain[key] is sample[key] for key in sample.keys())  # noqa: SIM118


def test_it_is_unpacked(sample: Sample) -> None:
    image, label, mask = sample
    assert image is sample["image"]
    assert label is sample["label"]
    assert mask is sample["mask"]
    images, labels = Sample(image=image, label=label)
    assert (images is image, labels is label) == (True, True)


def test_using_a_value_as_a_name_says_what_to_do(sample: Sample) -> None:
    with pytest.raises(TypeError, match=r"iterate over batch.keys\(\) for names"):
        [sample[key] for key in sample]  # type: ignore[index]


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_are_samples(again: Any, sample: Sample) -> None:
    other = again(sample)
    assert type(other) is Sample
    assert list(other.keys()) == list(sample.keys())
    assert all(torch.equal(other[key], sample[key]) for key in sample.keys())  # noqa: SIM118


def test_it_moves(sample: Sample) -> None:
    moved = sample.to("meta")
    assert type(moved) is Sample
    assert {value.device.type for value in moved} == {"meta"}
    assert {value.device.type for value in sample} == {"cpu"}


def check(batch: Any, expected: list[Sample], *names: str) -> None:
    assert type(batch) is Sample
    assert tuple(batch.keys()) == names
    for value, name in zip(batch, names, strict=True):
        assert value is batch[name]
        assert torch.equal(value, torch.stack([one[name] for one in expected]))


@fork_is_meant
@pytest.mark.parametrize(
    ("dataset", "names", "workers", "start"),
    [
        (DummyClassificationDataset(6, 16), ("image", "label"), 0, None),
        (DummyClassificationDataset(6, 16), ("image", "label"), 2, "fork"),
        (DummySegmentationDataset(6, 16), ("image", "mask"), 0, None),
        (DummySegmentationDataset(6, 16), ("image", "mask"), 2, "fork"),
        (DummyMultitaskDataset(6, 16), ("image", "label", "mask"), 0, None),
        (DummyMultitaskDataset(6, 16), ("image", "label", "mask"), 2, "fork"),
        (DummyMultitaskDataset(6, 16), ("image", "label", "mask"), 2, "spawn"),
        (Scenes(6, 32), ("image", "label", "mask"), 2, "fork"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "labels") else None,
)
def test_loaders_give_batches_that_are_samples(
    dataset: Any, names: tuple[str, ...], workers: int, start: str | None
) -> None:
    loader = DataLoader(dataset, 4, num_workers=workers, multiprocessing_context=start)
    first, second = loader
    check(first, [dataset[index] for index in range(4)], *names)
    check(second, [dataset[index] for index in range(4, 6)], *names)


def test_wrapped_data_sets_give_samples_too() -> None:
    one, other = DummyClassificationDataset(4, 8), DummyClassificationDataset(4, 8, seed=1)
    joined = ConcatDataset([Subset(one, [3, 1]), other])
    [batch] = DataLoader(joined, 6)
    check(batch, [one[3], one[1], *(other[index] for index in range(4))], "image", "label")


def test_batches_can_be_collated_again() -> None:
    dataset = DummyClassificationDataset(4, 8)
    batches = list(DataLoader(dataset, 2))
    images, labels = default_collate(batches)
    assert images.shape == (2, 2, 3, 8, 8)
    assert labels.tolist() == [[0, 1], [2, 3]]


def test_a_loader_without_batches_needs_a_collate_function() -> None:
    dataset = DummyClassificationDataset(2, 8)
    with pytest.raises(TypeError, match="give the loader a batch_size or a collate_fn"):
        next(iter(DataLoader(dataset, batch_size=None)))
    image, label = next(iter(DataLoader(dataset, batch_size=None, collate_fn=lambda one: one)))
    assert (image.shape, label.shape) == ((3, 8, 8), ())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory is for a GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches_are_samples(workers: int) -> None:
    dataset = DummyMultitaskDataset(4, 8)
    for batch in DataLoader(dataset, 2, num_workers=workers, pin_memory=True):
        assert type(batch) is Sample
        images, labels, masks = batch
        assert all(value.is_pinned() for value in (images, labels, masks))
        assert batch["mask"] is masks
        moved = batch.to("cuda", non_blocking=True)
        assert torch.equal(moved["image"].cpu(), images)


def test_models_take_batches() -> None:
    model = zoo.build(
        "resnet18+unet", num_classes_classification=3, num_classes_segmentation=4, seed=0
    ).eval()
    [both] = DataLoader(DummyMultitaskDataset(2, 32, 3, 4), 2)
    with torch.no_grad():
        outputs = model(both)
        assert outputs.keys() == {"classification", "segmentation"}
        images, labels, masks = both
        assert outputs["classification"].shape == (len(labels), 3)
        assert outputs["segmentation"].shape == (2, 4, *masks.shape[1:])
        logits = model(Sample(image=images, label=labels))
        assert torch.equal(logits, outputs["classification"])
        with pytest.raises(InputError, match="the batch has no 'image'"):
            model(Sample(label=labels))


def test_a_compiled_model_takes_batches() -> None:
    model = zoo.build("resnet18", num_classes_classification=3, seed=0).eval()
    [batch] = DataLoader(DummyClassificationDataset(2, 32, 3), 2)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch), model(batch))


@fork_is_meant
@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "fork")])
def test_an_error_in_a_worker_still_names_the_file(
    classes: Path, workers: int, start: str | None
) -> None:
    broken = classes / "train" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:500])
    dataset = ClassificationDataset(classes, "train", Transforms(8))
    loader = DataLoader(dataset, 6, num_workers=workers, multiprocessing_context=start)
    with pytest.raises(InputError, match=r"dog.1\.png: it cannot be read: .*; fetch or save"):
        next(iter(loader))
