"""Checking options, and making of them what captum takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo_captum.methods import METHODS, Kind
from zoo_core.errors import InputError

MOST_FEATURES: Final = 7
"""So many features have 5,040 orders."""


def checked(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give all options of a method.

    Raises:
        InputError: If there is no such method or option, or a value cannot be.
    """
    if method not in METHODS:
        raise InputError(
            f"zoo-captum gives no method {method!r} of captum; it has {', '.join(METHODS)}"
        )
    known = METHODS[method].options
    for name, value in given.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"captum/{method} has no option {name!r}; {has}")
        option = known[name]
        if value is None and option.default is None:
            continue
        if not _FITS[option.kind](value) or (option.names and value not in option.names):
            wanted = " or ".join(map(repr, option.names)) or option.kind.value
            raise InputError(f"{name} of captum/{method} must be {wanted}, not {_short(value)}")
    return {name: given.get(name, option.default) for name, option in known.items()}


def baseline_of(value: float | Tensor | None, inputs: Tensor) -> Tensor:
    """Give the picture that stands for nothing, for each of the inputs ``[B, C, H, W]``.

    Raises:
        InputError: If it does not broadcast to them.
    """
    if value is None:
        return torch.zeros_like(inputs)
    try:
        return torch.as_tensor(value).detach().to(inputs).expand_as(inputs)
    except RuntimeError:
        shape = list(value.shape) if isinstance(value, Tensor) else value
        raise InputError(f"baselines of {shape} do not broadcast to {list(inputs.shape)}") from None


def baselines_of(value: Tensor | None, picture: Tensor) -> Tensor:
    """Give pictures ``[N, C, H, W]`` that stand for nothing, for one picture ``[1, C, H, W]``.

    Raises:
        InputError: If they are not of the picture's size.
    """
    if value is None:
        least, most = (of(picture, (2, 3), keepdim=True) for of in (torch.amin, torch.amax))
        return torch.cat([torch.zeros_like(least), least, most]).expand(-1, *picture.shape[1:])
    if value.shape[1:] != picture.shape[1:]:
        raise InputError(
            f"baselines must be [N, {', '.join(map(str, picture.shape[1:]))}], not "
            f"{list(value.shape)}"
        )
    return value.detach().to(picture)


def features_of(value: int | Tensor, picture: Tensor, method: str) -> Tensor:
    """Give the number of the feature that each value of a picture belongs to, ``[1, C, H, W]``.

    Raises:
        InputError: If they do not fit the picture, or are too many for the method.
    """
    size = picture.shape[-2:]
    if isinstance(value, Tensor):
        mask = value.detach().to(picture.device).long()
        if mask.shape not in (size, picture.shape[1:]):
            raise InputError(
                f"feature_mask must be {list(size)} or {list(picture.shape[1:])}, not "
                f"{list(value.shape)}"
            )
    else:
        rows, columns = (torch.arange(side, device=picture.device) * value // side for side in size)
        mask = rows[:, None] * value + columns
    # captum counts up to the greatest number
    mask = torch.unique(mask, return_inverse=True)[1]
    count = int(mask.max()) + 1
    if method == "shapley_values" and count > MOST_FEATURES:
        raise InputError(
            f"feature_mask of captum/shapley_values has {count} features, whose orders are too "
            f"many; give {MOST_FEATURES} at most, or take captum/shapley_value_sampling"
        )
    if method == "kernel_shap" and count < 2:
        raise InputError("feature_mask of captum/kernel_shap must have two features or more")
    expanded: Tensor = mask.expand_as(picture[0])[None].contiguous()
    return expanded


def window_of(value: Any, picture: Tensor, otherwise: tuple[int, int]) -> tuple[int, int, int]:
    """Give channels, height and width of a window, which fits into the picture."""
    given = otherwise if value is None else value
    sides = (given, given) if isinstance(given, int) else tuple(given)
    if len(sides) == 2:
        sides = (picture.shape[1], *sides)
    channels, height, width = (
        min(one, most) for one, most in zip(sides, picture.shape[1:], strict=True)
    )
    return channels, height, width


def _is_whole(value: object, least: int = 1, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_window(value: object) -> bool:
    if isinstance(value, tuple | list):
        return len(value) in (2, 3) and all(map(_is_whole, value))
    return _is_whole(value)


def _are_features(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.ndim in (2, 3) and value.numel() > 0 and not value.is_floating_point()
    return _is_whole(value)


_FITS: Final[Mapping[Kind, Callable[[Any], bool]]] = {
    Kind.FLAG: lambda value: isinstance(value, bool),
    Kind.COUNT: _is_whole,
    Kind.SEED: lambda value: _is_whole(value, 0, 2**32 - 1),
    Kind.POSITIVE: lambda value: _is_number(value) and value > 0,
    Kind.SPREAD: lambda value: _is_number(value) and value >= 0,
    Kind.BASELINE: lambda value: isinstance(value, Tensor) or _is_number(value),
    Kind.BASELINES: lambda value: isinstance(value, Tensor) and value.ndim == 4 and len(value) > 0,
    Kind.FEATURES: _are_features,
    Kind.WINDOW: _is_window,
    Kind.LAYER: lambda value: isinstance(value, str | nn.Module),
    Kind.NAME: lambda value: isinstance(value, str),
    Kind.OBJECT: lambda value: True,
}


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {value.dtype}"
    return repr(value) if len(repr(value)) < 60 else type(value).__name__
