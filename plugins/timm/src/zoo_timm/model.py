"""Any architecture of timm, run as a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core.contracts import Backbone, ChannelSchedule, Features
from zoo_core.errors import InputError
from zoo_timm.plan import Plan, make_plan
from zoo_timm.sizes import on_grid
from zoo_timm.taps import lay_out


class TimmBackbone(Backbone):
    """A backbone of timm: the last map of each stride, and timm's own pooled vector.

    A model whose blocks all have one stride, such as a ViT, gives four evenly spaced ones, the
    last included. Pictures may have any size: they are padded at the bottom and right to what the
    model can divide or, where it has one size only, resized to it and the maps resized back.

    The timm model stands in ``model``, without its classifier.

    Args:
        model_name: The architecture's name in timm, without a tag.
        pretrained: Whether to load the default weights.
        in_channels: Channels of the pictures.
        image_size: Side, or height and width, that a model of one size is made for, if it can be
            made for another than its own; the next larger size it takes is used. Other models
            take all sizes and do not heed it.
        pooled: Whether :meth:`forward_features` is wanted; without it, the layers that only the
            pooled vector needs are left out, so that maps alone train every parameter.

    Raises:
        InputError: If timm has no such architecture, or an argument cannot be.
        ContractError: If the architecture cannot be run as a backbone.
        WeightsError: If pretrained weights cannot be had.
    """

    state_prefix = "model."

    model: Any  # timm's models have no type in common

    def __init__(
        self,
        model_name: str,
        pretrained: bool = False,
        in_channels: int = 3,
        image_size: int | tuple[int, int] | None = None,
        pooled: bool = True,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise InputError(f"in_channels must be at least 1, not {in_channels}")
        plan = make_plan(model_name, in_channels, _pair(image_size))
        self.model_name = model_name
        self.in_channels = in_channels
        self.pooled = pooled
        self.adapter = nn.Conv2d(in_channels, 3, 1) if plan.adapted else None
        if not pretrained:
            self.model = _construct(model_name, plan, pooled)
            self._take(plan)
            return
        from zoo_core.weights import built_for_loading, load_pretrained

        self.model = built_for_loading(lambda: _construct(model_name, plan, pooled))
        self._take(plan)
        load_pretrained(self, f"timm/{model_name}")

    def _take(self, plan: Plan) -> None:
        """Keep what the forward passes need as plain values."""
        self._taps = list(plan.taps)
        self._layout = plan.layout
        self._schedule = ChannelSchedule(plan.channels, plan.strides)
        self._strides = list(plan.strides)
        self._unit = plan.sizing.unit
        self._minimum = plan.sizing.minimum
        self._pads = self._unit > 1 or self._minimum > 1
        self._fixed = plan.sizing.fixed
        self._on_grid = plan.sizing.on_grid
        self._has_head = plan.readout.has_head
        self._before_classifier = plan.readout.classifier is None
        self._pooled_channels = plan.readout.channels
        self.classifier = plan.readout.classifier
        first = self.model.pretrained_cfg.get("first_conv")
        self.first_conv = first if isinstance(first, str) else None
        own = self.model.state_dict()
        self.left_out = {
            name: "serves timm's classifier only" if self.pooled else "no map depends on it"
            for name in plan.tensors
            if name not in own and not name.startswith(f"{self.classifier}.")
        }

    def get_channel_schedule(self) -> ChannelSchedule:
        """Give channels and strides of the maps."""
        return self._schedule

    @property
    def pooled_channels(self) -> int:
        """Length of the pooled vector; the last map's channels without ``pooled``."""
        return self._pooled_channels if self.pooled else self._schedule[-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps of pictures ``[B, C, H, W]``, shallow to deep.

        The map of stride ``s`` is ``[B, channels, ceil(H / s), ceil(W / s)]``.

        Raises:
            InputError: If ``x`` has another shape.
        """
        fitted = self._fit(x)
        maps = self._run(fitted, intermediates_only=True, stop_early=True)
        return self._unfit(maps, x, fitted)

    def forward_features(self, x: Tensor) -> Features:
        """Give maps and the pooled vector ``[B, pooled_channels]`` in one pass.

        The pooled vector is what timm's classifier reads; the last map's average where the model
        has no head.

        Raises:
            InputError: If ``x`` has another shape, or the backbone has no pooled vector.
        """
        if not self.pooled:
            raise InputError(
                f"timm/{self.model_name} was constructed with pooled=False and has no pooled "
                f"vector; construct it with pooled=True"
            )
        fitted = self._fit(x)
        final, maps = self._run(fitted, stop_early=False)
        maps = self._unfit(maps, x, fitted)
        return Features(maps, self._pool(final, maps))

    def _run(self, x: Tensor, **options: bool) -> Any:
        return self.model.forward_intermediates(
            x, indices=self._taps, output_fmt=self._layout, **options
        )

    def _pool(self, final: Tensor, maps: list[Tensor]) -> Tensor:
        if not self._has_head:
            return maps[-1].mean((-2, -1))
        pooled: Tensor = self.model.forward_head(final, pre_logits=self._before_classifier)
        return pooled

    def _fit(self, x: Tensor) -> Tensor:
        """Give pictures of a size and with channels that the model takes."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise InputError(
                f"timm/{self.model_name} takes [B, {self.in_channels}, H, W], not {list(x.shape)}"
            )
        if self.adapter is not None:
            x = self.adapter(x)
        if self._fixed is not None:
            # On CPUs, torch smooths nothing of half precision.
            wide = x.float() if x.dtype.itemsize < 4 else x
            return F.interpolate(wide, self._fixed, mode="bilinear", antialias=True).to(x.dtype)
        if self._pads:
            return _resized(x, [self._padded(side) for side in x.shape[-2:]])
        return x

    def _padded(self, side: int) -> int:
        # Not by negative numbers, whose quotient ONNX rounds the other way.
        side = (side + self._unit - 1) // self._unit * self._unit
        if self._minimum <= self._unit:
            return side
        # The builtin would tie an exported graph to one of its branches.
        return cast(int, torch.sym_max(side, self._minimum))

    def _unfit(self, maps: list[Tensor], x: Tensor, fitted: Tensor) -> list[Tensor]:
        """Give maps of the sizes that pictures ``x`` call for."""
        wanted = on_grid((x.shape[-2], x.shape[-1]), self._strides)
        maps = lay_out(maps, fitted.shape[-2:], self._strides)
        if not self._on_grid:
            seen = x if self._fixed is not None else fitted
            sizes = on_grid((seen.shape[-2], seen.shape[-1]), self._strides)
            maps = [
                F.interpolate(tapped, size, mode="bilinear")
                for tapped, size in zip(maps, sizes, strict=True)
            ]
        if self._pads:
            maps = [_resized(tapped, size) for tapped, size in zip(maps, wanted, strict=True)]
        return maps


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pad with zeros, or crop, at the bottom and right."""
    # Padding by less than nothing crops, and unlike a slice it exports for all sizes at once.
    return F.pad(x, [0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]])


def _construct(name: str, plan: Plan, pooled: bool) -> Any:
    """Build the model without its classifier and, unless pooled, without what follows the maps."""
    if plan.readout.classifier is None:
        # Several classifiers, or something else than a linear layer: timm removes them itself.
        model: Any = timm.create_model(name, num_classes=0, **plan.options)
    else:
        model = timm.create_model(name, **plan.options)
        model.set_submodule(plan.readout.classifier, nn.Identity())
    if not pooled:
        model.prune_intermediate_layers(list(plan.taps), prune_norm=True, prune_head=True)
    return model


def _pair(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise InputError(f"image_size must be positive, not {image_size}")
    return height, width
