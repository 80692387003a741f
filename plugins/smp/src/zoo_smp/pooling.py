"""The average pooling of smp's pyramids, in a form that ONNX takes at every size.

``AdaptiveAvgPool2d`` to more than one pixel is exported with the places that belong to the
example's size, and then fails or is wrong at others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Averages(nn.Module):
    """Does what ``AdaptiveAvgPool2d(bins)`` does, by products with matrices."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """Give ``[B, C, bins, bins]`` for ``[B, C, H, W]``."""
        rows, columns = (self._shares(side, x) for side in x.shape[-2:])
        return torch.einsum("bchw,hy,wx->bcyx", x, rows, columns)

    def _shares(self, side: int, x: Tensor) -> Tensor:
        """Give ``[side, bins]``, what each place is of each average."""
        place = torch.arange(side, device=x.device)[:, None]
        number = torch.arange(self.bins, device=x.device)
        begin = number * side // self.bins
        end = ((number + 1) * side + self.bins - 1) // self.bins
        within = (place >= begin) & (place < end)
        return within.to(x.dtype) / (end - begin).to(x.dtype)


class PooledScale(nn.Module):
    """Stands for a block of smp's PSPNet, which pools in another way when it is exported."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block.pool, nn.Sequential)
        self.pool = block.pool

    def forward(self, x: Tensor) -> Tensor:
        """Give the averages of ``[B, C, H, W]``, reduced and brought back to its size."""
        return F.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=True)


def replace_pooling(decoder: nn.Module) -> None:
    """Let a decoder of smp pool by :class:`Averages`; its state dict stays."""
    for name, module in list(decoder.named_modules()):
        if type(module).__name__ == "PSPBlock":
            decoder.set_submodule(name, PooledScale(module))
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size
            bins = size[0] if isinstance(size, tuple) else size
            if bins is not None and bins > 1:
                decoder.set_submodule(name, Averages(bins))
