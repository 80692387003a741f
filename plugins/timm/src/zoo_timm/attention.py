"""timm's attention modules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import timm.layers
import torch.nn.functional as F
from torch import Tensor

from zoo_core.contracts import Attention
from zoo_core.errors import InputError
from zoo_timm.attention_names import FLAG, GATE, MODULES, NUMBER, ODD, OPTIONS, WHOLE

_LAYERS: Any = timm.layers  # its functions have no types


class TimmAttention(Attention):
    """An attention module of timm, as ``timm.layers.create_attn`` makes it.

    All take maps of any size. timm's ``halo`` takes whole blocks only: zeros are added at the
    bottom and right, which is what it sees beyond the edges of a map anyway, and cut off again.

    Left out are three of timm 1.0.31's: ``ge``, whose constructor raises a ``TypeError``;
    ``bottleneck``, whose position table is made for one size of map, which an attention does not
    know when it is constructed; and ``bat``, which takes multiples of its block of 7 pixels only,
    and whose batch norms and maxima would see whatever a map is filled up with.

    Where there is a batch norm, training needs more than one value a channel: ``sk`` cannot be
    trained with a batch of one picture, nor ``cbam``, ``lcbam``, ``lambda`` and ``nl`` if its map
    is a single pixel too. ``lambda`` has a 3D convolution, which torch does not move to
    ``channels_last``; maps of that layout are taken all the same.

    The timm module stands in ``module``.

    Args:
        in_channels: Channels of the map; a multiple of two for ``sk``, of ``radix`` for ``splat``,
            of ``num_heads`` for ``lambda`` and ``halo``.
        name: The module's name in timm.
        options: Its options, as :data:`zoo_timm.attention_names.OPTIONS` describes them.

    Raises:
        InputError: If there is no such module, it has no such option, or a value cannot be.
    """

    module: Any  # timm's modules have no type in common

    def __init__(self, in_channels: int, name: str, **options: Any) -> None:
        super().__init__()
        if name not in MODULES:
            raise InputError(
                f"zoo-timm gives no attention {name!r} of timm; it has {', '.join(MODULES)}"
            )
        if not _is_whole(in_channels):
            raise InputError(f"in_channels of timm/{name} must be {WHOLE}, not {in_channels!r}")
        _check_options(name, options)
        module = _LAYERS.get_attn(name)
        defaults = inspect.signature(module).parameters
        given = {option: options.get(option, defaults[option].default) for option in defaults}
        multiple = _multiple(name, given)
        if in_channels % multiple:
            raise InputError(
                f"timm/{name} needs a multiple of {multiple} channels here, not {in_channels}"
            )
        self._block: int = given["block_size"] if name == "halo" else 0
        self.module = module(in_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Refine ``[B, C, H, W]`` into the same shape."""
        if not self._block:
            refined: Tensor = self.module(x)
            return refined
        height, width = x.shape[2:]
        padded = F.pad(x, (0, self._missing(width), 0, self._missing(height)))
        cut: Tensor = self.module(padded)[..., :height, :width]
        return cut

    def _missing(self, side: int) -> int:
        # A block more than needed: export would tie a program to maps of one block, or of several.
        return (-(-side // self._block) + 1) * self._block - side


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    known = MODULES[name][1]
    for option, value in options.items():
        if option not in known:
            raise InputError(f"timm/{name} has no option {option!r}; it has {', '.join(known)}")
        rule = OPTIONS[option][1]
        if not _RULES[rule](value):
            raise InputError(f"{option} of timm/{name} must be {rule}, not {value!r}")


def _multiple(name: str, given: Mapping[str, Any]) -> int:
    """Give what the channels must be a multiple of."""
    if name == "sk":
        return 2 if given["split_input"] else 1
    option = {"splat": "radix", "lambda": "num_heads", "halo": "num_heads"}.get(name)
    return given[option] if option else 1


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value < math.inf


def _is_activation(value: object) -> bool:
    try:
        return isinstance(value, str) and _LAYERS.get_act_layer(value) is not None
    except KeyError:
        return False


_RULES: Final[dict[str, Callable[[Any], bool]]] = {
    NUMBER: _is_number,
    WHOLE: _is_whole,
    ODD: lambda value: _is_whole(value) and value % 2 == 1,
    FLAG: lambda value: isinstance(value, bool),
    GATE: _is_activation,
}
