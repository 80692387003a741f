"""Seeing the attention of a model while it runs, without a change to it."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType, FunctionType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo_attention_maps.tracing import Node, Tracer, words

_PRODUCTS: Final = frozenset({"matmul", "__matmul__", "bmm"})
_KEEPING: Final = words(
    "dropout dropout_ to type_as float half bfloat16 double contiguous clone view reshape permute "
    "transpose swapaxes flatten unflatten squeeze unsqueeze expand __getitem__ nan_to_num T mT"
)
_CHANGING: Final = words(
    "add sub mul div __add__ __radd__ __sub__ __mul__ __rmul__ __truediv__ add_ mul_ div_ sub_ "
    "__iadd__ __imul__ __itruediv__ linear conv2d batch_norm layer_norm"
)
_FOLLOWED: Final = _KEEPING | _CHANGING
_MAP_MAKERS: Final = frozenset({"conv1d", "conv2d", "avg_pool2d", "max_pool2d"})

# The function that hands itself to modes before it calls what is looked for: the same code
# without that first step.
_MULTI_HEAD: Final = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.multi_head_attention_forward.__globals__, "has_torch_function": lambda _: False},
    "multi_head_attention_forward",
    F.multi_head_attention_forward.__defaults__,
)


@dataclass(eq=False, kw_only=True)
class Seen:
    """One use of attention in one run.

    Attributes:
        name: The module that used it.
        values: How the values that it weighs came about.
        shape: Of the weights, ``[…, queries, keys]``.
        weights: The weights, where the model has made them itself.
        query: Else what they are made from: queries, keys, …
        key: … ``[…, keys, D]`` …
        mask: … what is added to the scores, or which of them count …
        causal: … whether keys after the query count not …
        scale: … and the scores' factor.
        value: What the weights were multiplied with, where a gradient is wanted.
        gradient: The score's gradient at the weights or, if there are only queries and keys, at
            what was made of the values.
    """

    name: str
    values: Node
    shape: tuple[int, ...]
    weights: Tensor | None = None
    query: Tensor | None = None
    key: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = False
    scale: float = 1.0
    value: Tensor | None = None
    gradient: Tensor | None = None


@dataclass(eq=False)
class _Soft:
    """A softmax on its way to the values.

    Attributes:
        result: What the softmax gave.
        changed: Whether it was calculated with since.
        flipped: Whether queries and keys have changed places.
        seen: What was recorded of it, shared by all that was made of it.
    """

    result: Tensor
    changed: bool = False
    flipped: bool = False
    seen: list[Seen] = field(default_factory=list)


class Capture(TorchFunctionMode):
    """Records the attention of whatever part of a model this thread runs within it.

    It sees the fused function, ``nn.MultiheadAttention``, which takes no shortcut meanwhile, and
    softmaxes that end up in a product with values. The model is neither changed nor hooked, and
    gives what it gives otherwise.

    Args:
        model: The model.
        gradients: Whether gradients are recorded too, when somebody takes a gradient of what the
            model gives.
        copied: Whether queries and keys are copied, which is needed if the model writes over them.

    Attributes:
        seen: What was recorded, in the order of the calls.
        grids: Height and width of the maps that the model made.
    """

    def __init__(self, model: nn.Module, *, gradients: bool = False, copied: bool = False) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self.grids: list[tuple[int, int]] = []
        self._names: dict[int, str] = {
            id(module): name.replace("_orig_mod.", "") for name, module in model.named_modules()
        }
        self._names[id(model)] = type(model).__name__
        self._gradients = gradients
        self._copied = copied
        self._tracer = Tracer()
        self._soft: dict[int, tuple[weakref.ref[Tensor], _Soft]] = {}
        self._versions: list[tuple[Tensor, int]] = []
        self._own = {
            tensor.untyped_storage().data_ptr()
            for tensor in (*model.parameters(), *model.buffers())
            if not tensor.is_meta
        }
        self._closed = False

    @property
    def overwritten(self) -> bool:
        """Whether the model wrote over something that was kept."""
        return any(tensor._version != version for tensor, version in self._versions)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, and see whether it is attention or on the way to it."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            if name not in ("T", "mT"):
                return func(*args, **kwargs)
        if self._closed:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return _MULTI_HEAD(*args, **kwargs)
        result = func(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            self._see_fused(result, *args, **kwargs)
            self._tracer.begin(result, "product")
        elif name in ("softmax", "_safe_softmax"):
            self._see_softmax(args, kwargs, result)
        elif name in _PRODUCTS:
            if len(args) > 1:
                self._see_product(args[0], args[1])
            self._tracer.begin(result, "product")
        elif name == "einsum":
            self._see_einsum(args)
            self._tracer.begin(result, "product")
        else:
            self._tracer.follow(name, func, args, kwargs, result)
            if self._soft:
                self._follow_soft(name, args, kwargs, result)
            if name in _MAP_MAKERS and isinstance(result, Tensor) and result.ndim == 4:
                self.grids.append((result.shape[2], result.shape[3]))
        return result

    def _see_fused(
        self,
        result: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        del dropout_p, enable_gqa
        seen = Seen(
            name=self._caller(),
            values=self._tracer.node(value),
            shape=(*query.shape[:-1], key.shape[-2]),
            query=self._kept(query),
            key=self._kept(key),
            mask=None if attn_mask is None else self._kept(attn_mask),
            causal=is_causal,
            scale=1 / math.sqrt(query.shape[-1]) if scale is None else scale,
        )
        if self._gradients and result.requires_grad:
            seen.value = self._kept(value)
            result.register_hook(self._keeper(seen))  # type: ignore[no-untyped-call]
        self.seen.append(seen)

    def _see_softmax(self, args: Any, kwargs: Any, result: Tensor) -> None:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if result.ndim > 2 and dim in (-1, result.ndim - 1):
            self._soft[id(result)] = weakref.ref(result), _Soft(result)

    def _soft_of(self, tensor: object) -> _Soft | None:
        entry = self._soft.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def _follow_soft(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """Follow a softmax through what is done to it before it meets the values."""
        if not isinstance(result, Tensor) or name not in _FOLLOWED:
            return
        for source in args[:2]:
            soft = self._soft_of(source)
            if soft is not None:
                flips = name in ("T", "mT") or _swaps(name, args, kwargs, result.ndim)
                known = _Soft(
                    soft.result, soft.changed or name in _CHANGING, soft.flipped != flips, soft.seen
                )
                self._soft[id(result)] = weakref.ref(result), known
                return

    def _see_product(self, left: Any, right: Any) -> None:
        """See a product of which one side may be attention."""
        soft = self._soft_of(left)
        if soft is not None and not soft.flipped:
            self._see_weights(soft, left, left, right, self._tracer.node(right))
            return
        soft = self._soft_of(right)
        if soft is not None and soft.flipped:
            node = self._tracer.node(left)
            self._see_weights(soft, right, right.mT, left.mT, _permuted(node, _mirrored(left.ndim)))

    def _see_einsum(self, args: Any) -> None:
        operands = args[1:]
        if len(operands) == 1 and isinstance(operands[0], list | tuple):
            operands = tuple(operands[0])
        if len(operands) != 2 or not isinstance(args[0], str) or "." in args[0]:
            return
        letters = args[0].replace(" ", "").split("->")[0].split(",")
        for this, other in ((0, 1), (1, 0)):
            soft = self._soft_of(operands[this])
            mine, theirs = letters[this], letters[other]
            if soft is None or soft.flipped or mine[-1] not in theirs:
                continue
            lead = [letter for letter in mine[:-2] if letter in theirs]
            rest = [letter for letter in theirs if letter not in lead and letter != mine[-1]]
            if lead != list(mine[:-2]) or len(rest) != 1:
                continue
            order = [theirs.index(letter) for letter in (*lead, mine[-1], *rest)]
            value = operands[other]
            node = _permuted(self._tracer.node(value), order)
            self._see_weights(soft, operands[this], operands[this], value.permute(order), node)

    def _see_weights(
        self, soft: _Soft, fed: Tensor, weights: Tensor, value: Tensor, values: Node
    ) -> None:
        """Record a softmax that meets values.

        Where heads are mixed in between, what the softmax gave is recorded, unless the mixture's
        rows sum to one too.
        """
        if soft.seen or value.shape[-2] != weights.shape[-1]:
            return
        kept, source = weights, fed
        same = soft.result.shape == weights.shape and not soft.flipped
        if same and not (soft.changed and _is_stochastic(weights)):
            kept = source = soft.result
        seen = Seen(
            name=self._caller(),
            values=values,
            shape=tuple(kept.shape),
            weights=self._kept(kept),
        )
        if self._gradients and source.requires_grad:
            keep = self._keeper(seen)
            flipped = source is not kept
            source.register_hook(lambda g: keep(g.mT if flipped else g))  # type: ignore[no-untyped-call]
        soft.seen.append(seen)
        self.seen.append(seen)

    def _keeper(self, seen: Seen) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            self._closed = True  # what a checkpoint runs again is no further attention
            seen.gradient = gradient.detach().clone()

        return keep

    def _kept(self, tensor: Tensor) -> Tensor:
        kept = tensor.detach()
        storage = kept.untyped_storage()
        is_part = storage.nbytes() > kept.nbytes  # which would keep the values too
        if self._copied or is_part or storage.data_ptr() in self._own:
            return kept.clone()
        self._versions.append((kept, kept._version))
        return kept

    def _caller(self) -> str:
        """Give the name of the module whose code is running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if code.co_argcount:
                first = frame.f_locals.get(code.co_varnames[0])
                if isinstance(first, nn.Module) and id(first) in self._names:
                    return self._names[id(first)]
            frame = frame.f_back
        return "attention"


