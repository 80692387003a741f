"""Whether a map points at the thing."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_core.errors import InputError
from zoo_core.explainability.trust.judging import importance


def pointing_game(maps: Tensor, objects: Tensor, *, tolerance: float = 15.0) -> Tensor:
    """Give whether the maximum of each map lies on the object, or close to it, ``[B]``.

    Zhang et al. 2016, https://arxiv.org/abs/1608.00507, whose tolerance is 15 pixels.

    Args:
        maps: ``[B, H, W]``, or ``[B, C, H, W]`` whose absolute values are summed.
        objects: Where the object is: a mask ``[B, H, W]``, or boxes ``[B, 4]`` of x and y of two
            corners, the second outside.
        tolerance: How far from it the maximum may lie, in pixels.

    Returns:
        Whether it was hit. A picture without an object, or whose map is constant, is missed.

    Raises:
        InputError: If they do not fit each other.
    """
    plane = importance(maps)
    height, width = plane.shape[-2:]
    rows = torch.arange(height, device=plane.device)[:, None]
    columns = torch.arange(width, device=plane.device)[None]
    if objects.shape == (len(plane), 4):
        left, top, right, bottom = objects.to(plane.device)[:, :, None, None].unbind(1)
        mask = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    elif objects.shape == plane.shape:
        mask = objects.to(plane.device).ne(0)
    else:
        raise InputError(
            f"objects must be masks {list(plane.shape)} or boxes [{len(plane)}, 4], not "
            f"{list(objects.shape)}"
        )
    flat = plane.flatten(1)
    highest = flat.argmax(1)
    down = rows - (highest // width)[:, None, None]
    across = columns - (highest % width)[:, None, None]
    near = down.square() + across.square() <= tolerance**2
    return (mask & near).flatten(1).any(1) & (flat.amax(1) > flat.amin(1))
