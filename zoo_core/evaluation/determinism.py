"""Randomness that is fixed, and algorithms that give the same numbers every time."""

from __future__ import annotations

import os
import random
from typing import Final

import numpy as np
import torch

from zoo_core.errors import InputError

_WORKSPACES: Final = (":4096:8", ":16:8")
"""Settings of CUBLAS_WORKSPACE_CONFIG that make cuBLAS deterministic."""


def set_seed(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, on every device.

    A data loader's workers take their seeds from torch's generator, so they are fixed too.

    Args:
        seed: A whole number from 0 to 2 ** 32 - 1.

    Raises:
        InputError: If it is none.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to {2**32 - 1}, not {seed!r}")
    random.seed(seed)
    np.random.seed(seed)  # the generator that other libraries draw from
    torch.manual_seed(seed)


def enable_cudnn_determinism() -> None:
    """Let torch use algorithms only that give the same numbers every time.

    That goes for cuDNN, which then no longer tries out what is fastest, for cuBLAS, and for torch's
    own operations: one that has no such algorithm raises a ``RuntimeError`` that names it. Call it
    before the first work on a GPU, as cuBLAS reads its setting only once.
    """
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _WORKSPACES:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = _WORKSPACES[0]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True)
