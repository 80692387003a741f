"""Names of the classes that pretrained classifiers tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from zoo_core.errors import WeightsError

_IMAGENET: Final = Path(__file__).parent / "imagenet-1k.txt"
"""The names that torchvision gives the classes, a line each."""


def class_names(labels: str) -> tuple[str, ...]:
    """Give the class names of a list that registry.yaml names, in the order of the outputs.

    Raises:
        WeightsError: If there is no list of this name.
    """
    if labels != "imagenet-1k":
        raise WeightsError(f"no list of class names is called {labels!r}; there is 'imagenet-1k'")
    return tuple(_IMAGENET.read_text(encoding="utf-8").splitlines())
