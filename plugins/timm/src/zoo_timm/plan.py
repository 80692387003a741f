"""How one architecture of timm is run as a backbone, worked out before it is constructed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import timm
from timm.models import get_deprecated_models, get_pretrained_cfg

from zoo_core.errors import InputError
from zoo_timm.readout import Readout, find_readout
from zoo_timm.sizes import Size, Sizing, find_sizing, on_grid, units
from zoo_timm.twin import Twin

# Constructor arguments that make a model take other sizes than its own, where it has them.
_FLEXIBLE = {"dynamic_img_size": True, "strict_img_size": False}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What trying a model out on the meta device has shown.

    Attributes:
        options: Arguments for ``timm.create_model``.
        layout: What ``forward_intermediates`` is asked for: ``NCHW``, or tokens, ``NLC``.
        taps: Indices of the maps, for ``forward_intermediates``.
        channels: Channels of the maps.
        strides: Strides of the maps.
        sizing: How pictures are made to fit.
        readout: Where the pooled vector comes from.
        adapted: Whether pictures are turned into three channels first.
        tensors: Names of all of timm's own tensors, the classifier's included.
    """

    options: Mapping[str, Any]
    layout: str
    taps: Sequence[int]
    channels: Sequence[int]
    strides: Sequence[int]
    sizing: Sizing
    readout: Readout
    adapted: bool
    tensors: Sequence[str]


@lru_cache(maxsize=64)
def make_plan(name: str, in_channels: int, image_size: Size | None) -> Plan:
    """Try an architecture out.

    Args:
        name: Its name in timm, without a tag.
        in_channels: Channels of the pictures.
        image_size: Height and width that a model of one size is made for, if it can be.

    Raises:
        InputError: If timm has no such architecture, or it cannot have so many channels.
        ContractError: If it cannot be run as a backbone.
    """
    _check_name(name)
    # timm says with an empty list that no convolution sees the picture: the stem is for RGB only.
    stem = getattr(get_pretrained_cfg(name), "first_conv", None)
    adapted = in_channels != 3 and stem == []
    twin = _flexible_twin(name, 3 if adapted else in_channels)
    _, height, width = twin.model.pretrained_cfg["input_size"]
    native = (height, width)
    twin = _settled(twin, native)
    sizing = find_sizing(twin.map_sizes, twin.strides, native)
    if sizing is None or _is_tied_to_size(twin, native):
        twin, size = _made_to_measure(twin, native, image_size)
        sizing = Sizing(fixed=size, on_grid=False)
    else:
        size = sizing.padded(native)
    channels = [tapped.shape[1] for tapped in twin.maps(size)]
    return Plan(
        options=twin.options,
        layout=twin.layout,
        taps=tuple(twin.taps),
        channels=tuple(channels),
        strides=tuple(twin.strides),
        sizing=sizing,
        readout=find_readout(twin, size, channels[-1]),
        adapted=adapted,
        tensors=tuple(twin.model.state_dict()),
    )


def _flexible_twin(name: str, channels: int) -> Twin:
    """Give a twin that takes as many sizes as timm can make it take."""
    plain = {"in_chans": channels}
    twin, given = _first_twin(name, plain)
    flexible = {key: value for key, value in _FLEXIBLE.items() if twin.has_argument(key)}
    # Some constructors take any argument, also those that do nothing.
    return twin if flexible.keys() == given else Twin(name, plain | flexible)


def _first_twin(name: str, plain: Mapping[str, Any]) -> tuple[Twin, set[str]]:
    """Give a twin with the most of the flexible arguments that it puts up with, and which.

    Refusing an argument takes next to no time, and which ones a model has is not to be seen before
    it is constructed.
    """
    for keys in (set(_FLEXIBLE), *({key} for key in _FLEXIBLE)):
        try:
            return Twin(name, {**plain, **{key: _FLEXIBLE[key] for key in keys}}), keys
        except InputError:
            continue
    return Twin(name, plain), set()


def _settled(twin: Twin, native: Size) -> Twin:
    """Give a twin that runs and knows its taps.

    Raises:
        ContractError: If the model cannot be run.
    """
    # A few models, once flexible, refuse their own size, which their patches do not divide.
    rounded = Sizing(unit=max(twin.strides)).padded(native)
    # To give maps instead of tokens, a few read values, of which a twin has none.
    for layout in ("NCHW", "NLC"):
        candidate = twin if layout == twin.layout else Twin(twin.name, twin.options, layout)
        if candidate.settle(native) or candidate.settle(rounded):
            return candidate
    twin.maps(rounded)
    return twin


def _is_tied_to_size(twin: Twin, native: Size) -> bool:
    """Tell whether parameters depend on the size that a model is made for.

    Such a model may seem to run at other sizes on the meta device, where indices out of range go
    unnoticed. Models with a switch for other sizes resample those parameters.
    """
    if not twin.has_argument("img_size") or any(key in twin.options for key in _FLEXIBLE):
        return False
    try:
        other = twin.made_for((2 * native[0], 2 * native[1]))
    except InputError:
        return False

    def shapes(one: Twin) -> list[tuple[int, ...]]:
        return [tuple(parameter.shape) for parameter in one.model.parameters()]

    return shapes(other) != shapes(twin)


def _made_to_measure(twin: Twin, native: Size, image_size: Size | None) -> tuple[Twin, Size]:
    """Give a model of one size, made for the next size above the one asked for if it can be."""
    if image_size is not None and image_size != native and twin.has_argument("img_size"):
        for size in _sizes_above(image_size, units(twin.strides, native)[1:]):
            try:
                candidate = twin.made_for(size)
            except InputError:
                continue
            if candidate.map_sizes(size):
                return candidate, size
    return twin, native


def _sizes_above(size: Size, steps: Sequence[int]) -> Iterator[Size]:
    square = (max(size), max(size))
    for shape in dict.fromkeys((size, square)):
        for step in steps:
            height, width = on_grid(shape, [step])[0]
            yield height * step, width * step


def _check_name(name: str) -> None:
    successors = get_deprecated_models()
    # timm also takes an architecture's name with a tag.
    if timm.is_model(name) and "." not in name and name not in successors:
        return
    successor = successors.get(name)
    if successor:
        raise InputError(f"timm has renamed {name!r} to {successor.partition('.')[0]!r}")
    near = get_close_matches(name, timm.list_models(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise InputError(f"timm {timm.__version__} has no architecture {name!r}{hint}")
