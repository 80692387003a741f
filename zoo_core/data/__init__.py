"""Data sets, and what turns their pictures into a model's inputs.

Importing this package does not import torch; its names do, when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_core.data.base import SampleDataset
    from zoo_core.data.classification import ClassificationDataset
    from zoo_core.data.dummies import (
        DummyClassificationDataset,
        DummyMultitaskDataset,
        DummySegmentationDataset,
    )
    from zoo_core.data.errors import DataError
    from zoo_core.data.multitask import MultitaskDataset
    from zoo_core.data.samples import Sample
    from zoo_core.data.scenes import Scenes
    from zoo_core.data.segmentation import SegmentationDataset
    from zoo_core.data.transforms import Transforms

_HOME = {
    "ClassificationDataset": "classification",
    "DataError": "errors",
    "DummyClassificationDataset": "dummies",
    "DummyMultitaskDataset": "dummies",
    "DummySegmentationDataset": "dummies",
    "MultitaskDataset": "multitask",
    "Sample": "samples",
    "SampleDataset": "base",
    "Scenes": "scenes",
    "SegmentationDataset": "segmentation",
    "Transforms": "transforms",
}

__all__ = [
    "ClassificationDataset",
    "DataError",
    "DummyClassificationDataset",
    "DummyMultitaskDataset",
    "DummySegmentationDataset",
    "MultitaskDataset",
    "Sample",
    "SampleDataset",
    "Scenes",
    "SegmentationDataset",
    "Transforms",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"zoo_core.data.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
