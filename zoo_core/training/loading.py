"""Batches in an order that depends on seed and epoch only, shared among processes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset

from zoo_core.errors import InputError
from zoo_core.evaluation.sampling import UnpaddedSampler
from zoo_core.evaluation.tasks import split_batch
from zoo_core.training.world import World

_END: Final = object()


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch.

    Attributes:
        images: ``[B, C, H, W]``.
        targets: By task, as far as there are such.
        indices: Which samples these are; empty where the loader does not say.
        counts: Whether they count. Where a batch has fewer samples than there are processes, some
            get one that does not, for all of them must take every step.
    """

    images: Tensor
    targets: Mapping[str, Tensor]
    indices: Sequence[Any]
    counts: bool = True

    def to(self, device: torch.device, memory_format: torch.memory_format) -> Batch:
        """Give the batch on a device."""
        images = self.images.to(device, memory_format=memory_format, non_blocking=True)
        targets = {name: item.to(device, non_blocking=True) for name, item in self.targets.items()}
        return Batch(images, targets, self.indices, self.counts)

    def counted(self) -> Batch:
        """Give the samples that count: all, or none."""
        if self.counts:
            return self
        targets = {name: item[:0] for name, item in self.targets.items()}
        return Batch(self.images[:0], targets, (), counts=False)


class Batches:
    """A loader's batches, epoch by epoch, from any batch on.

    The order is a function of seed and epoch, and so is all that is random in a sample: Python's,
    NumPy's and torch's generators are seeded for each sample from seed, epoch and index. So a run
    goes on where it stopped, with any number of workers and processes. The loader's batch is the
    whole one; each process gets its part.

    Args:
        loader: A ``DataLoader``, or anything that gives batches, in an order that depends on
            Python's, NumPy's and torch's generators at most.
        world: The processes that share it.
        seed: What order and samples depend on.

    Raises:
        InputError: If the loader cannot be shared, or is sharded already.
    """

    def __init__(self, loader: Iterable[Any], world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._loader = loader
        self._plan: _Plan | None = None
        within = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        for sampler in (getattr(loader, "sampler", None), within):
            is_share = isinstance(sampler, UnpaddedSampler) and world.size > 1
            if is_share or isinstance(sampler, DistributedSampler):
                raise InputError(
                    f"the loader has a {type(sampler).__name__}; leave it out: the Trainer gives "
                    f"each process its part of every batch"
                )
        if isinstance(loader, DataLoader) and not _is_iterable(loader) and loader.batch_sampler:
            self._plan = _Plan()
            self._keyed = _rebuilt(loader, self._plan)
        elif world.size > 1:
            raise InputError(
                "only a DataLoader over a data set with a length can be shared by processes, not "
                f"{type(loader).__name__}"
                + (" over an IterableDataset" if _is_iterable(loader) else "")
            )

    def __len__(self) -> int:
        """Give the number of batches of an epoch.

        Raises:
            TypeError: If the loader does not know it.
        """
        return len(self._loader)  # type: ignore[arg-type]

    @property
    def pictures(self) -> int | None:
        """How many pictures an epoch has, where the loader knows it."""
        return None if self._plan is None else len(self._keyed.dataset)  # type: ignore[arg-type]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch, from number ``start`` on.

        Raises:
            InputError: If a batch is not made of pictures and targets.
        """
        if self._plan is None:
            for batch in islice(_alone(self._loader, mixed(self._seed, number)), start, None):
                yield Batch(*split_batch(batch), ())
            return
        shares = [_share(batch, self._world) for batch in self._order(number)[start:]]
        self._plan.begin(self._seed, number, [indices for indices, _ in shares])
        for batch, (indices, counts) in zip(self._keyed, shares, strict=True):
            yield Batch(*split_batch(batch), indices, counts)

    def _order(self, epoch: int) -> list[list[Any]]:
        assert isinstance(self._loader, DataLoader)
        sampler = self._loader.batch_sampler
        assert sampler is not None
        inner = getattr(sampler, "sampler", None)
        seed = mixed(self._seed, epoch)
        with isolated(seed):
            generators = [
                generator
                for item in (sampler, inner)
                if isinstance(generator := getattr(item, "generator", None), torch.Generator)
            ]
            before = [generator.get_state() for generator in generators]
            for generator in generators:
                generator.manual_seed(seed)
            for item in (sampler, inner):
                set_epoch = getattr(item, "set_epoch", None)
                if set_epoch is not None:
                    set_epoch(epoch)
            order = [list(batch) for batch in sampler]
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)
        return order


def mixed(*parts: Any) -> int:
    """Mix numbers into a seed; what they are is all that it depends on."""
    text = "/".join(map(repr, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's generators for a while."""
    with _generators_kept():
        seed_generators(seed)
        yield


@contextmanager
def _generators_kept() -> Iterator[None]:
    before = _generators()
    try:
        yield
    finally:
        _set_generators(before)


def _generators() -> tuple[Any, Any, Tensor]:
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state()


def _set_generators(state: tuple[Any, Any, Tensor]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.default_generator.set_state(state[2])


def _alone(batches: Iterable[Any], seed: int) -> Iterator[Any]:
    """Give batches that are drawn from generators of their own, whatever is drawn in between."""
    with isolated(seed):
        iterator = iter(batches)
        own = _generators()
    while True:
        with _generators_kept():
            _set_generators(own)
            batch = next(iterator, _END)
            own = _generators()
        if batch is _END:
            return
        yield batch


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, but no GPU's."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


class _Key(NamedTuple):
    """What a sample is asked for by."""

    seed: int
    epoch: int
    index: Any


class _Plan:
    """The batches of an epoch, as a loader's batch sampler."""

    def begin(self, seed: int, epoch: int, batches: list[list[Any]]) -> None:
        """Give these batches of indices from now on."""
        self._seed, self._epoch, self._batches = seed, epoch, batches

    def __iter__(self) -> Iterator[list[_Key]]:
        for batch in self._batches:
            yield [_Key(self._seed, self._epoch, index) for index in batch]

    def __len__(self) -> int:
        return len(self._batches)


class _Seeded(Dataset[Any]):
    """A data set whose samples depend on their key only."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset: Final = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitems__(self, keys: list[_Key]) -> list[Any]:
        # A batch at once, as keeping the generators takes longer than seeding them.
        samples = []
        with _generators_kept():
            for key in keys:
                seed_generators(mixed(*key))
                samples.append(self.dataset[key.index])
        return samples


def _rebuilt(loader: DataLoader[Any], plan: _Plan) -> DataLoader[Any]:
    """Give a loader that is like another but for its order."""
    return DataLoader(
        _Seeded(loader.dataset),
        batch_sampler=plan,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=torch.Generator(),
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )


def _share(batch: list[Any], world: World) -> tuple[list[Any], bool]:
    own = batch[world.rank :: world.size]
    return (own, True) if own else (batch[:1], False)


def _is_iterable(loader: object) -> bool:
    return isinstance(getattr(loader, "dataset", None), IterableDataset)
