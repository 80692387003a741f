"""What data sets give: a mapping that is also unpacked like a tuple."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map


class Sample(dict[str, Tensor]):
    """One sample, or a batch of them: ``"image"``, then ``"label"``, ``"mask"`` or both.

    It is a dict, so ``batch["image"]``, ``"mask" in batch``, ``batch.items()``, ``dict(batch)``,
    ``**batch`` and ``model(batch)`` work, and it is unpacked like a tuple: ``images, labels =
    batch``, or ``images, labels, masks = batch``. For the latter, iterating over it gives the
    values; ``batch.keys()`` are the names. That is the one thing in which it differs from a dict.

    Samples keep this type in a ``DataLoader``, with and without workers and pinned memory. Only
    one with ``batch_size=None`` needs a ``collate_fn`` too, as torch's own for that iterates over
    keys.
    """

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]  # as the class says
        return iter(self.values())

    def __missing__(self, key: object) -> NoReturn:
        if isinstance(key, str):
            raise KeyError(key)
        raise TypeError(
            "iterating over a batch gives its values, so that 'images, labels = batch' works; "
            "iterate over batch.keys() for names, or give the loader a batch_size or a collate_fn"
        )

    def to(self, device: torch.device | str | int, *, non_blocking: bool = False) -> Sample:
        """Give the same on a device."""
        moved = {key: value.to(device, non_blocking=non_blocking) for key, value in self.items()}
        return Sample(moved)

    def pin_memory(self) -> Sample:
        """Give the same in pinned memory, from which GPUs copy faster."""
        return Sample({key: value.pin_memory() for key, value in self.items()})


def _collate(samples: list[Sample], *, collate_fn_map: Any = None) -> Sample:
    names = samples[0].keys()
    return Sample(
        {
            name: collate([sample[name] for sample in samples], collate_fn_map=collate_fn_map)
            for name in names
        }
    )


default_collate_fn_map[Sample] = _collate
