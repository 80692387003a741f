"""Which of a file's tensors make each tensor of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Origin:
    """What one tensor of a backbone is made of.

    Attributes:
        names: Tensors of the file, by name.
        change: Makes it of them, given in this order.
    """

    names: tuple[str, ...]
    change: Callable[..., Tensor] = _as_it_is


@dataclass(frozen=True)
class Arrangement:
    """How a file is read.

    Attributes:
        origins: The backbone's own names, without its ``state_prefix``, and those of the
            classifier, each with what of the file makes it.
        left_out: Tensors of the file that the backbone has no use for, each with the reason.
    """

    origins: Mapping[str, Origin]
    left_out: Mapping[str, str] = field(default_factory=dict)


def as_named(names: Iterable[str]) -> Arrangement:
    """Give the arrangement of a file whose tensors have the backbone's own names."""
    return Arrangement({name: Origin((name,)) for name in names})


def adapt_input(weight: Tensor, channels: int) -> Tensor:
    """Change a convolution's weight ``[O, I, h, w]`` to ``channels`` input channels.

    One channel gets the sum over all; otherwise the file's channels are repeated in turn and
    scaled by ``I / channels``, so that activations keep their size. timm does the same.
    """
    given = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    order: Iterable[int] = (channel % given for channel in range(channels))
    return weight[:, list(order)] * (given / channels)


def differ_in_input(given: torch.Size, wanted: torch.Size) -> bool:
    """Tell whether two convolutions' weights differ in their input channels only."""
    return len(given) == len(wanted) == 4 and (given[0], *given[2:]) == (wanted[0], *wanted[2:])
