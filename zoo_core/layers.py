"""Layers that backbones, attention modules and decoders are made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


class ConvNormAct(nn.Sequential):
    """A convolution that keeps the size, a norm, and an activation in place.

    Args:
        in_channels: Channels of the maps ``[B, C, H, W]`` that it takes.
        out_channels: Channels of those that it gives.
        kernel_size: Side of the kernel, odd.
        stride: By how much height and width shrink.
        groups: Groups of channels that are convolved apart.
        dilation: Distance of the kernel's values.
        norm_layer: Makes the norm for a number of channels; with ``None`` the convolution has a
            bias instead.
        activation_layer: Makes the activation; ``None`` for none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        norm_layer: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        activation_layer: Callable[..., nn.Module] | None = nn.ReLU,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels, out_channels, kernel_size, stride,
                padding=(kernel_size - 1) // 2 * dilation, dilation=dilation, groups=groups,
                bias=norm_layer is None,
            )
        ]  # fmt: skip
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer(inplace=True))
        super().__init__(*layers)
