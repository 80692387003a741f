"""Running a model for gradients at its pictures alone, with no more work than they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core.explainability.input_gradients import Convolution, low_linear
from zoo_core.explainability.running import in_checkpoint
from zoo_core.folding import Folding, JointWeights, NormCall, Pairs


@dataclass(frozen=True, eq=False)
class _Given:
    """What a convolution gave, and of what; both may be changed in place before they are read."""

    convolution: Convolution
    input: Tensor
    output: Tensor
    versions: tuple[int, int]

    @property
    def unchanged(self) -> bool:
        hooked = self.output._backward_hooks or self.output.retains_grad
        return not hooked and self.versions == (self.input._version, self.output._version)


class Lean(Folding):
    """Within it convolutions, linear layers and batch norms have no gradients for their weights.

    So what they read is not kept for that, which is much of the memory of a graph. A batch norm in
    eval mode is the one multiplication and addition that it amounts to, with the same result, and
    on the way back of a gradient the convolution before it multiplies too. With joint weights, a
    convolution does its norm's work on both ways, and results differ by rounding, which turns a
    rectifier's gradient where it was near its kink.

    What :func:`torch.utils.checkpoint.checkpoint` runs is run as it is, as it will be run again
    for its gradients.

    Args:
        pairs: As for :class:`zoo_core.folding.Folding`.
        joint: As for it.
        low_backward: Whether gradients pass back through convolutions and linear layers in
            bfloat16, which the way there does not notice.
        every_layer: Whether each layer's output is to have a gradient; otherwise it passes by what
            a convolution gives to a norm.

    Attributes:
        checkpointed: Whether something was run as it is for that reason.
    """

    def __init__(
        self,
        pairs: Pairs,
        joint: JointWeights | None,
        *,
        low_backward: bool = False,
        every_layer: bool = False,
    ) -> None:
        super().__init__(pairs, joint)
        self._low, self._every_layer = low_backward, every_layer
        self._given: _Given | None = None
        self.checkpointed = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or what takes its place."""
        if in_checkpoint():
            self.checkpointed = True
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)

    def __exit__(self, *raised: Any) -> None:
        """Add what was learnt, unless the run failed."""
        super().__exit__(*raised)
        self._given = None

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function, or its lean form."""
        if func is F.conv2d:
            return self._convolve(*args, **kwargs)
        if func is F.batch_norm:
            normed = self._normalise(NormCall.of(args, kwargs))
            return func(*args, **kwargs) if normed is None else normed
        if func is F.linear:
            return self._project(*args, **kwargs)
        return func(*args, **kwargs)

    def _convolve(
        self,
        input: Tensor,  # noqa: A002  # as torch calls it
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        low = self._low and input.dtype == torch.float32
        worth = input.ndim == 4 and (low or input.device.type == "cpu")
        self._given = convolution = None
        if worth and _gradient_stops_at(input, weight, bias):
            convolution = Convolution.of(weight, bias, *args, **kwargs, low=low)
        if convolution is None:
            return F.conv2d(input, weight, bias, *args, **kwargs)
        output = convolution(input)
        if not self._every_layer:
            self._given = _Given(convolution, input, output, (input._version, output._version))
        return output

    def _normalise(self, call: NormCall) -> Tensor | None:
        """Give what a norm gives, unless it is one of training, of mixed types or on a GPU."""
        input, mean, variance = call.input, call.mean, call.variance  # noqa: A001
        tensors = [input, *(tensor for tensor in call.tensors if tensor is not None)]
        plain = all(t.dtype == input.dtype and not t.is_inference() for t in tensors)
        if call.training or mean is None or variance is None or not plain:
            return None
        if input.device.type != "cpu":
            return None
        with torch.no_grad():
            scale = (variance + call.eps).rsqrt()
            if call.weight is not None:
                scale = scale * call.weight
            start = torch.zeros_like(scale) if call.bias is None else call.bias
            shift = torch.addcmul(start, mean, scale, value=-1)
        given, self._given = self._given, None
        if given is not None and given.output is input and given.unchanged:
            return given.convolution.normed(given.input, input, scale, shift)
        places = [1] * (input.ndim - 2)
        return torch.addcmul(shift.view(-1, *places), input, scale.view(-1, *places))

    def _project(
        self,
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        low = self._low and input.dtype == torch.float32
        if low and _gradient_stops_at(input, weight, bias):
            return low_linear(input, weight, bias)
        owned = isinstance(weight, nn.Parameter) and not weight.is_inference()
        return F.linear(input, weight.detach() if owned else weight, bias)


def _gradient_stops_at(input: Tensor, *weights: Tensor | None) -> bool:  # noqa: A002
    """Tell whether a gradient is to go to the input alone: weights may be made of pictures, too."""
    given = [weight for weight in weights if weight is not None]
    return (
        input.requires_grad
        and torch.is_grad_enabled()
        and all(weight.is_leaf and weight.dtype == input.dtype for weight in given)
        and not torch.is_autocast_enabled(input.device.type)
        and not torch._C._are_functorch_transforms_active()
    )
