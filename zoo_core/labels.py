"""Names of the classes that pretrained classifiers tell apart."""

from __future__ import annotations

from zoo_core.errors import WeightsError


def class_names(labels: str) -> tuple[str, ...]:
    """Give the class names of a list that registry.yaml names, in the order of the outputs.

    Raises:
        WeightsError: If there is no list of this name.
    """
    if labels != "imagenet-1k":
        raise WeightsError(f"no list of class names is called {labels!r}; there is 'imagenet-1k'")
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
