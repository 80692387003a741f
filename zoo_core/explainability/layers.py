"""Finding the layer whose activations say where a model looked."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.grids import Layout, layout_of
from zoo_core.explainability.recording import recording, tensor_of
from zoo_core.explainability.results import NotApplicableError

_SAME: Final = re.compile(r"identity$|^drop|stochasticdepth|pool\w{0,3}$", re.IGNORECASE)
_ENCODERS: Final = ("backbone", "encoder", "attention", "trunk")
_FEW: Final = 8
_PLAIN: Final = (str, int, float, type(None))


@dataclass(frozen=True)
class Layer:
    """A layer of a model.

    Attributes:
        name: Its dotted name.
        module: The layer.
        layout: Where the places of the picture are in its output.
    """

    name: str
    module: nn.Module
    layout: Layout


@dataclass(frozen=True)
class _Candidate:
    layer: Layer
    output: Tensor

    @property
    def area(self) -> int:
        return self.layer.layout.grid[0] * self.layer.layout.grid[1]


def named_layer(model: nn.Module, target: nn.Module | str) -> tuple[str, nn.Module]:
    """Give the name and the module of a layer that the user chose.

    Raises:
        InputError: If the model has no such layer.
    """
    modules = dict(model.named_modules())
    if isinstance(target, nn.Module):
        for name, module in modules.items():
            if module is target:
                return name, module
        raise InputError(f"target_layer, a {type(target).__name__}, is no layer of the model")
    if not isinstance(target, str):
        raise InputError(
            f"target_layer must be a layer or its dotted name, not {type(target).__name__}"
        )
    if target in modules and target:
        return target, modules[target]
    near = get_close_matches(target, modules, 3, 0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise InputError(f"the model has no layer {target!r}{hint}")


class _Known:
    """The layers that were found in a model, as long as its modules are the same, and set so."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(weakref.ref(module), _settings(module)) for module in model.modules()]
        self.found: dict[tuple[Any, ...], tuple[str, Layout]] = {}

    def is_of(self, model: nn.Module) -> bool:
        modules = list(model.modules())
        return len(modules) == len(self._modules) and all(
            ref() is module and settings == _settings(module)
            for (ref, settings), module in zip(self._modules, modules, strict=True)
        )


def _settings(module: nn.Module) -> list[object]:
    """Give the plain values that a module is set by, such as how it pools."""
    given = vars(module).items()
    return [value for name, value in given if name != "training" and isinstance(value, _PLAIN)]


_KNOWN: weakref.WeakKeyDictionary[nn.Module, _Known] = weakref.WeakKeyDictionary()


def find_layer(
    model: nn.Module,
    target: nn.Module | str | None,
    picture: Tensor,
    task: str | None,
    run: Callable[[], tuple[str, Tensor]],
) -> Layer:
    """Give the layer for class-activation maps, the named one or the one that suits.

    Of a classifier it is the last layer before the picture's places are merged: the last map
    ``[B, C, H, W]`` or ``[B, H, W, C]``, or the last norm or block whose tokens of places the
    score depends on, which for a vision transformer with a class token is the first norm of the
    last block. For segmentation it is the last map of the lowest resolution in the encoder, as the
    maps of a decoder show the prediction rather than its reasons. What was found is remembered as
    long as the model, its modules and their settings are the same.

    Args:
        model: The model.
        target: A layer, its dotted name, or ``None``.
        picture: The one picture ``[1, C, H, W]`` that ``run`` is about.
        task: ``classification``, ``segmentation`` or ``None``.
        run: Runs the model with gradients and gives the task and its logits.

    Raises:
        InputError: If the model has no such layer.
        NotApplicableError: If no layer has a map of the picture, or the named one has none.
    """
    named = None if target is None else named_layer(model, target)
    key = (named and named[0], tuple(picture.shape), task)
    known = _KNOWN.get(model)
    if known is None or not known.is_of(model):
        known = _KNOWN[model] = _Known(model)
    if key in known.found:
        name, layout = known.found[key]
        return Layer(name, model.get_submodule(name), layout)
    watch = _Watch(picture, named)
    with recording(watch.functions(model)), torch.set_grad_enabled(named is None):
        task, logits = run()
    if named is not None:
        layer = watch.named_layer()
    else:
        candidates = _by_preference(model, watch.candidates, task)
        used = _first_used(candidates, logits)
        if used is None:
            # A head that is all zeros has no gradient anywhere, until it learns.
            return candidates[0].layer
        layer = used.layer
    known.found[key] = layer.name, layer.layout
    return layer


