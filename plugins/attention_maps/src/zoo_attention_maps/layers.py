"""The attention of one layer, calculated when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Final

import torch
from torch import Tensor

from zoo_attention_maps.capture import Seen, attend, attend_gradient
from zoo_attention_maps.tracing import Places, places_of, token_grid
from zoo_core.errors import InputError

HEADS: Final = ("mean", "max", "min", "none")


@dataclass(frozen=True)
class Run:
    """One run of some pictures, in which attention was seen.

    Attributes:
        seen: All uses of attention.
        batch: How many pictures there were.
        size: Their height and width.
        grids: Height and width of the maps that the model made.
    """

    seen: Sequence[Seen]
    batch: int
    size: tuple[int, int]
    grids: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class _Arrangement:
    """Where pictures, windows and heads are in the leading dimensions of weights.

    Attributes:
        order: Brings them, flattened, into the order of pictures, windows, heads; ``None`` where
            they have it.
        windows: How many windows a picture has.
        heads: How many heads there are.
        channels: Whether keys are channels.
        places: ``[windows, keys]``, the token of the picture that each key is, -1 for padding;
            ``None`` if that is not known.
        tokens: How many tokens the picture has.
        grid: Height and width of the map that they are; ``None`` if that is not known.
        prefix: How many stand before those of the places.
    """

    order: Tensor | None
    windows: int
    heads: int
    channels: bool = False
    places: Tensor | None = None
    tokens: int = 0
    grid: tuple[int, int] | None = None
    prefix: int = 0


class AttentionLayer:
    """What one layer attends to; weights are calculated each time they are asked for.

    Attributes:
        name: The layer's dotted name; of its second use in one run, with ``#2`` behind it.
    """

    def __init__(self, name: str, parts: Sequence[tuple[Seen, Run]]) -> None:
        self.name = name
        self._parts = parts
        self._arranged: dict[int, _Arrangement] = {}

    def __repr__(self) -> str:
        return f"AttentionLayer({self.name!r}, {self.kind}, heads={self.heads}, grid={self.grid})"

    @property
    def kind(self) -> str:
        """What attends to what.

        ``token``: each token of a picture to all of them. ``window``: to those of its window.
        ``channel``: channels to channels. ``pooled``: queries to keys that are others than they,
        those of a coarser map or, where few queries gather a picture, all of it.
        """
        arranged, (queries, keys) = self._first, self._parts[0][0].shape[-2:]
        if arranged.channels:
            return "channel"
        if arranged.windows > 1:
            return "window"
        return "token" if queries == keys else "pooled"

    @property
    def heads(self) -> int:
        """How many heads the layer has."""
        return self._first.heads

    @property
    def grid(self) -> tuple[int, int] | None:
        """Height and width of the map whose places the keys are; ``None`` if they are none."""
        return self._first.grid

    @property
    def prefix(self) -> int:
        """How many keys that stand for no place, such as class tokens, come before the places."""
        return self._first.prefix

    @property
    def tokens(self) -> int:
        """How many tokens a picture has, those that stand for no place included."""
        return self._first.tokens

    @property
    def placed(self) -> bool:
        """Whether windows are put where they are among the picture's tokens."""
        queries, keys = self._parts[0][0].shape[-2:]
        return self._first.places is not None and queries == keys

    @property
    def has_gradient(self) -> bool:
        """Whether the score depends on the weights, and its gradient was taken."""
        return any(seen.gradient is not None for seen, _ in self._parts)

    def weights(self, heads: str | None = "mean", *, normalize: bool = True) -> Tensor:
        """Give the weights ``[B, queries, keys]``, or ``[B, heads, queries, keys]``.

        Windows are put in place: tokens are those of the whole map, and the weight between tokens
        of different windows is zero. Where their places are not known, the queries are those of
        all windows in turn, and the keys those of one.

        Args:
            heads: What is made of the heads: their ``"mean"``, ``"max"`` or ``"min"``; ``"none"``
                or ``None`` keeps them.
            normalize: Make rows sum to one that do not after that, or because a window's padding
                is left out.

        Raises:
            InputError: If there is no such way.
        """
        return self.values(attend, heads, normalize=normalize)

    def gradient(self, heads: str | None = "mean") -> Tensor:
        """Give the score's gradient at the weights, in the form of :meth:`weights`."""
        return self.values(attend_gradient, heads, normalize=False)

    def windows(self, heads: str | None = "mean") -> Tensor:
        """Give the weights ``[B, windows, queries, keys]`` of each window by itself.

        With heads they are ``[B, windows, heads, queries, keys]``. A layer without windows has
        one.
        """
        check_heads(heads)
        with _exactly():
            return torch.cat(
                [_merged(self._split(seen, run, attend(seen)), heads) for seen, run in self._parts]
            )

    def values(self, of: Callable[[Seen], Tensor], heads: str | None, *, normalize: bool) -> Tensor:
        """Give what a function makes of what was seen, in the form of :meth:`weights`."""
        check_heads(heads)
        parts = []
        with _exactly():
            for seen, run in self._parts:
                apart = _merged(self._split(seen, run, of(seen)), heads)
                part = self._put_in_place(apart, self._arrangement(seen, run))
                if normalize:
                    sums = part.sum(-1, keepdim=True)
                    part = part / torch.where(sums == 0, 1, sums)
                parts.append(part)
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _split(self, seen: Seen, run: Run, values: Tensor) -> Tensor:
        """Give values ``[B, windows, heads, queries, keys]``."""
        arranged = self._arrangement(seen, run)
        flat = values.reshape(-1, *values.shape[-2:])
        if arranged.order is not None:
            flat = flat[arranged.order.to(flat.device)]
        return flat.reshape(-1, arranged.windows, arranged.heads, *flat.shape[-2:])

    def _put_in_place(self, apart: Tensor, arranged: _Arrangement) -> Tensor:
        """Give ``[B, …, tokens, tokens]`` of ``[B, windows, …, queries, keys]``."""
        apart = apart.movedim(1, -3)
        queries, keys = apart.shape[-2:]
        if arranged.windows == 1:
            return apart.squeeze(-3)
        if arranged.places is None or queries != keys:
            return apart.flatten(-3, -2)
        places, tokens = arranged.places.to(apart.device), arranged.tokens
        # What is padding goes to one token more, which is left out.
        places = torch.where(places < 0, tokens, places).long()
        whole = apart.new_zeros(*apart.shape[:-3], tokens + 1, tokens + 1)
        whole[..., places[:, :, None], places[:, None, :]] = apart
        return whole[..., :tokens, :tokens]

    @cached_property
    def _first(self) -> _Arrangement:
        return self._arrangement(*self._parts[0])

    def _arrangement(self, seen: Seen, run: Run) -> _Arrangement:
        if run.batch not in self._arranged:
            with _exactly():
                self._arranged[run.batch] = _arrange(seen, run)
        return self._arranged[run.batch]


