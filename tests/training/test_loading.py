"""The order of samples, where the loader has a sampler of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

from zoo_core import hookimpl
from zoo_core.errors import InputError
from zoo_core.evaluation import UnpaddedSampler
from zoo_core.training import Checkpoints, Trainer
from zoo_core.training.loading import Batches
from zoo_core.training.world import World


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


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Samples with noise from every global generator, of which it counts how many were read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index in range(first, 16, step):
            self.read += 1
            noise = random.random() + np.random.rand() + torch.randn(8)
            yield noise.float() + index % 3, torch.tensor(index % 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_gone_on_with_where_it_was(workers: int, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    class Stop:
        def __init__(self, data: Stream) -> None:
            self.data = data

        @hookimpl
        def step_finished(self, step: int) -> None:
            # No more is read than is trained on.
            assert workers or self.data.read == 4 * step
            if step == 7:
                raise StopError

    found = []
    for folder, resume in (("whole", False), ("cut", False), ("cut", True)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
        torch.manual_seed(99 if resume else 1)  # what is drawn before counts nothing
        data = Stream()
        trainer = Trainer(
            model, max_epochs=3, seed=4, device="cpu", progress=False,
            callbacks=[Stop(data)] if folder == "cut" and not resume else [],
            checkpoints=Checkpoints(tmp_path / folder, every_steps=1),
        )  # fmt: skip
        loader = DataLoader(data, 4, num_workers=workers)
        if folder == "cut" and not resume:
            with pytest.raises(StopError):
                trainer.train(loader)
        else:
            trainer.train(loader, resume=resume)
            found.append([value.clone() for value in model.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("kind", [DistributedSampler, UnpaddedSampler])
@pytest.mark.parametrize("within", [False, True])
def test_what_is_a_share_already_is_refused(kind: Any, within: bool) -> None:
    sampler = kind(numbers(), 0, 2) if kind is UnpaddedSampler else kind(numbers(), 2, 0)
    if within:
        loader = DataLoader(numbers(), batch_sampler=BatchSampler(sampler, 2, drop_last=False))
    else:
        loader = DataLoader(numbers(), 2, sampler=sampler)
    with pytest.raises(InputError, match=f"the loader has a {kind.__name__}; leave it out"):
        Batches(loader, World(0, 2, torch.device("cpu")), 0)


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
