"""Training, on one machine or many.

Importing this package does not import torch; its names do, when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_core.training.callbacks import CSVLog, TensorBoardLog
    from zoo_core.training.checkpoints import Checkpoints
    from zoo_core.training.losses import Losses
    from zoo_core.training.precision import MixedPrecisionManager
    from zoo_core.training.schedules import cosine_schedule, layerwise
    from zoo_core.training.trainer import Trainer

_HOME = {
    "CSVLog": "callbacks",
    "Checkpoints": "checkpoints",
    "Losses": "losses",
    "MixedPrecisionManager": "precision",
    "TensorBoardLog": "callbacks",
    "Trainer": "trainer",
    "cosine_schedule": "schedules",
    "layerwise": "schedules",
}

__all__ = [
    "CSVLog",
    "Checkpoints",
    "Losses",
    "MixedPrecisionManager",
    "TensorBoardLog",
    "Trainer",
    "cosine_schedule",
    "layerwise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"zoo_core.training.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