def _is_stochastic(weights: Tensor) -> bool:
    sums = weights.detach().float().sum(-1)
    return bool(((sums - 1).abs() < 1e-3).all())


def _swaps(name: str, args: Any, kwargs: Mapping[str, Any], ndim: int) -> bool:
    """Tell whether the last two dimensions change places."""
    numbers = [*args[1:], *kwargs.values()]
    if len(numbers) == 1 and isinstance(numbers[0], list | tuple):
        numbers = list(numbers[0])
    if name in ("transpose", "swapaxes"):
        return {number % ndim for number in numbers} == {ndim - 1, ndim - 2}
    if name == "permute":
        order = [number % ndim for number in numbers]
        return order[-2:] == [ndim - 1, ndim - 2]
    return False


def _mirrored(ndim: int) -> list[int]:
    return [*range(ndim - 2), ndim - 1, ndim - 2]


def _permuted(node: Node, order: list[int]) -> Node:
    shape = tuple(node.shape[axis] for axis in order)
    return Node(shape, node, lambda places: places.permute(order))


def attend(seen: Seen) -> Tensor:
    """Give the weights ``[…, queries, keys]`` of what was seen, at least float32."""
    if seen.weights is not None:
        return precise(seen.weights)
    assert seen.query is not None
    assert seen.key is not None
    query, key = precise(seen.query), repeated(precise(seen.key), seen.query)
    scores = query * seen.scale @ key.mT
    if seen.causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    if seen.mask is None:
        return scores.softmax(-1)
    if seen.mask.dtype == torch.bool:
        scores = scores.masked_fill(~seen.mask, -torch.inf)
    else:
        scores = scores + seen.mask.to(scores.dtype)
    return scores.softmax(-1).nan_to_num(0.0)  # of a query that may look at nothing


def attend_gradient(seen: Seen) -> Tensor:
    """Give the score's gradient at the weights, zero where the score does not depend on them."""
    if seen.gradient is None:
        device = next(t.device for t in (seen.weights, seen.query) if t is not None)
        return torch.zeros(seen.shape, device=device)
    if seen.query is None:
        return precise(seen.gradient)
    assert seen.value is not None
    return precise(seen.gradient) @ repeated(precise(seen.value), seen.query).mT


def repeated(key: Tensor, query: Tensor) -> Tensor:
    """Give keys or values for each head of the queries, some of which may share them."""
    if key.ndim > 2 and query.ndim == key.ndim and key.shape[-3] not in (1, query.shape[-3]):
        return key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    return key


def precise(tensor: Tensor) -> Tensor:
    """Give a tensor in float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
