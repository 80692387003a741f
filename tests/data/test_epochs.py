"""What is random in a sample depends on seed, epoch and index only, once an epoch is set."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2

from zoo_core.data import (
    ClassificationDataset,
    DummyClassificationDataset,
    DummyMultitaskDataset,
    SampleDataset,
    Transforms,
)
from zoo_core.errors import InputError

fork_is_meant = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


def dummy() -> DummyMultitaskDataset:
    return DummyMultitaskDataset(8, 12, transform=Transforms(10, augment=True))


def pictures(dataset: Any, **options: Any) -> Tensor:
    return torch.cat([batch["image"] for batch in DataLoader(dataset, 3, **options)])


def test_samples_depend_on_seed_epoch_and_index() -> None:
    dataset, seen = dummy(), []
    for epoch, seed in ((0, 0), (1, 0), (0, 1), (0, 2**63 - 1)):
        dataset.set_epoch(epoch, seed)
        images = pictures(dataset)
        assert torch.equal(images, pictures(dataset))
        backwards = torch.stack([dataset[index]["image"] for index in reversed(range(8))])
        assert torch.equal(images, backwards.flip(0))
        assert torch.equal(pictures(Subset(dataset, [5, 2])), images[[5, 2]])
        seen.append(images)
    for number, images in enumerate(seen):
        for other in seen[:number]:
            assert not any(torch.equal(*pair) for pair in zip(images, other, strict=True))
    dataset.set_epoch(1)
    assert torch.equal(pictures(dataset), seen[1])


def test_masks_are_flipped_with_their_pictures() -> None:
    dataset = DummyMultitaskDataset(8, 12, transform=Transforms(12, True, False, jitter=0))
    plain = DummyMultitaskDataset(8, 12)
    dataset.set_epoch(3)
    flips = set()
    for sample, expected in zip(dataset, plain, strict=True):
        flipped = not torch.equal(sample["image"], expected["image"])
        flips.add(flipped)
        for key in ("image", "mask"):
            assert torch.equal(sample[key], expected[key].flip(-1) if flipped else expected[key])
    assert flips == {False, True}


@fork_is_meant
@pytest.mark.parametrize(
    ("start", "persistent"), [("fork", False), ("fork", True), ("spawn", True)]
)
def test_workers_make_the_same_samples_in_every_epoch(start: str, persistent: bool) -> None:
    """Also workers that were started before the epoch was set."""
    dataset, alone = dummy(), dummy()
    loader = DataLoader(
        dataset, 3, num_workers=2, multiprocessing_context=start, persistent_workers=persistent
    )
    for epoch in range(3):
        dataset.set_epoch(epoch, seed=5)
        alone.set_epoch(epoch, seed=5)
        images = torch.cat([batch["image"] for batch in loader])
        assert torch.equal(images, pictures(alone))


@fork_is_meant
def test_an_epoch_can_be_gone_on_with(classes: Path) -> None:
    dataset = ClassificationDataset(classes, "train", Transforms(20, augment=True))
    order = [4, 2, 0, 5, 1, 3]
    dataset.set_epoch(7, seed=1)
    whole = pictures(Subset(dataset, order))
    again = ClassificationDataset(classes, "train", Transforms(20, augment=True))
    again.set_epoch(7, seed=1)
    rest = pictures(Subset(again, order[2:]), num_workers=2, multiprocessing_context="fork")
    assert torch.equal(rest, whole[2:])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@fork_is_meant
def test_copies_go_their_own_way(again: Callable[[SampleDataset], SampleDataset]) -> None:
    dataset = dummy()
    dataset.set_epoch(2)
    other = again(dataset)
    assert torch.equal(pictures(other), pictures(dataset))
    loader = DataLoader(
        other, 8, num_workers=1, multiprocessing_context="fork", persistent_workers=True
    )
    [before] = loader
    other.set_epoch(3)
    dataset.set_epoch(2)
    assert torch.equal(before["image"], pictures(dataset))
    [after] = loader
    assert torch.equal(after["image"], pictures(other))
    assert not torch.equal(pictures(other), pictures(dataset))


def test_torchs_generator_is_left_as_it_is() -> None:
    dataset = dummy()
    dataset.set_epoch(0)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    dataset[0]
    assert torch.equal(torch.rand(3), expected)

    def fail(image: Tensor) -> Tensor:
        torch.rand(9)
        raise ValueError("no")

    failing = DummyClassificationDataset(2, 4, transform=fail)
    failing.set_epoch(0)
    torch.manual_seed(3)
    with pytest.raises(ValueError, match="no"):
        failing[0]
    assert torch.equal(torch.rand(3), expected)


def test_without_an_epoch_torchs_generator_decides() -> None:
    """So what seeds that, such as the Trainer, seeds this."""
    dataset = dummy()
    torch.manual_seed(0)
    first = pictures(dataset)
    assert not torch.equal(pictures(dataset), first)
    torch.manual_seed(0)
    assert torch.equal(pictures(dataset), first)


def test_transforms_of_torchvision_are_seeded_too() -> None:
    dataset = DummyClassificationDataset(6, 16, transform=v2.RandomCrop(9))
    dataset.set_epoch(1)
    images = pictures(dataset)
    torch.manual_seed(99)
    assert torch.equal(pictures(dataset), images)
    dataset.set_epoch(2)
    assert not torch.equal(pictures(dataset), images)


@pytest.mark.parametrize("wrong", [{"epoch": -1}, {"epoch": 1.0}, {"epoch": 0, "seed": 2**63}])
def test_wrong_epochs_are_refused(wrong: dict[str, Any]) -> None:
    dataset = dummy()
    with pytest.raises(
        InputError, match=r"^(epoch|seed) must be a whole number from 0( to \d+)?, not"
    ):
        dataset.set_epoch(**wrong)
