"""Synthetic data: of the promised form, the same every time, and learnable."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from zoo_core.data import (
    DummyClassificationDataset,
    DummyMultitaskDataset,
    DummySegmentationDataset,
    SampleDataset,
    Transforms,
)
from zoo_core.errors import InputError

Make = Callable[..., SampleDataset]
KINDS = [DummyClassificationDataset, DummySegmentationDataset, DummyMultitaskDataset]
DIGEST = """
import hashlib, sys
import zoo_core.data
for name in sys.argv[1:]:
    dataset = getattr(zoo_core.data, name)(9, (20, 24), seed=4)
    values = b"".join(value.numpy().tobytes() for index in (8, 0) for value in dataset[index])
    print(hashlib.sha256(values).hexdigest())
"""


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("size", [1, 17, (40, 24)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_samples_have_the_promised_form(
    make: Make, size: int | tuple[int, int], channels: int
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    dataset = make(num_samples=13, image_size=size, channels=channels)
    assert len(dataset) == 13
    for sample in dataset:
        image = sample["image"]
        assert (image.dtype, image.shape) == (torch.float32, (channels, height, width))
        assert image.is_contiguous()
        assert 0 <= image.min() <= image.max() <= 1
        if "label" in sample:
            assert (sample["label"].dtype, sample["label"].shape) == (torch.int64, ())
            assert 0 <= sample["label"] < 10
        if "mask" in sample:
            assert (sample["mask"].dtype, sample["mask"].shape) == (torch.int64, (height, width))
            assert 0 <= sample["mask"].min() <= sample["mask"].max() < 21
    with pytest.raises(IndexError):
        dataset[13]


def test_names_are_those_of_the_heads() -> None:
    both = DummyMultitaskDataset(4, 8, num_classes=2, num_classes_segmentation=3)
    assert both.labels == {"classification": ("0", "1"), "segmentation": ("0", "1", "2")}
    assert (both.num_classes, both.num_classes_segmentation) == (2, 3)
    assert (both.class_to_idx, both.targets) == ({"0": 0, "1": 1}, [0, 1, 0, 1])
    assert DummyClassificationDataset(4, 8, 2).labels == {"classification": ("0", "1")}
    assert DummySegmentationDataset(4, 8, 2).labels == {"segmentation": ("0", "1")}
    assert both.ignore_index == DummySegmentationDataset(4, 8).ignore_index == 255


@pytest.mark.parametrize("make", KINDS)
def test_samples_depend_on_index_and_seed_only(make: Make) -> None:
    dataset = make(9, (20, 24), seed=4)
    torch.manual_seed(1)
    one = dataset[8]
    assert torch.equal(one["image"], make(50, (20, 24), seed=4)[8]["image"])
    assert not torch.equal(one["image"], dataset[7]["image"])
    assert not torch.equal(one["image"], make(9, (20, 24), seed=5)[8]["image"])


def test_another_process_makes_the_same_samples() -> None:
    digests = []
    for make in KINDS:
        dataset: Any = make(9, (20, 24), seed=4)
        values = b"".join(value.numpy().tobytes() for index in (8, 0) for value in dataset[index])
        digests.append(hashlib.sha256(values).hexdigest())
    names = [make.__name__ for make in KINDS]
    done = subprocess.run(
        [sys.executable, "-c", DIGEST, *names], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == digests


def test_classes_are_balanced() -> None:
    dataset = DummyClassificationDataset(30, 8, 10)
    assert Counter(int(sample["label"]) for sample in dataset) == dict.fromkeys(range(10), 3)
    seen = {
        int(number)
        for one in DummySegmentationDataset(20, 32, 21)
        for number in one["mask"].unique()
    }
    assert seen == set(range(21))
    assert DummySegmentationDataset(2, 8, 1)[1]["mask"].max() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_can_be_told_apart(channels: int) -> None:
    colours = DummySegmentationDataset(1, 8, 21, channels)._colours
    distances = torch.cdist(colours, colours) + torch.eye(21)
    assert distances.min() > (0.03 if channels == 1 else 0.2)
    assert colours[0].tolist() == [0.5] * channels


def test_transforms_are_applied() -> None:
    image, mask = DummySegmentationDataset(2, 32, transform=Transforms((8, 12), normalize=False))[1]
    assert (image.shape, mask.shape) == ((3, 8, 12), (8, 12))
    image, _ = DummyClassificationDataset(2, 32, transform=Transforms(8))[1]
    assert image.min() < 0


class _Small(nn.Module):
    """A small network of its own, with the heads that are asked for."""

    def __init__(self, labels: int, numbers: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
        )
        self.label = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, labels))
        self.number = nn.Conv2d(32, numbers, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(images)
        return self.label(maps), self.number(maps)


@pytest.mark.parametrize("make", KINDS)
def test_a_model_learns_what_holds_for_other_samples(make: Make) -> None:
    torch.manual_seed(0)
    model = _Small(10, 6)
    segmentation = {} if make is DummyClassificationDataset else {"num_classes_segmentation": 6}
    if make is DummySegmentationDataset:
        segmentation = {"num_classes": 6}
    train, val = (make(count, 24, seed=seed, **segmentation) for count, seed in ((160, 0), (60, 1)))
    samples = list(train)  # made once; each epoch would make them again
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(40):
        for batch in DataLoader(samples, 16, shuffle=True):
            loss = sum(_losses(model, batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    [batch] = DataLoader(val, 60)
    with torch.no_grad():
        label, number = model(batch["image"])
    if "label" in batch:
        assert (label.argmax(1) == batch["label"]).float().mean() > 0.9
    if "mask" in batch:
        objects = batch["mask"] > 0
        assert (number.argmax(1) == batch["mask"])[objects].float().mean() > 0.85


def _losses(model: nn.Module, batch: Any) -> list[Tensor]:
    label, number = model(batch["image"])
    losses = [F.cross_entropy(label, batch["label"])] if "label" in batch else []
    return losses + ([F.cross_entropy(number, batch["mask"])] if "mask" in batch else [])


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number from 1, not 0"),
        ({"image_size": 0}, "image_size must be a whole number from 1, not 0"),
        ({"image_size": (8, 8, 3)}, "image_size is one side, or height and width, not "),
        ({"num_classes": 0}, "num_classes must be a whole number from 1, not 0"),
        ({"num_classes": True}, "num_classes must be a whole number from 1, not True"),
        ({"channels": 0}, "channels must be a whole number from 1, not 0"),
        ({"seed": -1}, "seed must be a whole number from 0, not -1"),
    ],
)
def test_wrong_arguments_are_refused(make: Make, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=f"^{problem}"):
        make(**options)
