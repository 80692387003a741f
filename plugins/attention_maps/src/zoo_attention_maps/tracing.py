"""Following the places of a picture through what a model does to its tensors."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo_core.explainability.grids import layout_of


def words(text: str) -> frozenset[str]:
    """Give the words of a text."""
    return frozenset(text.split())


_MOVES: Final = words(
    "view reshape permute transpose swapaxes swapdims movedim moveaxis flatten unflatten squeeze "
    "unsqueeze roll pad __getitem__ split chunk unbind tensor_split expand expand_as repeat "
    "repeat_interleave narrow select index_select unfold flip view_as reshape_as T mT t"
)
_SAME: Final = words(
    "contiguous clone to type_as float half bfloat16 double dropout dropout_ gelu relu silu "
    "hardswish relu_ normalize"
)
_SUMS: Final = words(
    "mul __mul__ __rmul__ mul_ div __truediv__ div_ add __add__ __radd__ add_ sub __sub__"
)
_MERGES: Final = frozenset({"max", "amax", "mean"})
_LAST: Final = frozenset({"layer_norm", "rms_norm"})
_FIRST: Final = frozenset({"batch_norm", "group_norm", "instance_norm"})
_CONVOLUTIONS: Final = frozenset({"conv1d", "conv2d"})


@dataclass(frozen=True, eq=False)
class Node:
    """How a tensor came about from one whose places are known.

    Attributes:
        shape: The tensor's.
        parent: What it was made from; ``None`` where its own places are where to begin.
        apply: Does to the parent's places what was done to the parent.
        channels: Where channels are said to be, ``"last"`` or ``"first"``.
        lost: Why its own places are none to begin with: it is a ``"product"`` of matrices, or
            places that were moved about were then ``"merged"``.
    """

    shape: tuple[int, ...]
    parent: Node | None = None
    apply: Callable[[Tensor], Any] | None = None
    channels: str | None = None
    lost: str = ""

    @cached_property
    def chain(self) -> tuple[Node, ...]:
        """This node and those before it, the first one first."""
        nodes, node = [self], self
        while node.parent is not None:
            node = node.parent
            nodes.append(node)
        return tuple(reversed(nodes))


class Tracer:
    """Remembers how tensors came about."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], Node]] = {}

    def node(self, tensor: Tensor) -> Node:
        """Give how a tensor came about; a node without parent if that is not known."""
        if self._is_known(tensor):
            return self._known[id(tensor)][1]
        return Node(tuple(tensor.shape))

    def begin(self, tensor: Tensor, lost: str = "") -> None:
        """Know that nothing that came before tells of a tensor's places."""
        self._know(tensor, Node(tuple(tensor.shape), lost=lost))

    def follow(
        self, name: str, func: Callable[..., Any], args: Any, kwargs: Any, result: Any
    ) -> None:
        """See a call that may move places."""
        source, rest, named = _split_arguments(args, kwargs)
        if source is None:
            return
        if name in _MOVES:
            self._moved(name, func, source, rest, named, result)
        elif isinstance(result, Tensor) and result is not source:
            if name in _SUMS:
                self._summed(args, result)
            elif name in _SAME:
                self._know(result, self.node(source))
            elif name == "linear" or name in _LAST:
                self._of_channels(source, result, "last")
            elif name in _FIRST or (name in _CONVOLUTIONS and source.shape[2:] == result.shape[2:]):
                self._of_channels(source, result, "first")
            elif name in _MERGES and self.node(source).parent is not None:
                self.begin(result, "merged")

    def _summed(self, args: Any, result: Tensor) -> None:
        """Take a sum's places for those of the term about which most is known."""
        terms = [one for one in args[:2] if isinstance(one, Tensor) and one.shape == result.shape]
        nodes = [self.node(one) for one in terms if self._is_known(one)]
        sure = [node for node in nodes if not node.chain[0].lost]
        if sure:
            self._know(result, min(sure, key=lambda node: len(node.chain)))
        elif nodes and len(nodes) == len(terms):
            self._know(result, nodes[0])

    def _of_channels(self, source: Tensor, result: Tensor, axis: str) -> None:
        """See a function of each place by itself that makes other channels of its channels."""
        parent, shape = self.node(source), tuple(result.shape)
        if parent.parent is None:
            self._know(result, Node(shape, channels=axis, lost=parent.lost))
            return
        spread = _spread_last(shape) if axis == "last" else _spread_first(shape)
        self._know(result, Node(shape, parent, spread, axis))

    def _moved(
        self,
        name: str,
        func: Callable[..., Any],
        source: Tensor,
        rest: Sequence[Any],
        named: dict[str, Any],
        result: Any,
    ) -> None:
        parent = self.node(source)
        # Functions of two tensors, such as view_as, take only the other one's shape.
        if name in ("view_as", "reshape_as", "expand_as"):
            shape = tuple(rest[0].shape)
            short = name.removesuffix("_as")
            call: Callable[[Tensor], Any] = lambda x: getattr(x, short)(shape)  # noqa: E731
        elif name in ("T", "mT"):
            call = lambda x: getattr(x, name)  # noqa: E731
        elif name == "view":
            call = lambda x: x.reshape(*rest, **named)  # noqa: E731
        elif name == "pad":
            call = lambda x: _padded(x, *rest, **named)  # noqa: E731
        elif func is F.unfold:
            call = lambda x: F.unfold(x.double(), *rest, **named).int()  # noqa: E731
        else:
            call = lambda x: func(x, *rest, **named)  # noqa: E731
        if isinstance(result, Tensor):
            if result is not source:
                self._know(result, Node(tuple(result.shape), parent, call))
            return
        for number, part in enumerate(result):
            self._know(part, Node(tuple(part.shape), parent, _nth(call, number)))

    def _is_known(self, tensor: Tensor) -> bool:
        entry = self._known.get(id(tensor))
        return entry is not None and entry[0]() is tensor

    def _know(self, tensor: Tensor, node: Node) -> None:
        self._known[id(tensor)] = weakref.ref(tensor), node


