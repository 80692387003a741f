"""Models without data: constructed without initial values, run for their shapes only.

On the meta device, torch works out what its commonest functions give in Python, which takes up to
a millisecond a call, and for some imports its compiler first, which takes as long as importing
torch. Here it is told at a glance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def on_meta() -> Iterator[None]:
    """Construct and run models on the meta device, quickly and without a warning."""
    with torch.device("meta"), ShapesOnly(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class ShapesOnly(TorchFunctionMode):
    """Spare tensors on the meta device what makes no difference to them.

    They are not filled, and of some functions the result is given without running them. All
    others, tensors elsewhere, and arguments that do not fit are left to torch.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Give what a function gives."""
        kwargs = kwargs or {}
        shortcut = _SHORTCUTS.get(func)
        result = _tried(shortcut, args, kwargs) if shortcut else None
        return func(*args, **kwargs) if result is None else result


def _tried(
    shortcut: Callable[..., Tensor | None], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tensor | None:
    try:
        with torch._C.DisableTorchFunction():  # Else each look at a shape passes by other modes.
            return shortcut(*args, **kwargs)
    except Exception:  # Odd arguments, which torch takes or says what is wrong with.
        return None


def _is_plain(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_meta and x.is_floating_point()


def _like(x: Tensor) -> Tensor:
    # Of a meta tensor, the general function is a slow one itself.
    if x.is_contiguous():
        return x.new_empty(x.shape)
    return x.new_empty_strided(x.shape, x.stride()) if _is_dense(x) else torch.empty_like(x)


def _is_dense(x: Tensor) -> bool:
    """Tell whether values lie side by side in memory, in whichever order of axes."""
    within = 1
    for stride, side in sorted(zip(x.stride(), x.shape, strict=True)):
        if side != 1 and stride != within:
            return False
        within *= side
    return True


def _fits(given: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> bool:
    return given is None or (given.shape == shape and given.dtype == dtype)


def _spreads(given: Tensor, shape: Sequence[int]) -> bool:
    """Tell whether a tensor broadcasts to a shape."""
    sides = zip(reversed(given.shape), reversed(shape), strict=False)
    return given.ndim <= len(shape) and all(side in (1, whole) for side, whole in sides)


def _common(one: Sequence[int], other: Sequence[int]) -> list[int] | None:
    """Give the shape that two shapes broadcast to, if they do."""
    pairs = list(zip_longest(reversed(one), reversed(other), fillvalue=1))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    return [b if a == 1 else a for a, b in reversed(pairs)]


def _filled(tensor: Tensor, *values: Any, **options: Any) -> Tensor | None:
    if any(isinstance(value, Tensor) for value in (*values, *options.values())):
        return None
    return tensor if _is_plain(tensor) else None


def _changed(x: Tensor, y: Any, **options: Any) -> Tensor | None:
    if not _is_plain(x) or 0 in x.stride() or options:
        return None
    if isinstance(y, Tensor):
        return x if y.is_meta and y.dtype == x.dtype and _spreads(y, x.shape) else None
    return x if isinstance(y, int | float) else None


def _gelu(x: Tensor, approximate: str = "none") -> Tensor | None:
    return _like(x) if _is_plain(x) else None


def _rolled(x: Tensor, *_: Any, **options: Any) -> Tensor | None:
    return x.new_empty(x.shape) if _is_plain(x) else None


def _pairwise(x: Any, y: Any, **options: Any) -> Tensor | None:
    if options or not isinstance(x, Tensor) or not x.is_meta or x.dtype == torch.bool:
        return None
    if isinstance(y, int | float):
        return _like(x) if x.is_floating_point() else None
    if not isinstance(y, Tensor) or not y.is_meta or y.dtype != x.dtype:
        return None
    if x.is_contiguous() and y.is_contiguous():
        shape = _common(x.shape, y.shape)
        return None if shape is None else x.new_empty(shape)
    if y.shape == x.shape and y.stride() == x.stride():
        return _like(x)
    # Where the first has no order of its own, the second one's is taken.
    return _like(x) if _spreads(y, x.shape) and 0 not in x.stride() else None


def _compared(x: Any, y: Any) -> Tensor | None:
    simple = _is_plain(x) and x.is_contiguous() and isinstance(y, int | float)
    return x.new_empty(x.shape, dtype=torch.bool) if simple else None


def _masked(x: Tensor, mask: Tensor, value: Any) -> Tensor | None:
    simple = _is_plain(x) and x.is_contiguous() and isinstance(value, int | float)
    if simple and mask.is_meta and mask.dtype == torch.bool and _spreads(mask, x.shape):
        return x.new_empty(x.shape)
    return None


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    shape = tuple(normalized_shape)
    if not _is_plain(x) or x.shape[-len(shape) :] != shape:
        return None
    given = (weight, bias)
    return x.new_empty(x.shape) if all(_fits(one, shape, x.dtype) for one in given) else None


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None or not _is_plain(x) or x.ndim < 2:
        return None
    given = (running_mean, running_var, weight, bias)
    return _like(x) if all(_fits(one, x.shape[1:2], x.dtype) for one in given) else None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if not _is_plain(x) or x.ndim < 2 or weight.dtype != x.dtype or weight.ndim != 2:
        return None
    width, depth = weight.shape
    if x.shape[-1] != depth or not _fits(bias, (width,), x.dtype):
        return None
    return x.new_empty(*x.shape[:-1], width)


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    simple = _is_plain(x) and x.ndim == weight.ndim == 4 and weight.dtype == x.dtype
    if not simple or not x.is_contiguous() or not weight.is_contiguous():
        return None
    out, depth, *kernel = weight.shape
    if isinstance(padding, str) or x.shape[1] != depth * groups or out % groups:
        return None
    if not _fits(bias, (out,), x.dtype):
        return None
    sides = _slid(x.shape[2:], kernel, stride, padding, dilation)
    return None if sides is None else x.new_empty(len(x), out, *sides)


def _slid(
    shape: Sequence[int],
    kernel: int | Sequence[int],
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
) -> list[int] | None:
    """Give the sides of what a window gives that slides over an image, if there is such a way."""
    pairs = [(one, one) if isinstance(one, int) else one for one in (kernel, stride, dilation)]
    edges = (padding, padding) if isinstance(padding, int) else padding
    if min(edges) < 0 or any(min(pair) < 1 for pair in pairs):
        return None
    sides = [
        (side + 2 * edge - apart * (taps - 1) - 1) // step + 1
        for side, edge, taps, step, apart in zip(shape, edges, *pairs, strict=True)
    ]
    return sides if min(sides) > 0 else None


def _pooled(
    x: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    if not _is_plain(x) or x.ndim != 4 or not x.is_contiguous() or ceil_mode or return_indices:
        return None
    kernel = [kernel_size] * 2 if isinstance(kernel_size, int) else kernel_size
    edges = [padding] * 2 if isinstance(padding, int) else padding
    if 0 in x.shape or any(2 * edge > taps for edge, taps in zip(edges, kernel, strict=True)):
        return None
    sides = _slid(x.shape[2:], kernel, kernel if stride is None else stride, edges, dilation)
    return None if sides is None else x.new_empty(*x.shape[:2], *sides)


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    # Of four axes, the result takes over an order in memory that all have.
    if not all(_is_plain(x) and (x.is_contiguous() or x.ndim < 4) for x in tensors):
        return None
    axis = range(first.ndim)[dim]
    shapes = [[*x.shape[:axis], *x.shape[axis + 1 :]] for x in tensors]
    same = all(
        x.dtype == first.dtype and shape == shapes[0]
        for x, shape in zip(tensors, shapes, strict=True)
    )
    if not same or any(0 in x.shape for x in tensors):
        return None
    sides = list(first.shape)
    sides[axis] = sum(x.shape[axis] for x in tensors)
    return first.new_empty(sides)


def _averaged(x: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor | None:
    if not _is_plain(x):
        return None
    dims = {range(x.ndim)[one] for one in ([dim] if isinstance(dim, int) else dim)}
    if not dims or (isinstance(dim, Sequence) and len(dims) < len(dim)):
        return None
    sides = [1 if i in dims else side for i, side in enumerate(x.shape) if keepdim or i not in dims]
    return x.new_empty(sides)


def _interpolated(
    x: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor | None:
    simple = _is_plain(x) and x.ndim == 4 and 0 not in x.shape
    orders = (torch.contiguous_format, torch.channels_last)
    order = next((one for one in orders if simple and x.is_contiguous(memory_format=one)), None)
    if order is None or size is None or scale_factor is not None or recompute_scale_factor:
        return None
    if mode not in ("bilinear", "bicubic") or (antialias and align_corners):
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        return None
    made = x.new_empty(*x.shape[:2], height, width)
    return made if order is orders[0] else torch.empty_like(made, memory_format=order)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    if is_causal or enable_gqa or not _is_plain(query) or query.ndim < 3:
        return None
    *batch, length, depth = query.shape
    others = key.shape[-2]
    if not _fits(key, (*batch, others, depth), query.dtype):
        return None
    if not _fits(value, (*batch, others, value.shape[-1]), query.dtype):
        return None
    if attn_mask is not None and not (
        attn_mask.dtype in (torch.bool, query.dtype)
        and _spreads(attn_mask, (*batch, length, others))
    ):
        return None
    return query.new_empty(*batch, length, value.shape[-1])


# What each gives if that is plain to see, else None.
_SHORTCUTS: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    **dict.fromkeys(
        (nn.init.constant_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_), _filled
    ),
    **dict.fromkeys((Tensor.fill_, Tensor.zero_, Tensor.normal_, Tensor.uniform_), _filled),
    **dict.fromkeys((Tensor.clamp_, Tensor.erfinv_), _filled),
    **dict.fromkeys((Tensor.add_, Tensor.mul_, Tensor.__iadd__, Tensor.__imul__), _changed),
    **dict.fromkeys((Tensor.add, Tensor.sub, Tensor.mul, torch.add, torch.mul), _pairwise),
    **dict.fromkeys((Tensor.__eq__, Tensor.__ne__, Tensor.eq, Tensor.ne), _compared),
    Tensor.masked_fill: _masked,
    F.gelu: _gelu,
    torch.roll: _rolled,
    F.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.linear: _linear,
    F.conv2d: _convolved,
    F.max_pool2d: _pooled,
    torch.cat: _joined,
    **dict.fromkeys((Tensor.mean, torch.mean), _averaged),
    F.interpolate: _interpolated,
    F.scaled_dot_product_attention: _attention,
}
