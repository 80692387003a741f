"""The processes that train together; one, unless ``torchrun`` started more."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zoo_core.hardware import find_device

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: Its number.
        size: How many there are.
        device: What it computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Add up what each process has; the result is the same in all."""
        if self.size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def from_main(self, value: T) -> T:
        """Give what the main process has."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, device=self.device)
        given: T = box[0]
        return given

    def gather(self, value: T) -> list[T]:
        """Give what each process has, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do something before the others."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()


def join(device: torch.device | str | None = None) -> World:
    """Join the processes that ``torchrun`` started, or those that the script has joined already.

    Args:
        device: What to compute on; by default a GPU, if there is one. ``"cuda"`` means the GPU of
            this process.

    Raises:
        InputError: If there is no such device.
    """
    chosen = find_device(device)
    if chosen.type == "cuda":
        # Before the group of processes: it takes the device that is set then.
        torch.cuda.set_device(chosen)
    if not dist.is_available():
        return World(0, 1, chosen)
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        # Its threads must end before the interpreter does: one that still drops a tensor then
        # aborts the process.
        atexit.register(_leave)
    if not dist.is_initialized():
        return World(0, 1, chosen)
    return World(dist.get_rank(), dist.get_world_size(), chosen)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
