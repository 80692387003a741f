"""Attention of all layers in few bytes: of few patches, in few levels, compressed."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt, prod, sqrt
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS: Final = 14 * 14
_FEW_QUERIES: Final = 16
_LEVELS: Final = 31
"""With fewer levels bytes compress better, and nobody sees it in single patches."""

_LARGEST: Final = 2**28
"""So many weights of one layer are read at once, 1 GB."""


@dataclass
class Packed:
    """What a page shows of attention.

    Attributes:
        layers: What there is to know of each layer, to find its bytes: for each head, the mean of
            all first, and for each query, named ones first, the weights of all cells, from 0 for
            the least to 31 for the most; and how many times the average that most is, as 16 times
            the logarithm to the base 2.
        data: All bytes, compressed, in base64.
        left_out: The layers that are not shown, with the reason.
    """

    layers: list[dict[str, Any]] = field(default_factory=list)
    data: str = ""
    left_out: dict[str, str] = field(default_factory=dict)


def packed(values: Mapping[str, Any], budget: int) -> Packed:
    """Pack the attention of one picture.

    Args:
        values: Weights ``[1, queries, keys]`` by layer, with ``layers`` that know their grids.
        budget: About how many bytes there may be, before they are compressed.
    """
    result, blocks = Packed(), []
    known = getattr(values, "layers", {})
    share = budget // max(1, len(values))
    for name in values:
        layer: Any = known.get(name)
        reason = _reason(layer)
        if reason is not None:
            result.left_out[name] = reason
            continue
        found = _pack_layer(layer, share)
        if found is None:
            result.left_out[name] = "it is too large to be shown"
            continue
        facts, weights = found
        result.layers.append({"name": name, "kind": layer.kind, **facts})
        blocks.append(weights.numpy().tobytes())
    result.data = base64.b64encode(zlib.compress(b"".join(blocks), 9)).decode()
    return result


def _reason(layer: Any) -> str | None:
    if layer is None or layer.grid is None:
        return "it is not known where in the picture its keys are"
    if layer.kind == "channel":
        return "it attends to channels, not to places"
    if layer.kind == "window" and not layer.placed:
        return "it is not known where in the picture its windows are"
    return None


def _pack_layer(layer: Any, budget: int) -> tuple[dict[str, Any], Tensor] | None:
    tokens = layer.tokens**2 if layer.kind == "window" else 0
    if tokens > _LARGEST:
        return None
    several = layer.heads > 1 and tokens * layer.heads <= _LARGEST
    weights = layer.weights("none" if several else "mean")[0].float().cpu()
    heads = torch.cat([weights.mean(0, keepdim=True), weights]) if several else weights[None]
    cells = _cells(layer.grid, len(heads), budget)
    heads = heads[..., layer.prefix : layer.prefix + prod(layer.grid)]
    heads = _pooled(heads, layer.grid, cells)
    count = heads.shape[1]
    grid = _query_grid(count, layer)
    shown = None
    if grid is not None:
        spare = layer.prefix if layer.kind != "pooled" else count - prod(grid)
        named, places = heads[:, :spare], heads[:, spare : spare + prod(grid)]
        shown = min(grid[0], cells[0]), min(grid[1], cells[1])
        patches = _pooled(places.transpose(1, 2), grid, shown).transpose(1, 2)
        names = ["class token"] if spare == 1 else [f"token {n + 1}" for n in range(spare)]
        rows = [places.mean(1, keepdim=True), named, patches]
    else:
        names = [f"query {n + 1}" for n in range(count)] if count <= _FEW_QUERIES else []
        rows = [heads.mean(1, keepdim=True), heads[:, : len(names)]]
    facts = {
        "heads": len(heads) - 1,
        "cells": list(cells),
        "queries": shown and list(shown),
        "names": ["all of the picture", *names],
    }
    return facts, _as_bytes(torch.cat(rows, 1))


def _as_bytes(rows: Tensor) -> Tensor:
    """Give rows ``[heads, queries, cells]`` as bytes, with one more for how high each one rises."""
    rows = rows.nan_to_num()
    least, most = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
    span = most - least
    flat = span <= 1e-5 * most
    shares = (rows - least) / torch.where(flat, torch.inf, span)
    times = most / rows.mean(-1, keepdim=True).clamp(min=1e-30)
    rise = (16 * times.clamp(min=1).log2()).clamp(max=255)
    return torch.cat([_LEVELS * shares, rise], -1).round().to(torch.uint8)


def _query_grid(count: int, layer: Any) -> tuple[int, int] | None:
    """Give the grid of the queries: that of the keys, or a finer one of whole times its sides."""
    height, width = layer.grid
    if layer.kind != "pooled":
        return height, width
    for spare in (0, layer.prefix):
        times = isqrt((count - spare) // (height * width))
        if times and times**2 * height * width == count - spare and count > _FEW_QUERIES:
            return times * height, times * width
    return None


def _cells(grid: tuple[int, int], heads: int, budget: int) -> tuple[int, int]:
    """Give the sides of the grid that is shown, in the proportions of the layer's own."""
    count = min(_CELLS, max(4, isqrt(budget // heads)))
    factor = min(1.0, sqrt(count / prod(grid)))
    return max(1, round(grid[0] * factor)), max(1, round(grid[1] * factor))


def _pooled(weights: Tensor, grid: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """Average the last dimension, which is a grid, over the cells of a coarser one."""
    if grid == cells:
        return weights
    maps = F.adaptive_avg_pool2d(weights.reshape(1, -1, *grid), cells)
    return maps.reshape(*weights.shape[:-1], prod(cells))
