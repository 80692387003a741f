"""Which pixels count nothing: as the data set says, or the trainer is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, random_split

from zoo_core.training import Trainer

CLASSES = 256
MISSING = object()


class Masks(Dataset[dict[str, Tensor]]):
    """Each class number that a byte has, in each picture; 255 in every fourth row."""

    def __init__(self, ignored: Any = MISSING) -> None:
        if ignored is not MISSING:
            self.ignore_index = ignored

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.randint(CLASSES, (16, 16), generator=generator)
        mask[::4] = 255
        return {"image": torch.randn(3, 16, 16, generator=generator), "mask": mask}


def trained(dataset: Dataset[Any], **options: Any) -> tuple[Trainer, list[Tensor]]:
    """Take one step on all pictures, and give the weights before it."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, CLASSES, 1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    trainer = Trainer(
        model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), max_epochs=1, device="cpu",
        progress=False, **options,
    )  # fmt: skip
    loader = DataLoader(dataset, 4)
    trainer.train(loader, loader)
    return trainer, before


def check(trainer: Trainer, before: list[Tensor], ignored: int | None) -> None:
    """Compare loss, weights and metrics with what ignores this value, by hand."""
    model = nn.Conv2d(3, CLASSES, 1)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), before, strict=True):
            parameter.copy_(value)
    samples = [Masks()[index] for index in range(4)]
    images = torch.stack([sample["image"] for sample in samples])
    masks = torch.stack([sample["mask"] for sample in samples])
    options = {} if ignored is None else {"ignore_index": ignored}
    loss = nn.functional.cross_entropy(model(images), masks, **options)
    loss.backward()  # type: ignore[no-untyped-call]
    assert trainer.history["train_loss"] == [pytest.approx(loss.item(), rel=1e-5)]
    for found, wanted in zip(trainer.model.parameters(), model.parameters(), strict=True):
        assert wanted.grad is not None
        torch.testing.assert_close(found, wanted - 0.1 * wanted.grad, atol=1e-6, rtol=1e-5)
    pixels = masks.numel() if ignored is None else int((masks != ignored).sum())
    assert trainer.history["val_metrics"]["pixels"] == [pixels]


@pytest.mark.parametrize(
    ("dataset", "ignored"),
    [
        (Masks(), 255),  # it does not say
        (Masks(None), None),  # it says that there are none
        (Masks(7), 7),
        (Subset(Masks(None), range(4)), None),
        (random_split(Subset(Masks(7), range(4)), [4, 0])[0], 7),
    ],
    ids=["unsaid", "none", "7", "none in a subset", "7 in a split"],
)
def test_the_data_set_says_what_counts_nothing(dataset: Dataset[Any], ignored: int | None) -> None:
    check(*trained(dataset), ignored)


def test_what_the_trainer_is_told_goes_first() -> None:
    check(*trained(Masks(7), ignore_index=9), 9)


def test_each_run_asks_its_own_data_set() -> None:
    trainer, _ = trained(Masks(7))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    loader = DataLoader(Masks(), 4)
    trainer.train(loader, loader)
    check(trainer, before, 255)


def test_batches_without_a_data_set_ignore_255() -> None:
    [batch] = DataLoader(Masks(), 4)
    torch.manual_seed(0)
    model = nn.Conv2d(3, CLASSES, 1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, optimizer=optimizer, max_epochs=1, device="cpu", progress=False)
    trainer.train([batch], [batch])
    check(trainer, before, 255)
