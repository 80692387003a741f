"""Trying compositions for their shapes, without values and without arithmetic."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

import zoo_core as zoo
from zoo_core.errors import ZooError
from zoo_core.shapes import on_meta

SIZES: Final = ((224, 224), (237, 251), (97, 65))
CHANNELS: Final = (1, 3, 4, 13)
CLASSES: Final = {"classification": 5, "segmentation": 7}


def native(kind: str) -> list[str]:
    """Give the names of the components that the zoo writes itself and that have a shape."""
    bridges = ("zoo-smp", "zoo-timm")
    return [
        spec.name
        for spec in zoo.list_components(kind)
        if spec.provider not in bridges and (kind != "backbone" or spec.channels)
    ]


def problem_of(recipe: str, channels: int) -> str:
    """Build a composition, run it at every size, and tell what is wrong with it, if anything.

    Args:
        recipe: Backbone, attention and decoder.
        channels: Channels of the pictures.
    """
    with on_meta():
        try:
            model = zoo.build(
                recipe,
                in_channels=channels,
                num_classes_classification=CLASSES["classification"],
                num_classes_segmentation=CLASSES["segmentation"],
            ).eval()
        except ZooError as error:
            return str(error)
        for height, width in SIZES:
            logits = model(torch.empty(2, channels, height, width))
            assert isinstance(logits, dict)
            problem = wrong_shape(logits, height, width)
            if problem:
                return problem
    return ""


def wrong_shape(logits: dict[str, Tensor], height: int, width: int) -> str:
    """Tell which of a model's outputs has another shape than it must have."""
    expected = {
        "classification": (2, CLASSES["classification"]),
        "segmentation": (2, CLASSES["segmentation"], height, width),
    }
    for head, shape in expected.items():
        if tuple(logits[head].shape) != shape:
            return f"{head} of {height}×{width} is {tuple(logits[head].shape)}, not {shape}"
    return ""
