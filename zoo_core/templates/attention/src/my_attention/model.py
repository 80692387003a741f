"""An attention: it refines one feature map, and keeps its shape."""

from __future__ import annotations

from torch import Tensor, nn
from zoo_core import Attention
from zoo_core.errors import InputError


class MyAttention(Attention):
    """Weighs the channels of a map by what a small network makes of their averages.

    After squeeze-and-excitation (Hu et al. 2017, https://arxiv.org/abs/1709.01507).

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layer has.

    Raises:
        InputError: If one of them is not positive.
    """

    def __init__(self, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("reduction", reduction)):
            if value < 1:
                raise InputError(f"{name} must be positive, not {value}")
        hidden = max(1, in_channels // reduction)
        self.weigh = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, in_channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        weights: Tensor = self.weigh(x.mean((2, 3), keepdim=True))
        return x * weights
