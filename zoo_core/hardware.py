"""What the devices at hand are good at."""

from __future__ import annotations

import torch


def has_units(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 numbers faster than those of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
