"""Measuring models: metrics, an engine that runs a model over data, and fixed randomness."""

from zoo_core.evaluation.classification import ClassificationMetrics as ClassificationMetrics
from zoo_core.evaluation.determinism import enable_cudnn_determinism as enable_cudnn_determinism
from zoo_core.evaluation.determinism import set_seed as set_seed
from zoo_core.evaluation.evaluator import Evaluator as Evaluator
from zoo_core.evaluation.experiment import Experiment as Experiment
from zoo_core.evaluation.sampling import UnpaddedSampler as UnpaddedSampler
from zoo_core.evaluation.segmentation import SegmentationMetrics as SegmentationMetrics

__all__ = [
    "ClassificationMetrics",
    "Evaluator",
    "Experiment",
    "SegmentationMetrics",
    "UnpaddedSampler",
    "enable_cudnn_determinism",
    "set_seed",
]
