"""The order of samples, where the loader has a sampler of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Sampler, TensorDataset, WeightedRandomSampler

from zoo_core import hookimpl
from zoo_core.training import Checkpoints, Trainer


class Turning(Sampler[int]):
    """An order that depends on the epoch it is told, and on nothing else."""

    def __init__(self) -> None:
        self.epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(order(self.epoch))

    def __len__(self) -> int:
        return 8


class TurningBatches(Sampler[list[int]]):
    """The same, in batches."""

    def __init__(self) -> None:
        self.epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        whole = order(self.epoch)
        return iter([whole[:4], whole[4:]])

    def __len__(self) -> int:
        return 2


def order(epoch: int) -> list[int]:
    return [(3 * epoch + step) % 8 for step in range(8)]


def numbers() -> TensorDataset:
    return TensorDataset(torch.arange(8.0)[:, None], torch.zeros(8, dtype=torch.int64))


class Watching(nn.Module):
    """Notes which samples it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(1, 2)
        self.seen: list[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.flatten().int().tolist())
        result: Tensor = self.inner(x)
        return result


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["sampler", "batches", "in batches"])
def test_a_sampler_is_told_the_epoch(kind: str, workers: int) -> None:
    loader: DataLoader[tuple[Tensor, ...]]
    if kind == "sampler":
        loader = DataLoader(numbers(), 4, sampler=Turning(), num_workers=workers)
    else:
        batches = TurningBatches() if kind == "batches" else BatchSampler(Turning(), 4, False)
        loader = DataLoader(numbers(), batch_sampler=batches, num_workers=workers)
    model = Watching()
    Trainer(model, max_epochs=3, device="cpu", progress=False).train(loader)
    wanted = [part for epoch in range(3) for part in (order(epoch)[:4], order(epoch)[4:])]
    assert model.seen == wanted


def test_a_resumed_run_tells_the_epoch_that_it_goes_on_with(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    class Stop:
        @hookimpl
        def step_finished(self, step: int) -> None:
            if step == 4:
                raise StopError

    seen = []
    for callbacks in ([Stop()], []):
        model = Watching()
        trainer = Trainer(
            model, max_epochs=3, device="cpu", progress=False, callbacks=callbacks,
            checkpoints=Checkpoints(tmp_path, every_steps=1),
        )  # fmt: skip
        loader = DataLoader(numbers(), 4, sampler=Turning())
        if callbacks:
            with pytest.raises(StopError):
                trainer.train(loader)
        else:
            trainer.train(loader, resume=True)
        seen.append(model.seen)
    # The fourth step was taken, but is in no checkpoint.
    assert seen[0] == [order(0)[:4], order(0)[4:], order(1)[:4], order(1)[4:]]
    assert seen[1] == [order(1)[4:], order(2)[:4], order(2)[4:]]


def test_a_sampler_that_draws_depends_on_the_seed_only() -> None:
    seen = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        model = Watching()
        sampler = WeightedRandomSampler([1.0, 2.0] * 4, 8)
        trainer = Trainer(model, max_epochs=2, seed=5, device="cpu", progress=False)
        trainer.train(DataLoader(numbers(), 8, sampler=sampler))
        seen.append(model.seen)
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]
