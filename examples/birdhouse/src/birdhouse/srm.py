"""SRM: the style-based recalibration module."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo_core import Attention

from birdhouse.arguments import check_whole


class SRM(Attention):
    """Weighs each channel by its own mean and standard deviation over the map, its style.

    After Lee et al. 2019 (https://arxiv.org/abs/1903.10829): two weights a channel, a batch norm
    and a sigmoid. In training, a batch of one picture, which has no statistics, is normalised by
    the running ones.

    Args:
        in_channels: Channels of the map.

    Raises:
        InputError: If it is not positive.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        check_whole(in_channels=in_channels)
        self.cfc = nn.Parameter(torch.zeros(in_channels, 2))
        self.norm = nn.BatchNorm1d(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        places = x.flatten(2)
        deviation = (places.var(2, correction=0) + 1e-5).sqrt()
        style = torch.stack([places.mean(2), deviation], 2)
        weights = torch.sigmoid(self._normalised((style * self.cfc).sum(2)))
        return x * weights[:, :, None, None]

    def _normalised(self, z: Tensor) -> Tensor:
        if not self.training or len(z) > 1:  # in this order: exports read no size
            normalised: Tensor = self.norm(z)
            return normalised
        norm = self.norm
        return F.batch_norm(
            z, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
