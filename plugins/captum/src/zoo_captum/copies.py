"""Copies of models that captum may put its hooks into.

captum hooks the layers of a model, and sets attributes on them. It sees only what layers do, of
which each may be called once, and not in place. So it gets a copy with the same parameters, where
every activation, sum of maps and average over all places is a layer of its own at each call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from captum.attr._utils.custom_modules import Addition_Module
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo_core.explainability.results import NotApplicableError
from zoo_core.loader import describe

_IN_TURN: Final = (
    nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
)  # fmt: skip
"""Layers without parameters that captum has rules for."""

_RELU: Final = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_ADD: Final = (torch.add, Tensor.add, Tensor.__add__, Tensor.add_, Tensor.__iadd__)
_MEAN: Final = (torch.mean, Tensor.mean)
_SAME: Final = (
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose,
    Tensor.flatten, Tensor.reshape, Tensor.view, Tensor.squeeze, Tensor.unsqueeze, Tensor.permute,
    Tensor.transpose, Tensor.contiguous, Tensor.clone, Tensor.to, Tensor.float, Tensor.__getitem__,
    F.dropout, F.dropout2d,
)  # fmt: skip
"""Functions that give the values they are given, in eval mode."""


class Turns(nn.Module):
    """Stands for a layer, and has another copy of it at each call of one run."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.copies = nn.ModuleList([layer])
        self.calls = 0

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call the copy whose turn it is."""
        if self.calls == len(self.copies):
            self.copies.append(copy.deepcopy(self.copies[0]))
        self.calls += 1
        result: Tensor = self.copies[self.calls - 1](*inputs)
        # captum hooks what one layer gives and the next one takes, and of one tensor that is both
        # it would read the gradient before the next layer's rule has changed it.
        return result.clone()


class SplitMaxPool(nn.Module):
    """Max-pooling whose windows are laid out side by side first, so that they do not overlap."""

    def __init__(self, layer: nn.MaxPool2d) -> None:
        super().__init__()
        self.size, self.stride = _pair(layer.kernel_size), _pair(layer.stride)
        self.padding = _pair(layer.padding)
        self.pool = nn.MaxPool1d(self.size[0] * self.size[1])

    def forward(self, x: Tensor) -> Tensor:
        """Give ``[B, C, h, w]`` for ``[B, C, H, W]``."""
        down, across = self.padding
        least = torch.finfo(x.dtype).min / 4  # finite, as captum takes differences
        padded = F.pad(x, (across, across, down, down), value=least)
        windows = padded.unfold(2, self.size[0], self.stride[0])
        windows = windows.unfold(3, self.size[1], self.stride[1])
        batch, channels, height, width = windows.shape[:4]
        found: Tensor = self.pool(windows.reshape(batch, channels, -1))
        return found.reshape(batch, channels, height, width)


class HookableModel(nn.Module):
    """A copy of a model for captum; it gives what the model gives.

    Args:
        model: The model, in eval mode.
        own_parameters: Whether the parameters are copied too.
        split_pools: Whether windows of max-pooling that overlap are laid out side by side. captum's
            DeepLIFT loses what two of them give to one place.

    Attributes:
        model: The copy.
        types: The types of the layers that were called.
        functions: The names of functions that change values and are called outside of layers.

    Raises:
        NotApplicableError: If the model cannot be copied.
    """

    def __init__(
        self, model: nn.Module, *, own_parameters: bool = False, split_pools: bool = False
    ) -> None:
        super().__init__()
        self.model = _copied(model, own_parameters)
        self.relus = Turns(nn.ReLU())
        self.sums = Turns(Addition_Module())
        self.averages = Turns(nn.AdaptiveAvgPool2d(1))
        if split_pools:
            _replace(self.model, _overlaps, SplitMaxPool)
        _replace(self.model, lambda layer: type(layer) in _IN_TURN, Turns)
        self.types: set[type[nn.Module]] = set()
        self.functions: set[str] = set()
        self.depth = 0
        self.eval()
        for module in self.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # type: ignore[assignment]
            if not any(True for _ in module.children()):
                module.register_forward_pre_hook(self._entered)
                module.register_forward_hook(self._left, always_call=True)

    def forward(self, pictures: Any) -> Any:
        """Give what the model gives."""
        self.depth = 0
        for module in self.modules():
            if isinstance(module, Turns):
                module.calls = 0
        with _Functions(self):
            return self.model(pictures)

    def __deepcopy__(self, memo: Any) -> HookableModel:
        """Give itself: hooks of layers that are copied still belong to it."""
        return self

    def _entered(self, module: nn.Module, inputs: Any) -> None:
        self.types.add(type(module))
        self.depth += 1

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.depth -= 1


class _Functions(TorchFunctionMode):
    """Lets layers do what a model does by functions, and notes what they cannot."""

    def __init__(self, owner: HookableModel) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or a layer in its place."""
        kwargs = kwargs or {}
        if self.owner.depth:
            return func(*args, **kwargs)
        tensors = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
        if func in _RELU and tensors:
            return self.owner.relus(tensors[0])
        if func in _ADD and len(tensors) == len(args) == 2 and not kwargs:
            first, second = tensors
            if first.shape == second.shape and first.ndim > 1:
                return self.owner.sums(first, second)
        if func in _MEAN and _is_of_places(*args, **kwargs):
            return self.owner.averages(args[0]).flatten(1)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.is_floating_point() and func not in _SAME:
            self.owner.functions.add(getattr(func, "__name__", repr(func)).strip("_"))
        return result


def _is_of_places(input: Any = None, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> bool:  # noqa: A002
    """Tell whether a mean's arguments ask for the average of maps over all places."""
    if not isinstance(input, Tensor) or input.ndim != 4 or keepdim or kwargs:
        return False
    return isinstance(dim, list | tuple) and {axis % 4 for axis in dim} == {2, 3}


def _copied(model: nn.Module, own_parameters: bool) -> nn.Module:
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise NotApplicableError(
            f"{type(model).__name__} is a compiled program, which has no layers that captum could "
            f"hook"
        )
    shared = {} if own_parameters else {id(p): p for p in model.parameters()}
    try:
        return copy.deepcopy(model, shared)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise NotApplicableError(
            f"captum puts hooks into a model, so it gets a copy, and {type(model).__name__} cannot "
            f"be copied: {describe(error)}"
        ) from error


def _replace(
    model: nn.Module,
    chosen: Callable[[nn.Module], bool],
    new: Callable[[Any], nn.Module],
) -> None:
    """Put new layers in the place of some, one for each."""
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if chosen(child):
                if child not in made:
                    made[child] = new(child)
                parent._modules[name] = made[child]


def _overlaps(layer: nn.Module) -> bool:
    if type(layer) is not nn.MaxPool2d:
        return False
    sides = zip(_pair(layer.kernel_size), _pair(layer.stride), strict=True)
    plain = _pair(layer.dilation) == (1, 1) and not layer.ceil_mode
    return plain and any(size > stride for size, stride in sides)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
