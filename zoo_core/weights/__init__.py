"""Finding, fetching and loading pretrained weights."""

from zoo_core.manifest import Preprocessing, WeightsEntry
from zoo_core.weights.fetching import fetch
from zoo_core.weights.finding import find_entry
from zoo_core.weights.loading import classes_in, load, load_pretrained
from zoo_core.weights.report import Fate, LoadReport

__all__ = [
    "Fate",
    "LoadReport",
    "Preprocessing",
    "WeightsEntry",
    "classes_in",
    "fetch",
    "find_entry",
    "load",
    "load_pretrained",
]
