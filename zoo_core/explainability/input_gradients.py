"""Convolutions, their norms and linear layers whose gradients go to what they read alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

_Pair = int | tuple[int, ...]

_FEW: Final = 4
"""A convolution of so many channels at most is taken to read pictures."""

_SMALL: Final = 3
"""Kernels of such a side are as fast either way."""

_LANES: Final = 16
"""A convolution to fewer channels takes more time on a CPU."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """A convolution of maps ``[B, C, H, W]``, of whose weights no gradient is taken.

    Attributes:
        weight: ``[out, in / groups, kh, kw]``.
        bias: ``[out]``.
        stride: Of height and width, as is what follows.
        padding: How many zeros there are on each side.
        dilation: The distance between what a kernel reads.
        groups: How many groups of channels there are.
        low: Whether gradients pass back in bfloat16.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    low: bool

    @classmethod
    def of(
        cls,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: _Pair = 1,
        padding: _Pair | str = 0,
        dilation: _Pair = 1,
        groups: int = 1,
        *,
        low: bool = False,
    ) -> Convolution | None:
        """Give that of ``torch.nn.functional.conv2d``'s arguments; none if the padding is named."""
        if isinstance(padding, str):
            return None
        return cls(
            weight=weight,
            bias=bias,
            stride=_pair(stride),
            padding=_pair(padding),
            dilation=_pair(dilation),
            groups=groups,
            low=low and groups == 1,  # depthwise ones would take longer so
        )

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002  # as torch calls it
        """Give what it gives."""
        output: Tensor = _Convolved.apply(input, self)
        return output

    def normed(
        self,
        input: Tensor,  # noqa: A002
        output: Tensor,
        scale: Tensor,
        shift: Tensor,
    ) -> Tensor:
        """Give ``scale * output + shift``, whose gradient goes to the input directly.

        Args:
            input: What it reads.
            output: What it gave of that.
            scale: ``[out]``.
            shift: ``[out]``.
        """
        normed: Tensor = _Normed.apply(input, output.detach(), self, scale, shift)
        return normed

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Give what it gives, and what autograd makes of that."""
        return F.conv2d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def back(
        self, gradient: Tensor, read: tuple[torch.Size, torch.memory_format], scale: Tensor | None
    ) -> Tensor:
        """Give the gradient at what it reads.

        Args:
            gradient: That at what it gives.
            read: Shape, and order in memory, of what it reads.
            scale: ``[out]``, by which the channels of the gradient are to be multiplied.
        """
        weight, dtype = self.weight, gradient.dtype
        if scale is not None:  # on the smaller of the two
            if weight.numel() < gradient.numel():
                weight = weight * scale.view(-1, 1, 1, 1)
            else:
                gradient = gradient * scale.view(-1, 1, 1)
        if self.low:
            weight, gradient = weight.bfloat16(), gradient.bfloat16()
        shape, order = read
        if self._reads_pictures and gradient.device.type == "cpu":
            return self._back_to_pictures(weight, gradient, shape).to(dtype)
        # Of what was read nothing counts but its shape and order, so it takes no memory either.
        values = torch.empty(
            shape, dtype=gradient.dtype, device=gradient.device, memory_format=order
        )
        found, _, _ = torch.ops.aten.convolution_backward(
            gradient, values, weight, None, self.stride, self.padding, self.dilation, False,
            [0, 0], self.groups, [True, False, False],
        )  # fmt: skip
        result: Tensor = found.to(dtype)
        return result

    @property
    def _reads_pictures(self) -> bool:
        """Whether it is one that vision models begin with: of few channels, in wide steps."""
        step, other = self.stride
        return (
            self.weight.shape[1] <= _FEW
            and self.groups == 1
            and self.dilation == (1, 1)
            and 1 < step == other
            and min(self.weight.shape[2:]) > _SMALL
        )

    def _back_to_pictures(self, weight: Tensor, gradient: Tensor, shape: torch.Size) -> Tensor:
        """Give the gradient by a convolution of the given one: torch takes thrice as long.

        Places that are a step apart are read by the same weights: of each such set of places the
        gradient is a convolution, and all of them are one of more channels.
        """
        step = self.stride[0]
        reach = [-(-size // step) for size in weight.shape[2:]]
        missing = [many * step - size for many, size in zip(reach, weight.shape[2:], strict=True)]
        parts = F.pad(weight, (0, missing[1], 0, missing[0]))
        parts = parts.reshape(*parts.shape[:2], reach[0], step, reach[1], step)
        parts = parts.permute(1, 3, 5, 0, 2, 4).flatten(0, 2).flip(2, 3)
        count = len(parts)
        parts = F.pad(parts, (0, 0, 0, 0, 0, 0, 0, -count % _LANES))
        parts = parts.contiguous(memory_format=torch.channels_last)
        found = F.conv2d(gradient, parts, padding=[many - 1 for many in reach])[:, :count]
        found = F.pixel_shuffle(found, step)
        top, left = self.padding
        height, width = shape[2:]
        found = found[:, :, top : top + height, left : left + width]
        # The last steps may not have reached the border.
        return F.pad(found, (0, width - found.shape[3], 0, height - found.shape[2]))


def low_linear(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.linear``, through which gradients pass back in bfloat16."""
    output: Tensor = _Linear.apply(input, weight, bias)
    return output


def _pair(size: _Pair) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    return (size[0], size[-1])


def _order(picture: Tensor) -> torch.memory_format:
    last = picture.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


# What is kept for the way back is no tensor of a graph: none has a gradient, and autograd would
# refuse those of inference mode.


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, convolution: Convolution) -> Tensor:  # noqa: A002
        ctx.convolution, ctx.read = convolution, (input.shape, _order(input))
        return convolution.forward(input)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.convolution.back(gradient, ctx.read, None), None


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,  # noqa: A002
        output: Tensor,
        convolution: Convolution,
        scale: Tensor,
        shift: Tensor,
    ) -> Tensor:
        ctx.convolution, ctx.read = convolution, (input.shape, _order(input))
        ctx.scale = scale
        return torch.addcmul(shift.view(-1, 1, 1), output, scale.view(-1, 1, 1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.convolution.back(gradient, ctx.read, ctx.scale), None, None, None, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.weight = weight
        return F.linear(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (gradient.bfloat16() @ ctx.weight.bfloat16()).to(gradient.dtype), None, None
