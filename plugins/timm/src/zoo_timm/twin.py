"""A copy of a timm model that has shapes and no data, to try things on."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, signature
from types import MethodType
from typing import Any

import timm
import torch
from torch import Tensor, nn

from zoo_core.errors import ContractError, InputError
from zoo_core.shapes import on_meta
from zoo_timm.sizes import Size
from zoo_timm.taps import choose_taps, lay_out


class Twin:
    """A timm model on the meta device; it is never given data, nor weights.

    Args:
        name: The architecture's name in timm.
        options: Arguments of its constructor, ``in_chans`` among them.
        layout: What it is asked to give, ``NCHW`` or ``NLC``.

    Attributes:
        model: The timm model.
        taps: The indices of the maps that are asked of it; all before :meth:`settle`.
        strides: The strides of those maps.
        has_head: Whether the head is run as well; not before :meth:`settle`.

    Raises:
        InputError: If the model cannot be constructed so.
        ContractError: If it cannot give feature maps.
    """

    def __init__(self, name: str, options: Mapping[str, Any], layout: str = "NCHW") -> None:
        self.name = name
        self.options = dict(options)
        self.layout = layout
        self.has_head = False
        self._seen: dict[Size, tuple[Any, list[Tensor]]] = {}
        self.model = _construct(name, options)
        if not hasattr(self.model, "forward_intermediates"):
            raise ContractError(f"timm's {name!r} cannot be a backbone: it gives no feature maps")
        self.strides = [int(info["reduction"]) for info in self.model.feature_info]
        self.taps = list(range(len(self.strides)))

    def settle(self, size: Size) -> bool:
        """Choose taps, and find whether the head gives one vector a picture.

        Args:
            size: Height and width that suit the model.

        Returns:
            Whether the model could be run.
        """
        sizes = self.map_sizes(size)
        if sizes is None:
            return False
        strides = [
            _snapped(size, seen, stride) for seen, stride in zip(sizes, self.strides, strict=True)
        ]
        self.taps = choose_taps(strides)
        self.strides = [strides[tap] for tap in self.taps]
        final, taps = self._seen[size]
        self._seen = {size: (final, [taps[tap] for tap in self.taps])}
        try:
            pooled = self.head(size, pre_logits=True)
        except Exception:  # Encoders have a head that refuses; what it raises is up to timm.
            return True
        self.has_head = isinstance(pooled, Tensor) and pooled.ndim == 2
        return True

    def made_for(self, size: Size) -> Twin:
        """Give the same model constructed for pictures of another size.

        Raises:
            InputError: If it cannot be.
        """
        img_size = size[0] if size[0] == size[1] else size
        other = Twin(self.name, self.options | {"img_size": img_size}, self.layout)
        other.taps, other.strides, other.has_head = self.taps, self.strides, self.has_head
        return other

    def has_argument(self, argument: str) -> bool:
        """Tell whether the model's constructor has an argument, its bases' included."""
        for base in type(self.model).__mro__:
            parameters = signature(base).parameters
            if argument in parameters:
                return True
            if all(given.kind is not Parameter.VAR_KEYWORD for given in parameters.values()):
                break
        return False

    def maps(self, size: Size) -> list[Tensor]:
        """Give the maps of a picture of this height and width.

        Raises:
            ContractError: If the model cannot take it, or gives other maps than it says.
        """
        try:
            with on_meta():
                final, taps = self._run(size)
                maps = lay_out(taps, size, self.strides)
                if self.has_head:
                    self.model.forward_head(final, pre_logits=True)
        except Exception as error:  # Whatever the model raises, it does not take this size.
            raise ContractError(
                f"timm's {self.name!r} cannot be a backbone: at {size[0]}x{size[1]} it fails with "
                f"{type(error).__name__}: {_line(error)}"
            ) from error
        if any(tapped.ndim != 4 for tapped in maps):
            shapes = [list(tapped.shape) for tapped in maps]
            raise ContractError(
                f"timm's {self.name!r} cannot be a backbone: its maps are {shapes} instead of "
                f"[B, C, H, W]"
            )
        return maps

    def map_sizes(self, size: Size) -> list[Size] | None:
        """Give heights and widths of the maps; ``None`` if the model cannot take the picture."""
        try:
            sizes = [(tapped.shape[2], tapped.shape[3]) for tapped in self.maps(size)]
        except ContractError:
            return None
        return sizes if all(min(size) > 0 for size in sizes) else None

    def head(self, size: Size, **options: bool) -> Any:
        """Give what the model's head makes of a picture; raises whatever the model raises."""
        with on_meta():
            return self.model.forward_head(self._run(size)[0], **options)

    def _run(self, size: Size) -> tuple[Any, list[Tensor]]:
        """Give what the model makes of a picture: what its head takes, and what it tapped."""
        if size not in self._seen:
            picture = torch.zeros(1, self.options["in_chans"], *size)
            self._seen[size] = self.model.forward_intermediates(
                picture, indices=self.taps, output_fmt=self.layout, stop_early=False
            )
        return self._seen[size]


def _construct(name: str, options: Mapping[str, Any]) -> Any:
    try:
        with on_meta():
            model = timm.create_model(name, **options).eval()
    except Exception as error:  # Whatever a constructor raises, these arguments do not suit it.
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        raise InputError(f"timm cannot build {name!r} with {given}: {_line(error)}") from error
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            # On the meta device it is unrolled step by step, which takes half a minute.
            module.forward = MethodType(_lstm_shape, module)  # type: ignore[method-assign]
    return model


def _snapped(size: Size, seen: Size, stride: int) -> int:
    """Give the stride that a model declares unless the map it gives is of quite another."""
    measured = max(size) / max(seen)
    return stride if 2 / 3 < measured / stride < 3 / 2 else round(measured)


def _lstm_shape(lstm: nn.LSTM, x: Tensor) -> tuple[Tensor, None]:
    width = (lstm.proj_size or lstm.hidden_size) * (2 if lstm.bidirectional else 1)
    return x.new_empty(*x.shape[:-1], width), None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
