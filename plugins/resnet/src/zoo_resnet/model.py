"""ResNet as a backbone."""

from __future__ import annotations

from typing import ClassVar, Final

from torch import Tensor, nn

from zoo_core import Backbone, ChannelSchedule
from zoo_core.errors import InputError
from zoo_resnet.blocks import BasicBlock, Bottleneck, stage

_BLOCKS: Final[dict[int, tuple[type[BasicBlock | Bottleneck], list[int]]]] = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
    101: (Bottleneck, [3, 4, 23, 3]),
    152: (Bottleneck, [3, 8, 36, 3]),
}


class CNNBackbone(Backbone):
    """ResNet (He et al. 2015, https://arxiv.org/abs/1512.03385) with four maps.

    The maps have strides 4, 8, 16 and 32 and 64, 128, 256, 512 channels (depth 18 and 34) or 256,
    512, 1024, 2048 (deeper). The state dict has torchvision's names, without ``fc``.

    Args:
        depth: 18, 34, 50, 101 or 152 layers.
        pretrained: Fill it with the default weights of ``resnet<depth>`` in the registry.
        in_channels: Channels of the pictures; a pretrained first convolution is adapted.
        output_stride: Stride of the deepest map: 32, or 16 or 8, where the last one or two
            stages are dilated instead of strided (Yu et al. 2017,
            https://arxiv.org/abs/1705.09914) and keep their predecessor's size.

    Raises:
        InputError: If an argument is none of these.
        WeightsError: If pretrained weights cannot be had.
    """

    layouts: ClassVar[tuple[str, ...]] = ("timm", "torchvision")
    first_conv = "conv1"
    classifier = "fc"

    def __init__(
        self,
        depth: int = 50,
        pretrained: bool = False,
        in_channels: int = 3,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise InputError(f"depth must be one of {', '.join(map(str, _BLOCKS))}, not {depth!r}")
        if output_stride not in (8, 16, 32):
            raise InputError(f"output_stride must be 8, 16 or 32, not {output_stride!r}")
        if not isinstance(in_channels, int) or in_channels < 1:
            raise InputError(f"in_channels must be a positive whole number, not {in_channels!r}")
        if not pretrained:
            self._construct(depth, in_channels, output_stride)
            return
        from zoo_core.weights import blank, load_pretrained

        with blank():
            self._construct(depth, in_channels, output_stride)
        load_pretrained(self, f"zoo-resnet:resnet{depth}")

    def _construct(self, depth: int, in_channels: int, output_stride: int) -> None:
        block, layers = _BLOCKS[depth]
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, 64, 64, layers[0], stride=1)
        self.layer2 = stage(block, 64 * block.expansion, 128, layers[1], stride=2)
        self.layer3 = stage(block, 128 * block.expansion, 256, layers[2], stride=2)
        self.layer4 = stage(block, 256 * block.expansion, 512, layers[3], stride=2)
        nn.Linear(512 * block.expansion, 1)  # drawn, so that a seed gives torchvision's own values
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if in_channels != 3:
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        if output_stride == 8:
            _dilate(self.layer3, before=1, after=2)
            _dilate(self.layer4, before=2, after=4)
        elif output_stride == 16:
            _dilate(self.layer4, before=1, after=2)
        channels = [64 * block.expansion * 2**stage for stage in range(4)]
        strides = [min(4 * 2**stage, output_stride) for stage in range(4)]
        self._schedule = ChannelSchedule(channels, strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps of ``layer1`` to ``layer4`` for pictures ``[B, C, H, W]``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps

    def get_channel_schedule(self) -> ChannelSchedule:
        """Give channels and strides of the four maps."""
        return self._schedule


def _dilate(layer: nn.Sequential, *, before: int, after: int) -> None:
    """Take the stride from a stage and spread its 3×3 convolutions instead.

    The convolution that was strided still sees the grid of the stage before.
    """
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            strided = module.stride != (1, 1)
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                dilation = before if strided else after
                module.dilation = module.padding = (dilation, dilation)
