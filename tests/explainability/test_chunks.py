"""Work in pieces that fit into memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo_core.explainability.chunks import in_chunks, is_out_of_memory, pictures_at_once


def test_pieces_shrink_until_they_fit() -> None:
    tried: list[tuple[int, int]] = []

    def run(chunk: slice) -> int:
        tried.append((chunk.start, chunk.stop))
        if chunk.stop - chunk.start > 3:
            # As large as no machine has it: torch's own refusal.
            torch.empty(2**60, dtype=torch.uint8)
        return chunk.stop

    done = list(in_chunks(10, 8, run))
    assert [(chunk.start, chunk.stop) for chunk, _ in done] == [
        (0, 2), (2, 4), (4, 6), (6, 8), (8, 10),
    ]  # fmt: skip
    assert tried[:3] == [(0, 8), (0, 4), (0, 2)]


def test_other_errors_and_single_items_raise() -> None:
    def short(chunk: slice) -> Tensor:
        return torch.empty(2**60, dtype=torch.uint8)

    with pytest.raises(RuntimeError) as caught:
        list(in_chunks(4, 4, short))
    assert is_out_of_memory(caught.value)

    def wrong(chunk: slice) -> Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(in_chunks(4, 4, wrong))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())


def test_more_small_pictures_than_large_ones_are_run_at_once() -> None:
    small, large, huge = (torch.empty(1, 3, side, side) for side in (112, 224, 2000))
    assert pictures_at_once(large, graph=True) == 17
    assert pictures_at_once(large, graph=False) == 68
    assert pictures_at_once(small, graph=True) == 68
    assert pictures_at_once(huge, graph=True) == 1
