"""Doing much work in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_PIXELS: Final = 17 * 224 * 224
"""Of so many pixels activations are kept at once on a CPU, some 1.5 GB in a ResNet-50.

Fifty copies of a picture of 224×224, the usual number, take three runs.
"""

_GPU_FACTOR: Final = 4
_NO_GRAPH_FACTOR: Final = 4


def pictures_at_once(pictures: Tensor, *, graph: bool) -> int:
    """Give how many pictures of this size to run at once, the same for batches of all sizes.

    Args:
        pictures: Pictures ``[B, C, H, W]``.
        graph: Whether activations are kept for gradients.
    """
    pixels = _PIXELS * (1 if pictures.device.type == "cpu" else _GPU_FACTOR)
    if not graph:
        pixels *= _NO_GRAPH_FACTOR
    return max(1, pixels // max(1, pictures.shape[-2] * pictures.shape[-1]))


def in_chunks(count: int, size: int, run: Callable[[slice], T]) -> Iterator[tuple[slice, T]]:
    """Run something for ``count`` items, ``size`` at once, and for fewer where memory is short.

    Yields:
        Each chunk with what ``run`` gives for it.
    """
    begin = 0
    while begin < count:
        chunk = slice(begin, min(begin + size, count))
        result = _tried(run, chunk)
        if result is None:
            size = (chunk.stop - chunk.start) // 2
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()
            continue
        yield chunk, result[0]
        begin = chunk.stop


def _tried(run: Callable[[slice], T], chunk: slice) -> tuple[T] | None:
    """Give the result, or ``None`` if memory is short and fewer items would need less."""
    try:
        return (run(chunk),)
    except (RuntimeError, MemoryError) as error:
        if chunk.stop - chunk.start == 1 or not is_out_of_memory(error):
            raise
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is short, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "not enough memory" in text or "DefaultCPUAllocator" in text
