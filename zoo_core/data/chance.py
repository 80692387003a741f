"""Randomness of samples as a function of seed, epoch and index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from zoo_core.data.arguments import check_whole


def mixed(*numbers: int) -> int:
    """Mix numbers into a seed: of a larger one, torch's CPU generator takes the last 32 bits."""
    text = "/".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


class Chance:
    """What torch's generator gives while a sample is made.

    Seed and epoch lie in shared memory, where workers that are running already see them change.
    """

    def __init__(self) -> None:
        self._turn = _shared(torch.full((2,), -1, dtype=torch.int64))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._turn = _shared(state["_turn"])  # Copies are elsewhere.

    def set(self, epoch: int, seed: int) -> None:
        """Let all depend on seed, epoch and index."""
        check_whole("epoch", epoch, least=0)
        check_whole("seed", seed, least=0, most=2**63 - 1)
        self._turn[0], self._turn[1] = epoch, seed

    @contextmanager
    def of(self, index: int) -> Iterator[None]:
        """Within it, torch's CPU generator is the sample's; afterwards it goes on as before.

        Until :meth:`set` is called, it is left alone.
        """
        epoch, seed = self._turn.tolist()
        if epoch < 0:
            yield
            return
        before = torch.default_generator.get_state()
        torch.default_generator.manual_seed(mixed(seed, epoch, index))
        try:
            yield
        finally:
            torch.default_generator.set_state(before)


def _shared(tensor: Tensor) -> Tensor:
    shared: Tensor = tensor.share_memory_()  # type: ignore[no-untyped-call]
    return shared
