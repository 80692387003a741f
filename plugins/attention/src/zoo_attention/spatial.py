"""Attention that weighs places as well as channels."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from zoo_attention.arguments import check_positive
from zoo_attention.channel import SqueezeExcitation
from zoo_core import Attention
from zoo_core.errors import InputError
from zoo_core.layers import ConvNormAct


class ConcurrentSqueezeExcitation(Attention):
    """Adds a map whose channels are weighed and one whose places are.

    After Roy et al. 2018 (https://arxiv.org/abs/1803.02579).

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layer has; it has one at least.

    Raises:
        InputError: If one of them is no positive whole number.
    """

    def __init__(self, in_channels: int, reduction: int = 2) -> None:
        super().__init__()
        check_positive("ConcurrentSqueezeExcitation", in_channels=in_channels, reduction=reduction)
        self.channel = SqueezeExcitation(in_channels, reduction)
        self.place = nn.Conv2d(in_channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        refined: Tensor = self.channel(x) + x * torch.sigmoid(self.place(x))
        return refined


class CoordinateAttention(Attention):
    """Weighs channels by row and by column, from the averages of rows and of columns.

    After Hou et al. 2021 (https://arxiv.org/abs/2103.02907). A batch norm sees all rows and
    columns of a batch, so that even a single pixel can be trained on.

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layer has; as in the authors'
            implementation it has 8 at least.

    Raises:
        InputError: If one of them is no positive whole number.
    """

    def __init__(self, in_channels: int, reduction: int = 32) -> None:
        super().__init__()
        check_positive("CoordinateAttention", in_channels=in_channels, reduction=reduction)
        hidden = max(8, in_channels // reduction)
        self.squeeze = nn.Sequential(
            nn.Conv1d(in_channels, hidden, 1, bias=False), nn.BatchNorm1d(hidden), nn.Hardswish()
        )
        self.rows = nn.Conv1d(hidden, in_channels, 1)
        self.columns = nn.Conv1d(hidden, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        height = x.shape[2]
        squeezed = self.squeeze(torch.cat([x.mean(3), x.mean(2)], 2))
        rows = torch.sigmoid(self.rows(squeezed[..., :height]))
        columns = torch.sigmoid(self.columns(squeezed[..., height:]))
        return x * rows.unsqueeze(3) * columns.unsqueeze(2)


class SimAM(Attention):
    """Weighs each value by how far it is from its channel's average; it has no parameters.

    After Yang et al. 2021 (https://proceedings.mlr.press/v139/yang21o.html): the weight is the
    sigmoid of the inverse of an energy that is low where a value stands out.

    Args:
        in_channels: Channels of the map.
        e_lambda: What is added to each channel's variance; smaller sharpens the weights.

    Raises:
        InputError: If one of them is not positive.
    """

    def __init__(self, in_channels: int, e_lambda: float = 1e-4) -> None:
        super().__init__()
        check_positive("SimAM", in_channels=in_channels)
        number = isinstance(e_lambda, int | float) and not isinstance(e_lambda, bool)
        if not number or not 0 < e_lambda < math.inf:
            raise InputError(f"e_lambda of SimAM must be a positive number, not {e_lambda!r}")
        self.e_lambda = e_lambda

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        pixels = x.shape[2] * x.shape[3]
        # A single pixel has no others; its distance is 0, whatever divides it.
        others = cast(int, torch.sym_max(pixels - 1, 1))
        distance = (x - x.mean((2, 3), keepdim=True)).square()
        variance = distance.mean((2, 3), keepdim=True) * (pixels / others)
        return x * torch.sigmoid(distance / (4 * (variance + self.e_lambda)) + 0.5)


class BAM(Attention):
    """Weighs all values by the sum of what a channel's average and its wide surroundings say.

    After Park et al. 2018 (https://arxiv.org/abs/1807.06514), the two branches added as in the
    paper, and batch norms between the convolutions as in the authors' implementation, which
    multiplies the branches instead.

    The channel branch ends in a batch norm of one value a picture: a batch of one picture cannot
    be trained on.

    Args:
        in_channels: Channels of the map.
        reduction: How many times fewer channels the hidden layers have; they have one at least.
        dilation: Distance, in pixels, of what the spatial branch's 3×3 convolutions look at.

    Raises:
        InputError: If one of them is no positive whole number.
    """

    def __init__(self, in_channels: int, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        check_positive("BAM", in_channels=in_channels, reduction=reduction, dilation=dilation)
        hidden = max(1, in_channels // reduction)
        self.channel = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, in_channels, 1, bias=False),
            nn.BatchNorm2d(in_channels),
        )
        self.place = nn.Sequential(
            ConvNormAct(in_channels, hidden, 1),
            ConvNormAct(hidden, hidden, 3, dilation=dilation),
            ConvNormAct(hidden, hidden, 3, dilation=dilation),
            nn.Conv2d(hidden, 1, 1, bias=False),
            nn.BatchNorm2d(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        channel = self.channel(x.mean((2, 3), keepdim=True))
        refined: Tensor = x + x * torch.sigmoid(channel + self.place(x))
        return refined
