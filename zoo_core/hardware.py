"""Which devices are at hand, and what they are good at."""

from __future__ import annotations

import os

import torch

from zoo_core.errors import InputError


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
