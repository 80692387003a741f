"""Convolutions and linear layers whose gradients pass back in bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

_Pair = int | tuple[int, ...]


def _convolution(
    input: Tensor,  # noqa: A002  # as torch calls it
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Pair = 1,
    padding: _Pair | str = 0,
    dilation: _Pair = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv2d``; of one group, as depthwise ones would take longer so."""
    plain = input.ndim == 4 and groups == 1 and not isinstance(padding, str)
    if not (plain and _can_be_lower(input, weight)):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    output: Tensor = _Convolution.apply(input, weight, bias, stride, padding, dilation)
    return output


def _linear(
    input: Tensor,  # noqa: A002  # as torch calls it
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.linear``."""
    if not _can_be_lower(input, weight):
        return F.linear(input, weight, bias)
    output: Tensor = _Linear.apply(input, weight, bias)
    return output


LOW: Final[Mapping[Callable[..., Any], Callable[..., Any]]] = {
    F.conv2d: _convolution,
    F.linear: _linear,
}
"""Functions, and those that take their places: of their weights there is no gradient."""


def _can_be_lower(*tensors: Tensor) -> bool:
    return all(tensor.dtype == torch.float32 for tensor in tensors)


def _order(picture: Tensor) -> torch.memory_format:
    last = picture.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Tensor | None,
        stride: _Pair,
        padding: _Pair,
        dilation: _Pair,
    ) -> Tensor:
        ctx.weight = weight  # not saved for autograd, which refuses inference tensors
        ctx.shape, ctx.order = input.shape, _order(input)
        ctx.geometry = [
            [size] * 2 if isinstance(size, int) else list(size)
            for size in (stride, padding, dilation)
        ]
        return F.conv2d(input, weight, bias, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        low = gradient.bfloat16()
        # Of the input nothing is read but its shape and order, so it takes no memory either.
        values = torch.empty(ctx.shape, dtype=low.dtype, device=low.device, memory_format=ctx.order)
        found, _, _ = torch.ops.aten.convolution_backward(
            low, values, ctx.weight.to(low.dtype), None, *ctx.geometry, False, [0, 0], 1,
            [True, False, False],
        )  # fmt: skip
        return found.to(gradient.dtype), None, None, None, None, None


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
