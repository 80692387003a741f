"""Rules of explainers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo_core.contracts import BaseExplainer
from zoo_core.explainability.results import NotApplicableError
from zoo_core.loader import CATCH
from zoo_core.testing.conformance import state
from zoo_core.testing.conformance.comparing import ROUNDING, difference, shape, shapes, share
from zoo_core.testing.conformance.modules import listed
from zoo_core.testing.conformance.nets import NETS, SmallNet, SmallTransformer, trained
from zoo_core.testing.conformance.rules import SkippedRuleError, require, rule, trying
from zoo_core.testing.conformance.subject import ExplainerSubject, noise

Target = int | Tensor | None

EACH = (1, 3, 0)
"""A class for each of the pictures."""


def pictures() -> Tensor:
    """Give three pictures."""
    return noise(len(EACH), 3, 32, 40)


def answer(subject: ExplainerSubject, target: Target, given: Tensor, model: nn.Module) -> Any:
    """Give what an explainer makes of pictures."""
    explainer: BaseExplainer = subject.construct(model=model)
    return explainer.explain(given, model, target, **subject.later)


def asked(
    subject: ExplainerSubject, target: Target, given: Tensor, model: nn.Module
) -> list[Tensor]:
    """Give the tensors that an explainer makes of pictures."""
    return tensors(answer(subject, target, given, model))


def tensors(values: Any) -> list[Tensor]:
    """Give the tensors of what an explainer gives: one, several, or several by name."""
    if isinstance(values, Tensor):
        return [values]
    parts = list(values.values()) if isinstance(values, Mapping) else values
    require(
        isinstance(parts, Sequence) and all(isinstance(part, Tensor) for part in parts),
        expected="a tensor, or several, for the batch",
        found=type(values).__name__,
        change="give a heatmap [B, H, W] or an attribution [B, C, H, W] as a tensor",
    )
    return list(parts)


def applicable(subject: ExplainerSubject) -> SmallNet | SmallTransformer:
    """Give the first of the small classifiers that an explainer applies to.

    Raises:
        SkippedRuleError: If it says of each that it does not apply.
    """
    reason = ""
    for kind in NETS:
        model = trained(kind)
        if kind.__name__ == subject.net:
            return model
        if subject.net:
            continue
        try:
            asked(subject, 1, pictures(), model)
        except (NotApplicableError, NotImplementedError) as error:
            reason = str(error)
            continue
        except CATCH:
            pass  # what is wrong is the rules' to say
        subject.net = kind.__name__
        return trained(kind)
    raise SkippedRuleError(f"it applies to none of the small classifiers: {reason}")


@rule("explainer")
def construction(subject: ExplainerSubject) -> None:
    """It is constructed with no argument but the model, or with none."""
    explainer = subject.construct(model=trained(NETS[0]))
    require(
        isinstance(explainer, BaseExplainer),
        expected="a BaseExplainer",
        found=type(explainer).__name__,
        change="derive it from zoo_core.BaseExplainer",
    )


@rule("explainer")
def maps(subject: ExplainerSubject) -> None:
    """It gives a heatmap [B, H, W], an attribution [B, C, H, W], or tensors of batch B."""
    given = pictures()
    result = answer(subject, 1, given, applicable(subject))
    values = tensors(result)
    batch, channels, height, width = given.shape
    change = "give one value a pixel, resized to the pictures' size, without adding up the batch"
    if isinstance(result, Tensor):
        wanted = (f"{batch}×{height}×{width}", f"{batch}×{channels}×{height}×{width}")
        require(
            shape(values[0]) in wanted,
            expected=f"{wanted[0]} or {wanted[1]} for pictures {shape(given)}",
            found=shape(values[0]),
            change=change,
        )
    require(
        bool(values) and all(x.ndim > 0 and len(x) == batch for x in values),
        expected=f"tensors whose first dimension is the batch of {batch}",
        found=shapes(values) or "none",
        change=change,
    )
    require(
        all(bool(torch.isfinite(x).all()) for x in values),
        expected="finite values",
        found="NaN or infinity",
        change="add a small number to what is divided by",
    )


@rule("explainer")
def targets(subject: ExplainerSubject) -> None:
    """The class is one for all pictures, one for each, or the predicted ones without it."""
    model, given = applicable(subject), pictures()
    model.eval()
    change = "take target_class as None, an int or a tensor [B], and pick each picture's own score"
    with trying("an explanation of one class a picture", change):
        each = asked(subject, torch.tensor(EACH), given, model)
    for row, target in enumerate(EACH):
        with trying(f"an explanation of the class {target}", change):
            one = asked(subject, target, given, model)
        gap = difference([x[row] for x in one], [x[row] for x in each])
        require(
            gap < ROUNDING,
            expected=f"target_class={target} and a tensor with {target} in its place to agree",
            found=f"values that differ by {share(gap)}",
            change=change,
        )
    predicted = model(given).argmax(1)
    with trying("an explanation of the predicted class, without target_class", change):
        default = asked(subject, None, given, model)
    gap = difference(default, asked(subject, predicted, given, model))
    require(
        gap < ROUNDING,
        expected=f"the predicted classes {predicted.tolist()} explained without target_class",
        found=f"values that differ by {share(gap)}",
        change=change,
    )


@rule("explainer")
def eval_mode(subject: ExplainerSubject) -> None:
    """It explains what the model does in eval mode, whatever mode it is in."""
    model, given = applicable(subject), pictures()
    values = asked(subject, 1, given, model.train())
    gap = difference(asked(subject, 1, given, model.eval()), values)
    require(
        gap < ROUNDING,
        expected="the same explanation of a model in train mode as in eval mode",
        found=f"values that differ by {share(gap)}",
        change="run the model within zoo_core.explainability.explaining(model)",
    )


@rule("explainer")
def repeatable(subject: ExplainerSubject) -> None:
    """Asked twice, it answers the same."""
    model, given = applicable(subject), pictures()
    model.eval()
    torch.manual_seed(1)
    first = asked(subject, 1, given, model)
    torch.manual_seed(2)
    gap = difference(asked(subject, 1, given, model), first)
    require(
        gap < ROUNDING,
        expected="the same values of a second call",
        found=f"values that differ by {share(gap)}",
        change="draw random numbers from a torch.Generator of its own, of a fixed seed",
    )


@rule("explainer")
def batch_independence(subject: ExplainerSubject) -> None:
    """What it says of a picture does not depend on the others in the batch."""
    model, given = applicable(subject), pictures()
    model.eval()
    whole = asked(subject, 1, given, model)
    alone = [asked(subject, 1, given[row : row + 1], model) for row in range(len(given))]
    gap = difference([torch.cat(rows) for rows in zip(*alone, strict=True)], whole)
    require(
        gap < ROUNDING,
        expected="of each picture alone what the batch gives of it",
        found=f"values that differ by {share(gap)}",
        change="scale and average over each picture's own values, never over dimension 0",
    )


@rule("explainer")
def own_model(subject: ExplainerSubject) -> None:
    """Given its model by the constructor, it needs none in the call."""
    if not subject.accepts("model"):
        raise SkippedRuleError("its constructor takes no model")
    model, given = applicable(subject), pictures()
    model.eval()
    explainer = subject.construct(model=model)
    change = "use the constructor's model where explain is given none"
    with trying("an explanation without a model in the call", change):
        values = tensors(explainer.explain(given, target_class=1, **subject.later))
    gap = difference(values, asked(subject, 1, given, model))
    require(
        gap < ROUNDING,
        expected="the same values with the model in the constructor as in the call",
        found=f"values that differ by {share(gap)}",
        change=change,
    )


@rule("explainer")
def no_trace(subject: ExplainerSubject) -> None:
    """It leaves model, pictures and random numbers as they were, and no graph."""
    model, given = applicable(subject), pictures()
    values: list[Tensor] = []
    with _unchanged(model, given, "after an explanation"):
        values = asked(subject, 1, given, model)
    require(
        not any(x.requires_grad for x in values),
        expected="values without a graph",
        found="values that require a gradient",
        change="detach() what explain gives",
    )


@rule("explainer")
def no_trace_of_failure(subject: ExplainerSubject) -> None:
    """If the model fails, it leaves everything as it was too, and lets the error pass."""
    model, given = applicable(subject), pictures()
    model.fails = True
    raised = False
    with _unchanged(model, given, "after the model failed"):
        try:
            asked(subject, 1, given, model)
        except CATCH:
            raised = True
    require(
        raised,
        expected="the model's error",
        found="an explanation",
        change="do not catch what the model raises",
    )


@contextmanager
def _unchanged(model: nn.Module, given: Tensor, when: str) -> Iterator[None]:
    """Break the rule if what is done within changes model, pictures or process."""

    def everything() -> dict[str, Any]:
        return {
            **state.model_state(model),
            **state.read({**state.SETTINGS, **state.GENERATORS}),
            "the pictures": given.detach().clone(),
            "the pictures' requires_grad": given.requires_grad,
            "the pictures' grad": given.grad,
        }

    before = everything()
    yield
    changed = state.changed(before, everything())
    require(
        not changed,
        expected=f"model, pictures and process as they were {when}",
        found=f"other ones: {listed(changed)}",
        change="use torch.autograd.grad on a copy of the pictures, and run the model within "
        "zoo_core.explainability.explaining(model)",
    )
