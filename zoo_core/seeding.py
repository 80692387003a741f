"""Initial weights that depend on a seed and a part's name only."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# torch's generator is one for all threads.
_TURN = threading.RLock()


class Seeds:
    """Gives each part of a model its own random numbers.

    Threads that build models at once take turns.

    Args:
        seed: Any whole number; ``None`` draws one from torch's generator.
    """

    def __init__(self, seed: int | None) -> None:
        if seed is None:
            seed = int(torch.randint(2**62, (), device="cpu"))
        self.seed = seed

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Within it, torch's random numbers are the part's; afterwards they go on as before."""
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        number = int.from_bytes(digest[:7], "big")
        # torch.manual_seed would also seed GPUs that nobody has touched yet, and leave them so.
        gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        with _TURN, torch.random.fork_rng(devices=gpus):
            torch.default_generator.manual_seed(number)
            if gpus:
                torch.cuda.manual_seed_all(number)
            yield
