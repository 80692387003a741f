"""Data sets."""

from zoo_core.data.scenes import Scenes as Scenes

__all__ = ["Scenes"]
