"""captum's methods on any model, target and region that the zoo explains."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final

import captum.attr
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo_captum.copies import HookableModel
from zoo_captum.methods import METHODS
from zoo_captum.relevance import check_rules, give_rules
from zoo_captum.values import baseline_of, baselines_of, checked, features_of, window_of
from zoo_core.explainability.base import Attribution, ModelExplainer
from zoo_core.explainability.chunks import in_chunks, pictures_at_once
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.layers import Layer, named_layer
from zoo_core.explainability.maps import normalised, resized
from zoo_core.explainability.observing import precise
from zoo_core.explainability.outputs import run_heads
from zoo_core.explainability.results import NotApplicableError
from zoo_core.explainability.running import unwrapped
from zoo_core.explainability.targets import Target

_ONE_AT_A_TIME: Final = threading.RLock()
"""captum draws from the global generators, and warns of each hook."""

_NOISY: Final[Mapping[str, type[Any]]] = {
    "saliency": captum.attr.Saliency,
    "input_x_gradient": captum.attr.InputXGradient,
    "integrated_gradients": captum.attr.IntegratedGradients,
}
_MISSING: Final = 0.05
"""DeepLIFT's values may miss this share of the change of score."""


class CaptumExplainer(ModelExplainer):
    """A method of captum, by name.

    Of the pictures it gives ``[B, C, H, W]``, signed and on the score's own scale; a method that
    attributes the score to a layer gives the sums over channels at the pictures' size,
    ``[B, H, W]``. ``explain`` takes ``absolute=True`` and ``normalize=True``. Pictures are
    explained one by one, so that a result depends neither on the batch nor on what is run at once.

    captum works on a copy of the model, where it needs hooks: the model is left as it is, and
    other threads may use it. There each activation counts as a layer of its own, whether the model
    calls one layer several times, in place, or a function.

    Args:
        model: The model to explain; optional if each call has one.
        method: Its name, without ``captum/``.
        options: captum's own, of the constructor or of ``attribute``, as
            :data:`zoo_captum.methods.METHODS` lists them; ``None`` is the default.

    Raises:
        InputError: If there is no such method or option, or a value cannot be.
    """

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({"normalize": False, "absolute": False})

    def __init__(self, model: nn.Module | None = None, method: str = "", **options: Any) -> None:
        super().__init__(model)
        self.given = checked(method, options)
        self.method = method
        self.about = METHODS[method]
        self.name = f"captum/{method}"  # type: ignore[misc]  # one class has all of them
        layer = self.given.get("layer")
        if self.model is not None and layer is not None:
            named_layer(unwrapped(self.model), layer)

    def plan(self, inquiry: Inquiry) -> None:
        """Find the layer, if the method takes one."""
        self._layer(inquiry)

    def _layer(self, inquiry: Inquiry) -> Layer | None:
        if "layer" not in self.given:
            return None
        layer = inquiry.plan_layer(self.given["layer"], gradient=False)
        if self.method == "guided_gradcam" and layer.layout.order != "BCHW":
            raise NotApplicableError(
                f"captum's guided Grad-CAM takes a layer that gives [B, C, H, W], and "
                f"{layer.name!r} does not"
            )
        return layer

    def attribute(self, inquiry: Inquiry, options: Mapping[str, Any]) -> Attribution:
        """Give captum's values."""
        layer = self._layer(inquiry)
        target = inquiry.target
        with _ONE_AT_A_TIME, _quiet():
            scored = self._prepared(inquiry, target)
            rows = [self._of_row(scored, inquiry, row, layer) for row in range(len(inquiry.inputs))]
        values = torch.cat(rows)
        if self.about.layer:
            assert layer is not None
            values = resized(layer.layout.to_map(values).sum(1), inquiry.size)
        if options["absolute"]:
            values = values.abs()
        if options["normalize"]:
            values = normalised(values)
        details = {} if "seed" not in self.given else {"seed": self.given["seed"]}
        return Attribution(values, layer, details)

    def _prepared(self, inquiry: Inquiry, target: Target) -> _Scored:
        """Give the score as captum takes it."""
        plain = _Scored(inquiry.model, inquiry, target)
        if not self.about.hooks:
            return plain
        relevance = self.method == "lrp"
        copy = HookableModel(
            inquiry.model, own_parameters=relevance, split_pools=self.about.adds_up
        )
        scored = _Scored(copy, inquiry, target)
        picture = inquiry.inputs[:1]
        with torch.no_grad():
            expected, found = plain(picture), scored(picture)
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise NotApplicableError(
                f"captum needs each activation as a layer, and {type(inquiry.model).__name__} does "
                f"not give the same when they are"
            )
        if self.method in ("deconvolution", "guided_gradcam") and nn.ReLU not in copy.types:
            raise NotApplicableError(f"{type(inquiry.model).__name__} has no ReLU")
        if relevance:
            check_rules(copy)
        return scored

    def _of_row(self, scored: _Scored, inquiry: Inquiry, row: int, layer: Layer | None) -> Tensor:
        """Give captum's values of one picture, ``[1, …]``."""
        picture = inquiry.inputs[row : row + 1].contiguous().clone().requires_grad_()
        scored.row = row
        if self.method == "lrp":
            give_rules(scored)
        made, called = self._arguments(scored, inquiry, row, layer)
        kind = getattr(captum.attr, self.about.captum)
        method = kind(**made) if "attribution_method" in made else kind(scored, **made)
        if "seed" in self.given:
            _seed(self.given["seed"])
        given = method.attribute(picture, **called)
        values: Tensor = given[0] if isinstance(given, tuple) else given
        if self.about.adds_up:
            self._check_sum(scored, picture, called["baselines"], values)
        return precise(values.detach())

    def _arguments(
        self, scored: _Scored, inquiry: Inquiry, row: int, layer: Layer | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give the arguments of captum's constructor, and of its ``attribute``."""
        picture = inquiry.inputs[row : row + 1].contiguous()
        at_once = pictures_at_once(picture, graph=self.about.hooks)
        called = {key: value for key, value in self.given.items() if key not in ("seed", "layer")}
        constructor = ("multiply_by_inputs", "eps", "interpretable_model", "similarity_func",
                       "perturb_func")  # fmt: skip
        made = {key: called.pop(key) for key in constructor if key in called}
        made = {key: value for key, value in made.items() if value is not None}
        if layer is not None:
            made["layer"] = scored.model.get_submodule(f"model.{layer.name}")
        if "attribution_method" in called:
            name = called.pop("attribution_method")
            made["attribution_method"] = _NOISY[name](scored)
            called |= {"abs": False} if name == "saliency" else {}
        if "baselines" in called:
            of = called["baselines"]
            called["baselines"] = (
                baselines_of(of, picture)
                if self.about.options["baselines"].own
                else baseline_of(of, inquiry.inputs)[row : row + 1]
            ).contiguous()
        if "feature_mask" in called:
            called["feature_mask"] = features_of(called["feature_mask"], picture, self.method)
        if "sliding_window_shapes" in called:
            height, width = inquiry.size
            window = window_of(
                called["sliding_window_shapes"], picture, (-(-height // 8), -(-width // 8))
            )
            half = (-(-window[1] // 2), -(-window[2] // 2))
            called["sliding_window_shapes"] = window
            called["strides"] = window_of(called["strides"], picture, half)
        for key in ("perturbations_per_eval", "internal_batch_size"):
            if key in called and called[key] is None:
                called[key] = at_once
        return made, called

    def _check_sum(
        self, scored: _Scored, picture: Tensor, baselines: Tensor, values: Tensor
    ) -> None:
        """Check that DeepLIFT's values add up, which they do if all that bends has a rule.

        Raises:
            NotApplicableError: If they do not.
        """
        if not self.given["multiply_by_inputs"]:
            return
        with torch.no_grad():
            score = scored(picture)
            rise = float(score - scored(baselines).mean())
        total, sizes = float(values.detach().sum()), float(values.detach().abs().sum())
        if not abs(total - rise) <= _MISSING * abs(rise) + 1e-4 * sizes + 1e-6 * abs(float(score)):
            raise NotApplicableError(
                f"captum's DeepLIFT has no rule for something in the model, such as GELU, products "
                f"or attention: its values add up to {total:.3g}, and the score rises by {rise:.3g}"
            )


class _Scored(nn.Module):
    """Gives the scores of one picture's target, as captum takes them."""

    def __init__(self, model: nn.Module, inquiry: Inquiry, target: Target) -> None:
        super().__init__()
        self.model = model
        self.row = 0
        self.in_parts = not isinstance(model, HookableModel)
        self._task = target.task
        self._target = target
        self._at_once = partial(pictures_at_once, inquiry.inputs)
        dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
        self._dtype = dtypes.pop() if len(dtypes) == 1 else inquiry.dtype

    def forward(self, pictures: Tensor) -> Tensor:
        """Give the scores ``[N]`` of changed pictures ``[N, C, H, W]``, in parts that fit."""
        count = len(pictures)
        if not self.in_parts:
            return self._score(pictures)
        if not torch.is_grad_enabled():
            parts = in_chunks(count, self._at_once(graph=False), lambda s: self._score(pictures[s]))
            return torch.cat([part for _, part in parts])
        size = self._at_once(graph=True)
        if count <= size:
            return self._score(pictures)
        scores: list[Tensor] = [
            checkpoint(self._score, part, use_reentrant=False)
            for part in torch.split(pictures, size)
        ]
        return torch.cat(scores)

    def _score(self, pictures: Tensor) -> Tensor:
        fed = pictures.to(self._dtype) if pictures.dtype != self._dtype else pictures.clone()
        _, logits = run_heads(self.model, fed, self._task)
        rows = torch.full((len(pictures),), self.row, device=logits.device)
        return self._target.score(logits, rows)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what captum warns of, which is that it puts hooks and takes them away."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"captum\.")
        yield


def _seed(seed: int) -> None:
    """Seed the generators that captum draws from; whoever explains puts them back."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
