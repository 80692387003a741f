"""Finding, fetching and loading pretrained weights."""

from zoo_core.manifest import Preprocessing, WeightsEntry
from zoo_core.store import WeightsFile, fetch
from zoo_core.weights.blank import blank, built_for_loading
from zoo_core.weights.finding import find_entry
from zoo_core.weights.loading import classes_in, load, load_pretrained
from zoo_core.weights.report import Fate, LoadReport
from zoo_core.weights.tensorfile import TensorFile

__all__ = [
    "Fate",
    "LoadReport",
    "Preprocessing",
    "TensorFile",
    "WeightsEntry",
    "WeightsFile",
    "blank",
    "built_for_loading",
    "classes_in",
    "fetch",
    "find_entry",
    "load",
    "load_pretrained",
]
