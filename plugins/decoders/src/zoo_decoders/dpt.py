"""The decoder of the dense prediction transformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from zoo_core.layers import ConvNormAct
from zoo_decoders.base import PyramidHead, doubled, resized


class DPTDecoder(PyramidHead):
    """Reassembles maps into a pyramid, and fuses it from deep to shallow by residual blocks.

    After Ranftl et al. 2021 (https://arxiv.org/abs/2103.13413), whose fusion blocks end with a
    1×1 convolution of the doubled map; here it stands before the doubling, which gives the same
    in a quarter of the time.

    Args:
        backbone_channels: The backbone's schedule; plain channels mean strides 4, 8, 16, 32.
        output_channels: Channels of the logits.
        channels: Width.
        dropout: Share of values dropped before the classifier.

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
        self.reassemble = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(given, channels, 1),
                _resample(channels, step),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            )
            for given, step in zip(self.channels, self.steps, strict=True)
        )
        self.fusions = nn.ModuleList(_Fusion(channels) for _ in self.channels)
        self.head = nn.Sequential(
            ConvNormAct(channels, channels, 3),
            nn.Dropout(dropout),
            nn.Conv2d(channels, output_channels, 1),
        )
        self._ends_doubled = self.strides[0] > 2

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Give logits of twice the finest level's resolution, or of stride 2."""
        *shallow, deepest = [layer(x) for layer, x in zip(self.reassemble, maps, strict=True)]
        x = self.fusions[-1](deepest, None)
        for fusion, level in zip(self.fusions[-2::-1], shallow[::-1], strict=True):
            x = fusion(level, resized(x, level.shape[-2:]))
        if self._ends_doubled:
            x = doubled(x)
        logits: Tensor = self.head(x)
        return logits


class _Residual(nn.Module):
    """Two 3×3 convolutions beside the identity, each with a ReLU before it and a norm after."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),  # not in place: the identity needs its input
            ConvNormAct(channels, channels, 3),
            ConvNormAct(channels, channels, 3, activation_layer=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give ``[B, C, H, W]`` for the same."""
        refined: Tensor = x + self.layers(x)
        return refined


class _Fusion(nn.Module):
    """Adds a level to what came of the deeper ones."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.level = _Residual(channels)
        self.refine = _Residual(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, level: Tensor, deeper: Tensor | None) -> Tensor:
        """Give ``[B, C, H, W]`` for one or two of the same."""
        x = self.level(level)
        fused: Tensor = self.project(self.refine(x if deeper is None else x + deeper))
        return fused


def _resample(channels: int, step: int) -> nn.Module:
    """Give a learned layer that doubles or halves the resolution ``abs(step)`` times."""
    if step > 0:
        return nn.ConvTranspose2d(channels, channels, 2**step, stride=2**step)
    return nn.Sequential(
        *[nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(-step)]
    )
