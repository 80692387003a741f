"""What explainers that run the model themselves have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from zoo_core.contracts import BaseExplainer
from zoo_core.errors import InputError
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.layers import Layer
from zoo_core.explainability.maps import warn_of_flat
from zoo_core.explainability.results import Explanation
from zoo_core.explainability.running import explaining
from zoo_core.explainability.targets import Classes


class Attribution(NamedTuple):
    """What a method makes of an inquiry.

    Attributes:
        values: What :meth:`BaseExplainer.explain` gives.
        layer: The layer that was looked at, if one was.
        details: What else the method chose or found.
    """

    values: Any
    layer: Layer | None = None
    details: Mapping[str, Any] = MappingProxyType({})


class ModelExplainer(BaseExplainer):
    """An explainer that asks an :class:`Inquiry`, and so shares its runs with others.

    A subclass says what it will need in :meth:`plan` and answers in :meth:`attribute`. Arguments
    of its constructor after ``model`` are options of the method; those of :attr:`options` are
    given to :meth:`explain`.

    Args:
        model: The model to explain; optional if each call has one.

    Attributes:
        name: Its name in the catalogue; that of the class unless given.
        options: The options of :meth:`explain` beside ``task``, ``region`` and ``precision``, with
            defaults.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Name the class."""
        super().__init_subclass__(**arguments)
        if not hasattr(cls, "name"):
            cls.name = cls.__name__

    def __init__(self, model: nn.Module | None = None) -> None:
        self.model = None if model is None else _checked(model)

    @abstractmethod
    def plan(self, inquiry: Inquiry) -> None:
        """Tell an inquiry what will be needed, before the model is run.

        Raises:
            NotApplicableError: If the method says nothing about the model.
        """

    @abstractmethod
    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Answer an inquiry.

        Args:
            inquiry: Model, pictures and target, and what running the model shows.
            options: All of :attr:`options`.

        Raises:
            NotApplicableError: If the method says nothing about the model.
        """

    def explain(
        self,
        inputs: Tensor,
        model: nn.Module | None = None,
        target_class: Classes = None,
        **options: Any,
    ) -> Any:
        """Give the method's map of each picture.

        The model is left as it was: modes, gradients, buffers, hooks and random numbers.

        Args:
            inputs: Pictures ``[B, C, H, W]``.
            model: The model to explain, if not the constructor's.
            target_class: One class for all pictures, one for each, or ``None`` for what the model
                predicts: of each picture, or most often of its pixels.
            options: ``task``, ``"classification"`` or ``"segmentation"`` for a model with both
                heads; ``region``, in segmentation the pixels whose scores are summed:
                ``"predicted"`` as the class (the default), a mask ``[H, W]`` or ``[B, H, W]``, or
                a pixel ``(row, column)``; ``precision``, in which changed copies of the pictures
                are run: ``"full"``, that of model and caller (the default), ``"bfloat16"``, or
                ``"auto"``, which is bfloat16 where the device has units for it and the first
                copies' ranks agree to 0.99 with full precision; ``"exact"`` is full, and no run
                saves work, so that layers see just what the caller's would; and those of the
                method.

        Raises:
            InputError: If there is no model, or an argument cannot be.
            NotApplicableError: If the method says nothing about the model.
        """
        return self.explanation(inputs, model, target_class, **options).values

    def explanation(
        self,
        inputs: Tensor,
        model: nn.Module | None = None,
        target_class: Classes = None,
        **options: Any,
    ) -> Explanation:
        """Give what :meth:`explain` gives, with the facts: task, classes, region, layer."""
        chosen = self.model if model is None else _checked(model)
        if chosen is None:
            raise InputError(
                f"{type(self).__name__} has no model; give it to the constructor or to explain"
            )
        known = {"task": None, "region": None, "precision": "full", **self.options}
        for option in options:
            if option not in known:
                raise InputError(
                    f"explain of {type(self).__name__} has no option {option!r}; it has "
                    f"{', '.join(sorted(known))}"
                )
        given = {**known, **options}
        with explaining(chosen) as bare:
            inquiry = Inquiry(
                bare,
                inputs,
                target_class,
                task=given.pop("task"),
                region=given.pop("region"),
                precision=given.pop("precision"),
            )
            self.plan(inquiry)
            return self.answer(inquiry, given)

    def answer(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Explanation:
        """Answer an inquiry that may be shared, and warn of maps that show nothing."""
        # The model runs as the caller has it; sums and products of maps are exact.
        with torch.autocast(inquiry.inputs.device.type, enabled=False):
            attribution = self.attribute(inquiry, {**self.options, **options})
        if isinstance(attribution.values, Tensor):
            warn_of_flat(self.name, attribution.values, inquiry.empty)
        facts = inquiry.facts(attribution.layer, **attribution.details)
        return Explanation(values=attribution.values, facts=facts)


def _checked(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model must be a torch.nn.Module, not {type(model).__name__}; a class is given as "
            f"target_class="
        )
    return model
