"""Which devices are at hand, and what they are good at."""

from __future__ import annotations

import ctypes
import os
from typing import Final

import torch

from zoo_core.errors import InputError

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Have this process use again what memory tensors gave up, which is not returned until it ends.

    The C library asks the kernel for each large tensor anew, and the kernel clears every page of
    it, which is a fifth of the time of training on a CPU. For processes that run a model and end;
    one that lives on is not to be told how to allocate.

    Returns:
        Whether the C library takes it, as glibc does; elsewhere nothing is changed.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    return bool(tell(_M_MMAP_THRESHOLD, 1 << 30) and tell(_M_TRIM_THRESHOLD, -1))


def find_device(name: torch.device | str | None = None) -> torch.device:
    """Give a device that models can run on; by default a GPU, if there is one.

    ``"cuda"`` means the GPU of this process, where ``torchrun`` started several.

    Raises:
        InputError: If there is no such device here.
    """
    known = "write cpu, cuda or cuda:1"
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}; {known}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device='{device}', but torch finds no GPU; device='cpu' runs anywhere")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    try:
        there = torch.empty(0, device=device).device.type != "meta"
    except (RuntimeError, AssertionError, ImportError) as error:  # as the backend likes
        raise InputError(f"torch finds no device '{device}' here; {known}") from error
    if not there:
        raise InputError(f"nothing can be computed on device '{device}'; {known}")
    return device


def has_units(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 numbers faster than those of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