class _Watch:
    """Sees all layers of a model while it runs on one picture."""

    def __init__(self, picture: Tensor, named: tuple[str, nn.Module] | None) -> None:
        self.candidates: list[_Candidate] = []
        self._size = picture.shape[-2], picture.shape[-1]
        self._grids: list[tuple[int, int]] = []
        self._named = named
        self._last: tuple[Tensor | None, Layout | None] | None = None

    def functions(self, model: nn.Module) -> dict[nn.Module, Callable[[nn.Module, Any], None]]:
        """Give what is to be called with the output of each module."""
        inside: set[nn.Module] = set()
        functions: dict[nn.Module, Callable[[nn.Module, Any], None]] = {}
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # nobody sees what its layers give
            functions[module] = partial(self._see, name, bool(name) and module not in inside)
            if _is_attention(module):
                inside.update(child for child in module.modules() if child is not module)
        return functions

    def _see(self, name: str, outside: bool, module: nn.Module, output: Any) -> None:
        tensor = tensor_of(output)
        layout = None if tensor is None else layout_of(tensor, 1, self._size, self._grids)
        if self._named is not None and module is self._named[1]:
            self._last = tensor, layout
        if layout is None or tensor is None:
            return
        if layout.order in ("BCHW", "BHWC"):
            self._grids.append(layout.grid)
        direct = isinstance(output, Tensor | tuple)  # and not one of a pyramid of maps
        if self._named is None and outside and direct and _is_usable(name, module, layout, tensor):
            self.candidates.append(_Candidate(Layer(name, module, layout), tensor))

    def named_layer(self) -> Layer:
        """Give the layer that was asked for."""
        assert self._named is not None
        name, module = self._named
        if self._last is None:
            raise NotApplicableError(f"layer {name!r} is not called when the model runs")
        tensor, layout = self._last
        if layout is None:
            given = "no tensor" if tensor is None else list(tensor.shape)
            raise NotApplicableError(
                f"layer {name!r} gives {given} for one picture, which is no map of its places"
            )
        return Layer(name, module, layout)


def _is_attention(module: nn.Module) -> bool:
    kind = type(module).__name__.lower()
    named = "attention" in kind or "attn" in kind
    return named and "block" not in kind and "layer" not in kind


def _is_usable(name: str, module: nn.Module, layout: Layout, tensor: Tensor) -> bool:
    """Tell whether a layer's output is a map to explain by, and not a step on the way to one."""
    container = isinstance(module, nn.Sequential)  # its last layer gives the same
    if layout.grid[0] * layout.grid[1] < 2 or container or _SAME.search(type(module).__name__):
        return False
    if layout.order in ("BCHW", "BHWC"):
        return layout.to_map(tensor).shape[1] > 1  # a map of one channel is a gate
    has_norm = any(
        "norm" in f"{own.rpartition('.')[2]} {type(child).__name__}".lower()
        for own, child in module.named_modules(prefix=name)
        if not isinstance(child, nn.Identity)
    )
    return has_norm and not _is_attention(module)


def _by_preference(model: nn.Module, candidates: list[_Candidate], task: str) -> list[_Candidate]:
    """Give the candidates with the one to explain by first, if the scores depend on it."""
    if not candidates:
        raise NotApplicableError(f"no layer of {type(model).__name__} gives a map of the picture")
    latest_first = candidates[::-1]
    if task != "segmentation":
        return latest_first
    parts = {*_ENCODERS, getattr(model, "base_model_prefix", "")} & model._modules.keys()
    return sorted(
        latest_first, key=lambda one: (one.layer.name.partition(".")[0] not in parts, one.area)
    )


def _first_used(candidates: Sequence[_Candidate], logits: Tensor) -> _Candidate | None:
    """Give the first at whose places the scores have a gradient.

    The first few are asked for by themselves: a gradient at the last layers costs next to nothing.
    """
    for group in (candidates[:_FEW], candidates[_FEW:]):
        for candidate, gradient in zip(group, _gradients(group, logits), strict=True):
            places = None if gradient is None else candidate.layer.layout.to_map(gradient)
            if places is not None and places.count_nonzero():
                return candidate
    return None


def _gradients(candidates: Sequence[_Candidate], logits: Tensor) -> Sequence[Tensor | None]:
    """Give the gradient of all scores, each with a weight of its own, at each candidate."""
    inner = [one.output for one in candidates if one.output.requires_grad]
    if not logits.requires_grad or not inner:
        return [None] * len(candidates)
    classes = torch.arange(logits.shape[1], device=logits.device, dtype=torch.float32)
    weights = (1 + classes).mul(2.4).cos().reshape(1, -1, *[1] * (logits.ndim - 2))
    score = (logits * weights).sum()
    gradients = iter(torch.autograd.grad(score, inner, allow_unused=True, retain_graph=True))
    return [next(gradients) if one.output.requires_grad else None for one in candidates]
