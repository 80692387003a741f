"""Training, on one machine or many."""

from zoo_core.training.callbacks import CSVLog as CSVLog
from zoo_core.training.callbacks import TensorBoardLog as TensorBoardLog
from zoo_core.training.checkpoints import Checkpoints as Checkpoints
from zoo_core.training.losses import Losses as Losses
from zoo_core.training.precision import MixedPrecisionManager as MixedPrecisionManager
from zoo_core.training.schedules import cosine_schedule as cosine_schedule
from zoo_core.training.schedules import layerwise as layerwise
from zoo_core.training.trainer import Trainer as Trainer

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
