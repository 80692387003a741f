"""The base of explainers, and every installed one's class, found through the catalogue."""

from __future__ import annotations

from zoo_core.contracts import BaseExplainer as BaseExplainer
from zoo_core.lookup import class_getter

__getattr__, __dir__ = class_getter(__name__, "explainer")
