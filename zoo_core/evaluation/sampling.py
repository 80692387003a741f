"""Splitting a data set over processes for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import torch.distributed as dist
from torch.utils.data import Sampler

from zoo_core.errors import InputError
from zoo_core.evaluation.tally import is_sharded


class UnpaddedSampler(Sampler[int]):
    """Gives each sample of a data set to exactly one process, in order.

    ``torch.utils.data.DistributedSampler`` repeats samples until all processes have as many, so
    that some would be scored twice. Here some processes have one sample less, and maybe none.

    Args:
        dataset: Whose samples are split.
        rank: Which process this is; by default as ``torch.distributed`` says, the only one
            without it.
        world_size: How many there are; by default as ``torch.distributed`` says.

    Raises:
        InputError: If there is no such process.
    """

    def __init__(
        self, dataset: Sized, rank: int | None = None, world_size: int | None = None
    ) -> None:
        rank = rank if rank is not None else dist.get_rank() if is_sharded() else 0
        if world_size is None:
            world_size = dist.get_world_size() if is_sharded() else 1
        if not 0 <= rank < world_size:
            raise InputError(f"there is no process of rank {rank} among {world_size}")
        self._indices = range(rank, len(dataset), world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
