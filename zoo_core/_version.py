"""The version of zoo-core, and of the interface that plugins are written against."""

__version__ = "0.1.0"

PLUGIN_API = (1, 0)
"""Raised by one in the second place when hooks or arguments are added, in the first when a plugin must change."""
