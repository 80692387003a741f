"""Attention that adds to each place what there is elsewhere; both begin as the identity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_attention.arguments import check_positive
from zoo_core import Attention


class GlobalContext(Attention):
    """Adds the same vector to all places, made of an average that it learns to weigh.

    After Cao et al. 2019 (https://arxiv.org/abs/1904.11492), with addition as there. The last
    layer begins at zero, and with it the module as the identity.

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layer has; it has 8 at least, for a
            layer norm leaves little of fewer.

    Raises:
        InputError: If one of them is no positive whole number.
    """

    def __init__(self, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        check_positive("GlobalContext", in_channels=in_channels, reduction=reduction)
        hidden = max(8, in_channels // reduction)
        # A softmax sees no bias.
        self.weigh = nn.Conv2d(in_channels, 1, 1, bias=False)
        last = nn.Linear(hidden, in_channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.transform = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.LayerNorm(hidden), nn.ReLU(inplace=True), last
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        weights = self.weigh(x).flatten(2).softmax(2)
        context = torch.bmm(x.flatten(2), weights.mT).squeeze(2)
        refined: Tensor = x + self.transform(context)[..., None, None]
        return refined


class NonLocal(Attention):
    """Adds to each place a mean of all places, weighed by how alike they are to it.

    After Wang et al. 2017 (https://arxiv.org/abs/1711.07971): the embedded Gaussian, its products
    divided by the square root of the hidden channels as in the authors' implementation. The batch
    norm at the end begins at zero, and with it the module as the identity.

    A batch of one picture whose map is a single pixel cannot be trained on: a batch norm needs
    two values. Exported with open sizes, it takes maps of more than ``subsample`` pixels a side.

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layers have; they have one at least.
        subsample: Side, in pixels, of the squares whose maxima are looked at instead of the single
            places, as in the paper. Work falls with its square; 1 looks at every place.

    Raises:
        InputError: If one of them is no positive whole number.
    """

    def __init__(self, in_channels: int, reduction: int = 2, subsample: int = 2) -> None:
        super().__init__()
        check_positive(
            "NonLocal", in_channels=in_channels, reduction=reduction, subsample=subsample
        )
        hidden = max(1, in_channels // reduction)
        # The other layers' biases would be lost: in the softmax, and in the batch norm.
        self.query = nn.Conv2d(in_channels, hidden, 1)
        self.key = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.value = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.project = nn.Conv2d(hidden, in_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(in_channels)
        nn.init.zeros_(self.norm.weight)
        self.subsample = subsample

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        seen = self._subsampled(x)
        maps = (self.query(x), self.key(seen), self.value(seen))
        # Only contiguous ones spare the matrix of all weights: the fused kernels take no others.
        query, key, value = (one.flatten(2).mT.unsqueeze(1).contiguous() for one in maps)
        attended = F.scaled_dot_product_attention(query, key, value).squeeze(1).mT
        refined: Tensor = x + self.norm(self.project(torch.unflatten(attended, 2, x.shape[2:])))
        return refined

    def _subsampled(self, x: Tensor) -> Tensor:
        """Take the maxima of squares, those at the bottom and right edges cut off."""
        side = self.subsample
        if side == 1:
            return x
        height, width = x.shape[2:]
        edges = (0, -width % side, 0, -height % side)
        return F.max_pool2d(F.pad(x, edges, value=float("-inf")), side)
