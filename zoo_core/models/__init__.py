"""Models, and the components they are made of."""

from zoo_core.models.multitask import MultitaskModel

__all__ = ["MultitaskModel"]
