"""Helpers for tests of the zoo and of its plugins."""

from zoo_core.testing.hub import LoopbackHub

__all__ = ["LoopbackHub"]
