"""The version of zoo-core, and of the interface that plugins are written against."""

__version__ = "0.1.0"

PLUGIN_API = (1, 0)
"""Major and minor number of the interface between the core and plugins.

The minor number goes up when hooks or arguments are added, the major one when plugins must change.
"""
