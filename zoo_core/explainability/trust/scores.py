"""The scores of maps that need no more than model, pictures and maps."""

from __future__ import annotations

from torch import Tensor, nn

from zoo_core.explainability.targets import Classes, Region
from zoo_core.explainability.trust.confidence import average_drop
from zoo_core.explainability.trust.removal import deletion, insertion, road


def score_maps(
    model: nn.Module,
    inputs: Tensor,
    maps: Tensor,
    target_class: Classes = None,
    *,
    task: str | None = None,
    region: Region = None,
) -> dict[str, Tensor]:
    """Give ``"insertion"``, ``"deletion"``, ``"road"`` and ``"average_drop"``, ``[B]`` each.

    Higher is better for insertion and ROAD, lower for deletion and the average drop.

    Args:
        model: The model; it is left as it was.
        inputs: Pictures ``[B, C, H, W]``.
        maps: ``[B, H, W]``, or ``[B, C, H, W]`` whose absolute values are summed.
        target_class: One class, one for each picture, or ``None`` for the predicted ones.
        task: ``classification`` or ``segmentation``, for a model with both.
        region: In segmentation, the pixels whose probabilities are averaged.

    Raises:
        InputError: If an argument cannot be.
    """
    asked = (model, inputs, maps, target_class)
    return {
        "insertion": insertion(*asked, task=task, region=region).area,
        "deletion": deletion(*asked, task=task, region=region).area,
        "road": road(*asked, task=task, region=region),
        "average_drop": average_drop(*asked, task=task, region=region).drop,
    }
