"""What explaining gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from zoo_core.errors import InputError


class NotApplicableError(InputError):
    """A method says nothing about this model; the message says why."""


@dataclass(frozen=True)
class Skipped:
    """Stands in the place of a result.

    Attributes:
        reason: Why the method does not apply to the model.
    """

    reason: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was explained, and how.

    Attributes:
        task: ``classification`` or ``segmentation``; ``None`` if the method asks for none.
        target_class: The class of each picture, ``[B]``, on the CPU.
        predicted: Whether these are the classes that the model itself predicts.
        region: Whose pixels' scores are summed in segmentation: ``predicted`` as the class,
            those of a ``mask``, or one ``pixel``.
        target_layer: Dotted name of the layer whose activations were used.
        details: What else the method chose or found: its baseline, its seed.
    """

    task: str | None = None
    target_class: Tensor | None = None
    predicted: bool = False
    region: str | None = None
    target_layer: str | None = None
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The result of one method.

    Attributes:
        values: A heatmap ``[B, H, W]``, an attribution ``[B, C, H, W]``, or what else the method
            gives.
        facts: What was explained, and how.
    """

    values: Any
    facts: Facts


class Explanations(dict[str, Any]):
    """The results of several methods by name, a :class:`Skipped` for each that does not apply.

    Attributes:
        facts: What each method explained, and how.
        task: The task that was explained; ``None`` if no method asked.
        target_class: The class of each picture, ``[B]``, on the CPU.
        region: Whose pixels were explained in segmentation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, Facts] = {}
        self.task: str | None = None
        self.target_class: Tensor | None = None
        self.region: str | None = None

    @property
    def skipped(self) -> dict[str, Skipped]:
        """The methods that do not apply, each with the reason."""
        return {name: value for name, value in self.items() if isinstance(value, Skipped)}
