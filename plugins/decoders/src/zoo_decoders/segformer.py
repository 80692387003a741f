"""The all-MLP decoder of SegFormer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from zoo_core.pyramid import resample
from zoo_decoders.base import PyramidHead, resized


class SegFormerDecoder(PyramidHead):
    """Brings every map to one width and to the finest one's size, and mixes them linearly.

    After Xie et al. 2021 (https://arxiv.org/abs/2105.15203). Their mixing layer reads all maps,
    resized and concatenated. As resizing and mixing commute, here each map is mixed at its own
    size and the results are resized and summed: the same function, in a fraction of the time.
    Linear layers have no bias, which the norm after them would take away.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        channels: Width; the paper has 256 for its two smallest models and 768 for the others.
        dropout: Share of channels dropped before the classifier.

    Raises:
        InputError: If an argument is out of range.
    """

    def __init__(
        self,
        backbone_channels: Sequence[int],
        output_channels: int,
        channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(backbone_channels, output_channels)
        self.check_whole("channels", channels)
        self.check_dropout(dropout)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(given, channels, 1, bias=False),
                resample(channels, step),
                nn.Conv2d(channels, channels, 1, bias=False),
            )
            for given, step in zip(self.channels, self.steps, strict=True)
        )
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, output_channels, 1),
        )

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Give logits of the finest level's resolution."""
        x, *others = [level(x) for level, x in zip(self.levels, maps, strict=True)]
        for other in others:
            x = x + resized(other, x.shape[-2:])
        logits: Tensor = self.head(x)
        return logits
