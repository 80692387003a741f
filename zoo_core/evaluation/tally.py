"""Counts that add up to the same whatever batches, devices and processes they come from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


def is_sharded() -> bool:
    """Tell whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(values: Tensor, *, largest: bool = False) -> Tensor:
    """Give the sum over all processes, or the largest, of each element, on the CPU.

    Every process must call it.
    """
    devices = [pair.partition(":")[0] for pair in dist.get_backend_config().split(",")]
    total = values.to("cpu" if "cpu" in devices else devices[0], copy=True)
    dist.all_reduce(total, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
    return total.cpu()


class Tally:
    """Named rows of whole numbers that are added to, and bounds of what was seen.

    All are int64, so that no order of addition changes them. They lie where they were last added
    to, and nothing here waits for a GPU.

    Args:
        sizes: Length of each row.
        bounds: How many bounds there are; a bound begins at 0 and only rises.
    """

    def __init__(self, sizes: Mapping[str, int], bounds: int) -> None:
        self._sizes = dict(sizes)
        with torch.inference_mode(mode=False):  # inference tensors could not be added to later
            self.sums = torch.zeros(sum(sizes.values()), dtype=torch.int64, device="cpu")
            self.bounds = torch.zeros(bounds, dtype=torch.int64, device="cpu")

    def __getitem__(self, name: str) -> Tensor:
        """Give a row, not a copy of it."""
        rows = torch.split(self.sums, list(self._sizes.values()))
        return dict(zip(self._sizes, rows, strict=True))[name]

    def move(self, device: torch.device) -> None:
        """Lie on another device from now on."""
        if self.sums.device == device:
            return
        with torch.inference_mode(mode=False):
            self.sums, self.bounds = self.sums.to(device), self.bounds.to(device)

    def count(self, name: str, places: Tensor, amounts: Tensor | None = None) -> None:
        """Add amounts, by default 1 each, at places of a row."""
        places = places.flatten()
        if amounts is None:
            amounts = self.sums.new_ones(()).expand_as(places)
        # torch.bincount would wait for the GPU to learn the largest place.
        self[name].scatter_add_(0, places, amounts)

    def raise_bounds(self, seen: Tensor) -> None:
        """Raise the bounds to what was seen."""
        torch.maximum(self.bounds, seen, out=self.bounds)

    def add(self, other: Tally) -> None:
        """Add what another tally of the same form has counted."""
        self.sums += other.sums.to(self.sums.device)
        self.raise_bounds(other.bounds.to(self.bounds.device))

    def on_cpu(self) -> Tally:
        """Give it on the CPU: itself, where it lies there."""
        if self.sums.device.type == "cpu":
            return self
        copied = Tally(self._sizes, len(self.bounds))
        copied.sums, copied.bounds = self.sums.cpu(), self.bounds.cpu()
        return copied

    def over_ranks(self) -> Tally:
        """Give what all processes have counted together; every process must call it."""
        total = Tally(self._sizes, len(self.bounds))
        total.sums = sum_over_ranks(self.sums)
        total.bounds = sum_over_ranks(self.bounds, largest=True)
        return total
