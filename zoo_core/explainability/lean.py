"""Running a model for gradients at its pictures alone, with no more work than they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core.explainability.low_backward import LOW
from zoo_core.folding import Folding, JointWeights, Pairs


class Lean(Folding):
    """Within it linear layers and batch norms have no gradients for their weights.

    So what they read is not kept for that, which is much of the memory of a graph. A batch norm in
    eval mode is the one multiplication and addition that it amounts to, with the same result, which
    on a CPU takes less time, too. With joint weights, a convolution does its norm's work, and
    results differ by rounding, which turns a rectifier's gradient where it was near its kink.

    Args:
        pairs: As for :class:`zoo_core.folding.Folding`.
        joint: As for it.
        low_backward: Whether gradients pass back through convolutions and linear layers in
            bfloat16, which the way there does not notice.
    """

    def __init__(
        self, pairs: Pairs, joint: JointWeights | None, *, low_backward: bool = False
    ) -> None:
        super().__init__(pairs, joint)
        self._low_backward = low_backward

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function, or its lean form."""
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if self._low_backward and func in LOW:
            return LOW[func](*args, **kwargs)
        if func is F.linear and len(args) > 1:
            args = (args[0], _without_gradient(args[1]), *args[2:])
        return func(*args, **kwargs)


def _without_gradient(weight: Tensor) -> Tensor:
    """Give a parameter without its gradient; anything else as it is."""
    owned = isinstance(weight, nn.Parameter) and not weight.is_inference()
    return weight.detach() if owned else weight


def _batch_norm(
    input: Tensor,  # noqa: A002  # as torch calls it
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    tensors = [t for t in (running_mean, running_var, weight, bias) if t is not None]
    plain = all(t.dtype == input.dtype and not t.is_inference() for t in (input, *tensors))
    fixed = not training and running_mean is not None and running_var is not None
    if not (fixed and plain and input.device.type == "cpu"):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    assert running_mean is not None
    assert running_var is not None
    with torch.no_grad():
        scale = (running_var + eps).rsqrt()
        if weight is not None:
            scale = scale * weight
        start = torch.zeros_like(scale) if bias is None else bias
        shift = torch.addcmul(start, running_mean, scale, value=-1)
    places = [1] * (input.ndim - 2)
    return torch.addcmul(shift.view(-1, *places), input, scale.view(-1, *places))
