"""The values themselves, for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from zoo_core.explainability.report.files import whole_file


def save_arrays(path: Path, results: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write the values of one picture's methods into a safetensors file.

    Maps go by their method's name, ``[H, W]`` or ``[C, H, W]``; what a method gives for each
    layer by method and layer, ``attention/blocks.0``. Attention within windows is written window
    by window, ``[windows, queries, keys]``.

    Args:
        path: The file.
        results: The values of each method, with a batch of one.
        facts: What was explained, as JSON in the file's header.
    """
    arrays: dict[str, Tensor] = {}
    for name, values in results.items():
        if isinstance(values, Tensor):
            arrays[name] = values[0]
        elif isinstance(values, Mapping):
            for layer in values:
                known: Any = getattr(values, "layers", {}).get(layer)
                windows = getattr(known, "kind", None) == "window"
                arrays[f"{name}/{layer}"] = known.windows()[0] if windows else values[layer][0]
    plain = {
        name: array.detach().to("cpu", torch.promote_types(array.dtype, torch.float32)).contiguous()
        for name, array in arrays.items()
    }
    with whole_file(path) as partial:
        partial.write_bytes(save(plain, {"facts": json.dumps(facts, ensure_ascii=False)}))
