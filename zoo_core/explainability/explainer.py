"""Several methods at once, by their names in the catalogue."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from torch import Tensor, nn

from zoo_core.catalogue import registry
from zoo_core.contracts import BaseExplainer
from zoo_core.errors import InputError, ZooWarning
from zoo_core.explainability.base import ModelExplainer
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.keeping import gradients_kept
from zoo_core.explainability.maps import warn_of_flat
from zoo_core.explainability.precision import Precision
from zoo_core.explainability.results import Explanations, Facts, NotApplicableError, Skipped
from zoo_core.explainability.running import explaining
from zoo_core.explainability.targets import Classes, Region
from zoo_core.loader import describe
from zoo_core.targets import component_class, construct

Methods = str | Iterable[str | BaseExplainer] | Mapping[str, Mapping[str, Any] | BaseExplainer]

_USUAL: Final = ("grad_cam", "saliency", "smoothgrad", "attention")


class Explainer(BaseExplainer):
    """Explains a model by several methods, which share its runs where they can.

    Task, target layer, prefix tokens and grid are found from the model. A method that does not
    apply gives a :class:`Skipped` with the reason.

    Args:
        model: The model to explain.
        methods: Names in the catalogue of explainers, or explainers themselves, which go by their
            class's name; a mapping from names to options, or to explainers; or ``"all"`` for all
            that are installed. Options are those of the method's constructor and of its
            ``explain``: ``{"smoothgrad": {"num_samples": 20, "normalize": True}}``.

    Raises:
        InputError: If the model is none, or a method is named twice.
        UnknownComponentError: If no installed plugin gives a method.
        OptionError: If a method has no such option.
    """

    def __init__(self, model: nn.Module, methods: Methods = _USUAL) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, not {type(model).__name__}")
        self.model = model
        self.explainers: dict[str, BaseExplainer] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._all = isinstance(methods, str) and methods == "all"
        self._broken: dict[str, Skipped] = {}
        for name, given in _listed(methods):
            if name in self.explainers:
                raise InputError(f"the method {name!r} is named twice")
            try:
                self._add(name, given)
            except Exception as error:
                if not self._all:
                    raise
                self._broken[name] = _failed(name, error)

    def _add(self, name: str, given: Mapping[str, Any] | BaseExplainer) -> None:
        if isinstance(given, BaseExplainer):
            self.explainers[name], self._options[name] = given, {}
            return
        if not isinstance(name, str) or not isinstance(given, Mapping):
            raise InputError(
                f"methods are names, explainers or a mapping from names to options, not {given!r}"
            )
        spec = registry.explainers[name]
        kind = component_class(spec)
        later = kind.options if issubclass(kind, ModelExplainer) else {}
        self._options[name] = {key: value for key, value in given.items() if key in later}
        options = {key: value for key, value in given.items() if key not in later}
        self.explainers[name] = construct(spec, options, model=self.model)

    def explain(
        self,
        inputs: Tensor,
        model: nn.Module | None = None,
        target_class: Classes = None,
        **options: Any,
    ) -> Explanations:
        """Give the result of each method by name.

        The model is left as it was: modes, gradients, buffers, hooks and random numbers.

        Args:
            inputs: Pictures ``[B, C, H, W]``.
            model: Another model than the constructor's.
            target_class: One class for all pictures, one for each, or ``None`` for what the model
                predicts: of each picture, or most often of its pixels.
            options: ``task``, ``region`` and ``precision``, as :meth:`ModelExplainer.explain`
                takes them.

        Raises:
            InputError: If an argument cannot be.
        """
        unknown = options.keys() - {"task", "region", "precision"}
        if unknown:
            raise InputError(
                f"explain of Explainer has no option {min(unknown)!r}; it has precision, region, "
                f"task, and options of methods are given with methods="
            )
        return self._explain(inputs, model or self.model, target_class, **options)

    def _explain(
        self,
        inputs: Tensor,
        model: nn.Module,
        target_class: Classes,
        task: str | None = None,
        region: Region = None,
        precision: Precision = "full",
    ) -> Explanations:
        results = Explanations()
        with explaining(model) as bare:
            inquiry = Inquiry(
                bare,
                inputs,
                target_class,
                task=task,
                region=region,
                precision=precision,
            )
            for name, explainer in self.explainers.items():
                results[name] = None  # the order that was asked for
                if isinstance(explainer, ModelExplainer):
                    try:
                        explainer.plan(inquiry)
                    except NotApplicableError as error:
                        results[name] = Skipped(str(error))
            for name in self.explainers:
                if results[name] is None:
                    results[name], results.facts[name] = self._answer(name, inquiry)
            if inquiry.was_run:
                facts = inquiry.facts()
                results.task, results.region = facts.task, facts.region
                results.target_class = facts.target_class
        results.update(self._broken)
        results.facts = {
            name: facts for name, facts in results.facts.items() if name not in results.skipped
        }
        return results

    def _answer(self, name: str, inquiry: Inquiry) -> tuple[Any, Facts]:
        explainer = self.explainers[name]
        try:
            if isinstance(explainer, ModelExplainer):
                explanation = explainer.answer(inquiry, self._options[name])
                return explanation.values, explanation.facts
            return _foreign(name, explainer, inquiry), inquiry.facts()
        except (NotApplicableError, NotImplementedError) as error:
            return Skipped(str(error)), Facts()
        except Exception as error:
            if not self._all:
                raise
            return _failed(name, error), Facts()


def _failed(name: str, error: Exception) -> Skipped:
    """Warn of a method that failed; where all are asked, one must not stop the others."""
    reason = f"it failed: {describe(error)}"
    warnings.warn(f"{name}: {reason}", ZooWarning, stacklevel=2)
    return Skipped(reason)


def _foreign(name: str, explainer: BaseExplainer, inquiry: Inquiry) -> Any:
    """Ask an explainer that knows nothing of inquiries."""
    target: int | Tensor | None = inquiry.one_class
    if target is None:
        given = inquiry.given_classes
        target = (inquiry.target.classes if given is None else given).to(inquiry.inputs.device)
    with gradients_kept(inquiry.model):
        values = explainer.explain(
            inquiry.inputs.to(inquiry.dtype, copy=True), inquiry.model, target
        )
    if isinstance(values, Tensor):
        values = values.detach()
        if values.ndim > 1 and values.is_floating_point():
            warn_of_flat(name, values, inquiry.empty)
    return values


def _listed(methods: Methods) -> Iterable[tuple[str, Mapping[str, Any] | BaseExplainer]]:
    """Give each method's name with its options, or with the explainer itself."""
    if isinstance(methods, Mapping):
        return list(methods.items())
    if isinstance(methods, str):
        methods = _every_name() if methods == "all" else [methods]
    return [
        (item, {}) if isinstance(item, str) else (getattr(item, "name", type(item).__name__), item)
        for item in methods
    ]


def _every_name() -> list[str]:
    """Give the names of all explainers, qualified where two plugins give the same."""
    specs = registry.explainers.listed()
    count = Counter(spec.name for spec in specs)
    return [spec.name if count[spec.name] == 1 else spec.qualified_name for spec in specs]