def layers_of(runs: Sequence[Run]) -> dict[str, AttentionLayer]:
    """Give the layers by name, in the order in which they were called."""
    layers: dict[str, AttentionLayer] = {}
    counts: dict[str, int] = {}
    for uses in zip(*(run.seen for run in runs), strict=True):
        name = uses[0].name
        counts[name] = counts.get(name, 0) + 1
        if counts[name] > 1:
            name = f"{name}#{counts[name]}"
        layers[name] = AttentionLayer(name, list(zip(uses, runs, strict=True)))
    return layers


def check_heads(heads: object) -> None:
    """Check what is to be made of heads.

    Raises:
        InputError: If that cannot be.
    """
    if heads is not None and heads not in HEADS:
        raise InputError(f"heads must be {', '.join(map(repr, HEADS))} or None, not {heads!r}")


def _merged(values: Tensor, heads: str | None) -> Tensor:
    """Merge the heads of ``[B, windows, heads, queries, keys]``."""
    if heads == "mean":
        return values.mean(2)
    if heads in ("max", "min"):
        return values.amax(2) if heads == "max" else values.amin(2)
    return values


@contextmanager
def _exactly() -> Iterator[None]:
    """Calculate without a graph and in full precision, whatever the caller's modes are."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _arrange(seen: Seen, run: Run) -> _Arrangement:
    """Find where pictures, windows and heads are."""
    lead, keys = seen.shape[:-2], seen.shape[-1]
    found = places_of(seen.values, run.batch, run.size, run.grids)
    arranged = None if found is None else _from_places(found, seen, run)
    if arranged is None or (found and not found.in_order and lead[0] == run.batch):
        arranged = _from_shape(lead, run)
    if arranged.windows > 1 or arranged.channels:
        return arranged
    grid, prefix = token_grid(keys, run.size, run.grids)
    if found is not None and found.in_order and found.grid is None:
        grid, prefix = None, 0  # tokens of a map, in an order that is not known
    return replace(arranged, tokens=keys, grid=grid, prefix=prefix)


def _from_places(found: Places, seen: Seen, run: Run) -> _Arrangement | None:
    """Tell windows, and channels from tokens, by the places that the values stand for."""
    *lead, _, keys = seen.shape
    index = found.index
    if index.shape[-2] != keys:
        return None
    along_keys = bool((index != index[..., :1, :]).any())
    along_values = bool((index != index[..., :1]).any())
    if along_keys and along_values:
        return None
    channels = along_values
    places = index[..., 0, :] if channels else index[..., 0]
    if list(places.shape[:-1]) != lead:
        if places.ndim < 2 or places.ndim != len(lead) + 1 or lead[-1] % places.shape[-2]:
            return None
        places = places.repeat_interleave(lead[-1] // places.shape[-2], -2)
        if list(places.shape[:-1]) != lead:
            return None
    flat = places.reshape(prod(lead), -1)
    groups, group_of = flat.unique(  # type: ignore[no-untyped-call]
        dim=0, return_inverse=True
    )
    heads, rest = divmod(len(flat), len(groups))
    if rest or len(groups) % run.batch or bool((group_of.bincount() != heads).any()):
        return None
    windows = len(groups) // run.batch
    order = group_of.argsort(stable=True).reshape(-1, heads)
    # Windows in the order in which they come, of one picture after another.
    by_picture = ((groups.amax(1) // found.tokens).long() * len(flat) + order[:, 0]).argsort()
    groups, order = groups[by_picture], order[by_picture].flatten()
    straight = bool((order == torch.arange(len(flat))).all())
    kept = None if straight else order
    if channels or windows == 1:
        return _Arrangement(kept, windows, heads, channels)
    groups = groups.reshape(run.batch, windows, -1)
    begin = torch.arange(run.batch)[:, None, None] * found.tokens
    inside = torch.where(groups < 0, -1, groups - begin)
    here = inside[0]
    known = here[here >= 0]
    fits = bool((inside == here).all()) and len(set(known.tolist())) == len(known)
    fits = fits and bool((known < found.tokens).all())
    if not fits:
        return _Arrangement(kept, windows, heads)
    return _Arrangement(kept, windows, heads, False, here, found.tokens, found.grid, found.prefix)


def _from_shape(lead: Sequence[int], run: Run) -> _Arrangement:
    """Tell pictures and heads by the numbers alone."""
    if lead[0] != run.batch and len(lead) > 1 and lead[0] % run.batch == 0:
        return _Arrangement(None, lead[0] // run.batch, prod(lead[1:]))
    return _Arrangement(None, 1, prod(lead) // run.batch)
