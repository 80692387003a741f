"""Guided backpropagation, without a change to the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.results import NotApplicableError
from zoo_saliency.base import SampledAttribution


class GuidedBackprop(SampledAttribution):
    """Gradients ``[B, C, H, W]`` that flow back through ReLUs only where they are positive.

    Springenberg et al. 2014 (https://arxiv.org/abs/1412.6806). ReLU and ReLU6 count, as modules
    and as functions. It shows edges that matter to the features more than to the class (Adebayo
    et al. 2018, https://arxiv.org/abs/1810.03292). It does not apply to a model without a ReLU.
    """

    name: ClassVar[str] = "guided_backprop"

    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the gradients."""
        guided = _GuidedReLUs()
        gradients = None
        if self.chunk_size is None and not inquiry.sampling.tries:
            with guided:
                gradients = inquiry.foreign_gradient()
        if gradients is None:
            _ = inquiry.target  # with what else is planned, which is not to be guided
            with guided:
                gradients = self.added_up(
                    inquiry,
                    1,
                    lambda rows, _: inquiry.gradients(inquiry.inputs[rows], rows),
                    graph=True,
                )
        if not guided.count:
            raise NotApplicableError(f"{type(inquiry.model).__name__} has no ReLU")
        return gradients, {}


_RELUS: Final = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_IN_PLACE: Final = (torch.relu_, Tensor.relu_)


class _GuidedReLUs(TorchFunctionMode):
    """Puts guided ones in the place of the ReLUs that this thread calls, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or its guided form."""
        kwargs = kwargs or {}
        most = _limit(func, *args, **kwargs)
        if most is None:
            return func(*args, **kwargs)
        self.count += 1
        x = kwargs.get("input", args[0] if args else None)
        in_place = func in _IN_PLACE or kwargs.get("inplace", False)
        if len(args) > 1 and func in (F.relu, F.relu6):
            in_place = args[1]
        return _GuidedReLU.apply(x, most, in_place)


def _limit(func: Callable[..., Any], *args: Any, **kwargs: Any) -> float | None:
    """Give the value above which a function is flat; ``None`` if it is no ReLU."""
    if func in _RELUS:
        return torch.inf
    if func is F.relu6:
        return 6.0
    if func is F.hardtanh:  # as which ReLU6 is written as a module
        least = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        most = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        return float(most) if least == 0 else None
    return None


class _GuidedReLU(torch.autograd.Function):
    """ReLU whose gradient is that of a ReLU, without what is negative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, most: float, in_place: bool) -> Tensor:
        if most == torch.inf:
            result = torch.relu_(x) if in_place else torch.relu(x)
        else:
            result = x.clamp_(0, most) if in_place else x.clamp(0, most)
        if in_place:
            ctx.mark_dirty(x)
        ctx.most = most
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (result,) = ctx.saved_tensors
        positive = gradients[0].clamp(min=0)
        if ctx.most == torch.inf:
            return torch.ops.aten.threshold_backward(positive, result, 0), None, None
        return torch.ops.aten.hardtanh_backward(positive, result, 0, ctx.most), None, None