def _split_arguments(args: Any, kwargs: Any) -> tuple[Tensor | None, list[Any], dict[str, Any]]:
    """Give the tensor that is moved, and the other arguments."""
    rest, named = list(args), dict(kwargs)
    source = rest.pop(0) if rest else named.pop("input", None)
    return (source if isinstance(source, Tensor) else None), rest, named


def _nth(call: Callable[[Tensor], Any], number: int) -> Callable[[Tensor], Any]:
    return lambda places: call(places)[number]


def _spread_last(shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda places: places[..., :1].expand(shape)


def _spread_first(shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda places: places[:, :1].expand(shape)


def _padded(places: Tensor, pad: Sequence[int], *rest: Any, **named: Any) -> Tensor:
    """Pad with zeros, which stand for no place."""
    del rest, named
    return F.pad(places, list(pad))


@dataclass(frozen=True, eq=False)
class Places:
    """Which place of which picture each value of a tensor stands for.

    Attributes:
        index: For each value ``picture × tokens + token``, and -1 where it stands for none.
        tokens: How many tokens, or places, each picture has.
        grid: Height and width of the map that they are; ``None`` if that is not known.
        prefix: How many tokens stand before those of the places.
        in_order: Whether pictures were seen apart from windows and heads.
    """

    index: Tensor
    tokens: int
    grid: tuple[int, int] | None
    prefix: int
    in_order: bool = True


def places_of(
    node: Node, batch: int, size: tuple[int, int], grids: Sequence[tuple[int, int]]
) -> Places | None:
    """Find the places that a tensor's values stand for, by doing again what was done to it.

    Args:
        node: How it came about.
        batch: How many pictures there are.
        size: Their height and width.
        grids: Grids of maps that the model made before.
    """
    first, *steps = node.chain
    if first.lost == "product":
        return None
    index = _numbered(first, batch, size)
    for step in steps:
        if index is None:
            return None
        axis = {"last": -1, "first": 1, None: None}[step.channels]
        if axis is not None and bool((index != index.narrow(axis, 0, 1)).any()):
            # Here places are merged into channels: from now on they are others.
            first, index = step, _numbered(step, batch, size)
            continue
        assert step.apply is not None
        try:
            index = step.apply(index)
        except (RuntimeError, IndexError, TypeError):
            return None
    if index is None or index.shape != node.shape:
        return None
    axes = _axes(first, batch, size)
    assert axes is not None
    spatial = [length for axis, length in enumerate(first.shape) if axis not in axes]
    lead = first.shape[axes[0]]
    tokens = math.prod(spatial) * lead // batch
    if lead != batch or first.lost:
        return Places(index - 1, tokens, None, 0, in_order=lead == batch)
    grid, prefix = _grid(spatial, size, grids)
    return Places(index - 1, tokens, grid, prefix)


def _numbered(node: Node, batch: int, size: tuple[int, int]) -> Tensor | None:
    """Give a tensor whose values number the places of all pictures from one."""
    shape, axes = node.shape, _axes(node, batch, size)
    if axes is None or math.prod(shape) >= 2**31:
        return None
    pictures, channels = axes
    order = [pictures, *(axis for axis in range(len(shape)) if axis not in axes), channels]
    lengths = [shape[axis] for axis in order[:-1]]
    index = torch.arange(1, math.prod(lengths) + 1, dtype=torch.int32).reshape([*lengths, 1])
    return index.permute([order.index(axis) for axis in range(len(shape))]).expand(*shape)


def _axes(node: Node, batch: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Tell which dimension of a tensor is that of pictures, and which that of channels."""
    shape = node.shape
    if len(shape) < 3 or len(shape) > 5:
        return None
    if node.channels == "first":
        return (0, 1) if shape[0] % batch == 0 else None
    if len(shape) == 3 and shape[0] != batch and shape[1] == batch:
        return 1, 2
    if shape[0] % batch:
        return None
    if len(shape) == 4 and node.channels is None:
        layout = layout_of(torch.empty(shape, device="meta"), shape[0], size)
        if layout is not None and layout.order == "BCHW":
            return 0, 1
    return 0, len(shape) - 1


def _grid(
    spatial: Sequence[int], size: tuple[int, int], grids: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int] | None, int]:
    """Give the grid that places are of, if there is one, and what stands before them."""
    if len(spatial) == 1:
        return token_grid(spatial[0], size, grids)
    if len(spatial) != 2:
        return None, 0
    grid = spatial[0], spatial[1]
    skew = abs(math.log(grid[0] * size[1] / (grid[1] * size[0])))
    # Maps are padded to whole windows; what is further off is no map.
    return (grid, 0) if skew < 0.7 else (None, 0)


def token_grid(
    count: int, size: tuple[int, int], grids: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int] | None, int]:
    """Give the grid of some tokens, if there is one, and how many stand before its own."""
    layout = layout_of(torch.empty(1, count, 1, device="meta"), 1, size, grids)
    return (None, 0) if layout is None else (layout.grid, layout.prefix)
