"""What the stages of a ResNet are made of, with torchvision's names and strides."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut.

    Args:
        in_channels: Channels of the map ``[B, C, H, W]``.
        width: Channels of the block, and of the map that it gives.
        stride: By how much its first convolution shrinks the map.
        downsample: Makes the map that is added from the block's own; ``None`` adds that itself.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Give the map ``[B, width, H / stride, W / stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1, beside a shortcut; it is the 3×3 one that strides.

    Args:
        in_channels: Channels of the map ``[B, C, H, W]``.
        width: Channels inside; the map that it gives has four times as many.
        stride: By how much the map shrinks.
        downsample: Makes the map that is added from the block's own; ``None`` adds that itself.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Give the map ``[B, 4 * width, H / stride, W / stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


def stage(
    block: type[BasicBlock | Bottleneck], in_channels: int, width: int, count: int, stride: int
) -> nn.Sequential:
    """Give ``count`` blocks, of which the first takes the stride and the change of channels."""
    out_channels = width * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    blocks = [block(in_channels, width, stride, downsample)]
    blocks += [block(out_channels, width) for _ in range(count - 1)]
    return nn.Sequential(*blocks)
