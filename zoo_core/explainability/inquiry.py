"""One model, one batch, one target: what running the model shows, shared by all who ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.chunks import in_chunks, pictures_at_once
from zoo_core.explainability.layers import Layer, find_layer
from zoo_core.explainability.lean import Lean
from zoo_core.explainability.observing import Observed, Plan, joined, observe, precise
from zoo_core.explainability.outputs import check_task, run_heads
from zoo_core.explainability.precision import Precision, Sampling, check_precision
from zoo_core.explainability.recording import recording, tensor_of, with_tensor
from zoo_core.explainability.results import Facts, NotApplicableError
from zoo_core.explainability.targets import (
    Classes,
    Region,
    Target,
    check_classes,
    check_region,
    region_of,
    resolve,
    warn_of_empty,
)
from zoo_core.folding import JointWeights, Pairs, pairs_of


class Inquiry:
    """A question put to a model: what in these pictures speaks for these classes?

    Explainers say first what they will need, by :meth:`plan_layer` and
    :meth:`plan_input_gradient`. The first answer that is read runs the model, once forward and
    once backward, for all that was planned; what was not planned costs a further run. All of it
    happens within :func:`zoo_core.explainability.running.explaining`.

    Args:
        model: The model, unwrapped.
        inputs: Pictures ``[B, C, H, W]``; they are not changed.
        target_class: One class, one for each picture, or ``None`` for the predicted ones.
        task: ``classification`` or ``segmentation``; ``None`` is found from the output.
        region: Whose pixels' scores are summed in segmentation; see
            :func:`zoo_core.explainability.targets.resolve`.
        precision: In which precision changed pictures are run; see
            :class:`zoo_core.explainability.precision.Sampling`. The given ones are always run in
            full.

    Attributes:
        model: The model.
        inputs: The pictures, without a graph, at least float32.
        dtype: The dtype that they were given in.
        given_classes: The classes that were given, ``[B]``, or ``None``.
        one_class: The class, if one was given for all pictures.
        sampling: In which precision changed pictures are run.

    Raises:
        InputError: If an argument cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        target_class: Classes = None,
        *,
        task: str | None = None,
        region: Region = None,
        precision: Precision = "full",
    ) -> None:
        _check_pictures(inputs)
        check_task(task)
        check_precision(precision)
        with torch.inference_mode(False):
            given = inputs.clone() if inputs.is_inference() else inputs.detach()
        self.inputs, self.dtype = precise(given), inputs.dtype
        self.model = model
        self.given_classes = check_classes(target_class, len(inputs))
        self.one_class: int | None = None
        row = isinstance(target_class, Sequence) or bool(getattr(target_class, "ndim", 0))
        if self.given_classes is not None and not row:
            self.one_class = int(self.given_classes[0])
        self._task = task
        self._region = check_region(region, len(inputs), self.size)
        self._layers: dict[nn.Module | str | None, Layer] = {}
        self._planned: dict[nn.Module, Plan] = {}
        self._input_planned = False
        self._observed: Observed | None = None
        kind = inputs.device.type
        self._autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        lowerable = self._dtype == torch.float32 and not self._autocast[0]
        self._exact = precision == "exact"
        self.sampling = Sampling(precision, lowerable, inputs.device)
        self._channels_last = kind == "cpu" and _has_convolutions(model)
        self._pairs, self._joint = pairs_of(model), JointWeights()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.inputs.shape[-2], self.inputs.shape[-1]

    # What is needed.

    def plan_layer(
        self, target_layer: nn.Module | str | None = None, *, gradient: bool = True
    ) -> Layer:
        """Say that a layer's activation, and the score's gradient there, will be needed.

        Args:
            target_layer: The layer, its dotted name, or ``None`` for the one that suits.
            gradient: Whether the gradient will be.

        Raises:
            InputError: If there is no such layer.
            NotApplicableError: If no layer, or not this one, gives a map of the picture.
        """
        if target_layer not in self._layers:
            picture = self.inputs[:1]
            self._layers[target_layer] = find_layer(
                self.model,
                target_layer,
                picture,
                self._task,
                lambda: self._run(picture.clone().requires_grad_(), every_layer=True),
            )
        layer = self._layers[target_layer]
        self._planned.setdefault(layer.module, Plan(layer, False)).gradient |= gradient
        return layer

    def plan_input_gradient(self) -> None:
        """Say that the score's gradient at the pictures will be needed."""
        self._input_planned = True

    # What the model shows.

    @property
    def task(self) -> str:
        """The task that is explained."""
        return self._answer().task

    @property
    def logits(self) -> Tensor:
        """The logits of the task, ``[B, classes]`` or ``[B, classes, h, w]``."""
        return self._answer().logits

    @property
    def target(self) -> Target:
        """What is explained."""
        return self._answer().target

    @property
    def was_run(self) -> bool:
        """Whether the model was run, so that task and target are known."""
        return self._observed is not None

    @property
    def empty(self) -> Tensor | None:
        """Which pictures, ``[B]``, have nothing to explain; ``None`` if that is not known."""
        return None if self._observed is None else self._observed.target.empty

    def activation(self, layer: Layer) -> Tensor:
        """Give a layer's activation as a map ``[B, C, h, w]``, at least float32."""
        if layer.module not in self._answer().activations:
            self._planned[layer.module] = Plan(layer, False)
            self._observed = None
        return self._answer().activations[layer.module]

    def gradient(self, layer: Layer) -> Tensor:
        """Give the gradient of the score at a layer, ``[B, C, h, w]``, at least float32.

        Raises:
            NotApplicableError: If the score does not depend on the layer.
        """
        if layer.module not in self._answer().gradients:
            self._planned[layer.module] = Plan(layer, True)
            self._observed = None
        gradient = self._answer().gradients[layer.module]
        if gradient is None:
            raise NotApplicableError(
                f"the score for {self.task} does not depend on layer {layer.name!r}"
            )
        return gradient

    @property
    def input_gradient(self) -> Tensor:
        """The gradient of the score at the pictures, ``[B, C, H, W]``, at least float32.

        Raises:
            NotApplicableError: If there is none.
        """
        if not self._input_planned:
            self._input_planned = True
            self._observed = None
        gradient = self._answer().input_gradient
        if gradient is None:
            raise NotApplicableError(
                f"the score for {self.task} has no gradient at the pictures; the model cuts it off"
            )
        return gradient

    def foreign_gradient(self) -> Tensor | None:
        """Give the gradient at the pictures in a mode of the caller's that makes it another.

        One run then gives it and the target, of which this keeps the latter alone. Nothing is
        given, and nothing run, if the model was run before or more is planned.

        Raises:
            NotApplicableError: If there is none.
        """
        if self._observed is not None or self._planned or self._input_planned:
            return None
        gradient = self.input_gradient
        assert self._observed is not None
        self._observed = replace(self._observed, input_gradient=None)
        self._input_planned = False
        return gradient

    # Further runs, of other pictures than the given ones.

    @torch.no_grad()
    def scores(
        self, pictures: Tensor, rows: Tensor, *, probability: bool = False, exact: bool = False
    ) -> Tensor:
        """Give the scores ``[N]`` of changed pictures.

        Args:
            pictures: ``[N, C, H, W]``.
            rows: ``[N]``, the given picture that each comes from, whose target it has.
            probability: Give the class's probability instead.
            exact: Run them just as the caller would run the model.
        """
        target = self.target
        asked = target.probability if probability else target.score
        if exact:
            return asked(self._run(pictures, as_called=True)[1], rows)
        return self.sampling.scores(rows, lambda low: asked(self._run(pictures, low=low)[1], rows))

    def gradients(self, pictures: Tensor, rows: Tensor, *, exact: bool = False) -> Tensor:
        """Give the gradients ``[N, C, H, W]`` of the scores at changed pictures.

        Args:
            pictures: ``[N, C, H, W]``.
            rows: ``[N]``, the given picture that each comes from, whose target it has.
            exact: Run them just as the caller would run the model.

        Raises:
            NotApplicableError: If there are none.
        """
        if exact:
            return self._gradients(pictures, rows, as_called=True)
        way = "low_backward" if self.sampling.backward_only else "low"
        return self.sampling.gradients(
            rows, lambda some, low: self._gradients(pictures[some], rows[some], **{way: low})
        )

    def _gradients(self, pictures: Tensor, rows: Tensor, **how: bool) -> Tensor:
        target = self.target
        leaf = pictures.detach().clone().requires_grad_()
        _, logits = self._run(leaf, **how)
        score = target.score(logits, rows)
        gradient = torch.autograd.grad(score.sum(), leaf)[0] if score.requires_grad else None
        if gradient is None:
            raise NotApplicableError(
                f"the score for {target.task} has no gradient at the pictures; the model cuts it "
                f"off"
            )
        return precise(gradient)

    @torch.no_grad()
    def scores_from(self, layer: Layer, row: int, places: Tensor) -> Tensor:
        """Give the scores ``[N]`` of one picture for other activations of a layer.

        What stands before the layer is run once, if the model takes it that what follows has
        another batch, and otherwise for each.

        Args:
            layer: The layer.
            row: The picture.
            places: ``[N, C, h, w]``, as :meth:`activation` gives them.
        """
        picture, rows = self.inputs[row : row + 1], torch.full((len(places),), row)

        def swapped(_: nn.Module, output: Any) -> Any:
            tensor = tensor_of(output)
            assert tensor is not None
            new = layer.layout.put_map(tensor, places.to(tensor.dtype))
            return with_tensor(output, tensor, new)

        target = self.target
        with recording({layer.module: swapped}):
            for copies in (1, len(places)):
                try:
                    _, logits = self._run(picture.expand(copies, -1, -1, -1), len(places))
                    return target.score(logits, rows.to(logits.device))
                except (RuntimeError, InputError):
                    if copies == len(places):
                        raise
        raise AssertionError("unreachable")

    # What is told of it.

    def facts(self, layer: Layer | None = None, **details: Any) -> Facts:
        """Give what is explained, as far as the model was asked."""
        name = None if layer is None else layer.name
        if self._observed is None:
            return Facts(target_layer=name, details=details)
        target = self.target
        return Facts(
            task=target.task,
            target_class=target.classes.cpu(),
            predicted=target.predicted,
            region=target.region_name,
            target_layer=name,
            details=details,
        )

    # How the model is run.

    def run(self, pictures: Tensor) -> Any:
        """Run the model as the caller would, and give all that it gives.

        It is run under the caller's autocast, and for pictures of the model's own dtype.
        """
        fed, calling = self._as_called(pictures)
        with calling:
            return self.model(fed)

    def _run(
        self,
        pictures: Tensor,
        batch: int | None = None,
        *,
        low: bool = False,
        low_backward: bool = False,
        every_layer: bool = False,
        as_called: bool = False,
    ) -> tuple[str, Tensor]:
        """Run the model as far as the task needs it, and give the task and its logits.

        Args:
            pictures: Pictures ``[B, C, H, W]``.
            batch: How many logits there are, if not one for each picture.
            low: Whether it is run in bfloat16.
            low_backward: Whether a gradient of what it gives is taken in bfloat16.
            every_layer: Whether a gradient is taken at layers of any kind.
            as_called: Whether it is run just as the caller would, and not with less work.
        """
        fed, calling = self._as_called(pictures, low)
        if as_called or self._exact:
            with calling:
                return run_heads(self.model, fed, self._task, batch)
        joint = None if self._observed is None else self._joint
        lean = Lean(
            self._pairs or Pairs(), joint, low_backward=low_backward, every_layer=every_layer
        )
        with calling, lean:
            found = self._run_ordered(fed, batch)
        if lean.checkpointed:
            # What is run again for gradients does as the caller's runs do: from now on, so do we.
            self._exact = True
            if self.sampling.backward_only:
                self.sampling.lowered["gradients"] = False
            if joint is not None:  # a norm in there may have been given what is normed already
                return self._run(pictures, batch, low=low)
        return found

    def _run_ordered(self, fed: Tensor, batch: int | None) -> tuple[str, Tensor]:
        """Run the model in the order in memory that suits it, unless it counts on the other one."""
        if self._channels_last:
            try:
                ordered = fed.contiguous(memory_format=torch.channels_last)
                return run_heads(self.model, ordered, self._task, batch)
            except RuntimeError as error:
                if "view size is not compatible" not in str(error):
                    raise
                self._channels_last = False
        return run_heads(self.model, fed, self._task, batch)

    def _as_called(self, pictures: Tensor, low: bool = False) -> tuple[Tensor, torch.autocast]:
        enabled, dtype = (True, torch.bfloat16) if low else self._autocast
        # A model may write into its input.
        fed = pictures.to(self._dtype) if self._dtype != pictures.dtype else pictures.clone()
        # The cache would outlive this run, and give the caller's next one casts without a graph.
        return fed, torch.autocast(pictures.device.type, dtype, enabled, cache_enabled=False)

    @cached_property
    def _dtype(self) -> torch.dtype:
        """The dtype of the model's pictures: that of all its parameters, or else the caller's."""
        dtypes = {p.dtype for p in self.model.parameters() if p.is_floating_point()}
        return dtypes.pop() if len(dtypes) == 1 and not self._autocast[0] else self.dtype

    def _answer(self) -> Observed:
        if self._observed is None:
            size = pictures_at_once(self.inputs, graph=self._input_planned)
            parts = [part for _, part in in_chunks(len(self.inputs), size, self._observe)]
            self._observed = joined(parts)
            warn_of_empty(self._observed.target)
        return self._observed

    def _observe(self, rows: slice) -> Observed:
        classes = None if self.given_classes is None else self.given_classes[rows]
        region = region_of(self._region, rows)
        return observe(
            self._run,
            self.inputs[rows],
            lambda task, logits: resolve(task, logits, classes, region, self.size),
            self._planned.values(),
            at_pictures=self._input_planned,
        )


def _has_convolutions(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def _check_pictures(inputs: object) -> None:
    if not isinstance(inputs, Tensor):
        raise InputError(f"inputs must be pictures [B, C, H, W], not {type(inputs).__name__}")
    if inputs.ndim != 4 or 0 in inputs.shape or not inputs.is_floating_point():
        raise InputError(
            f"inputs must be pictures [B, C, H, W] of floating point, not {list(inputs.shape)} of "
            f"{inputs.dtype}"
        )
