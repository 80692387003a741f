"""Which of a backbone's maps serves as which level of a decoder.

Decoders of smp are made for maps of strides 2, 4, 8, 16 and 32. Strides are counted here in
powers of two: a ViT of stride 14 has levels as one of stride 16 has, of a picture that is 16 / 14
as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

PLACES: Final = (2, 4, 8, 16, 32)


class Keeps(Enum):
    """Whose strides a decoder takes as they are, when its levels would have others."""

    NONE = "none"
    FINER = "maps finer than their level, as a dilated backbone's are"
    LAST = "the last map"
    ALL = "all maps"


class Level(NamedTuple):
    """One level of a decoder.

    Attributes:
        source: Which map it is made of.
        step: How often that map is doubled (positive) or halved (negative).
        stride: Its stride then.
    """

    source: int
    step: int
    stride: int


def power(stride: int) -> int:
    """Give the power of two that is nearest to a stride."""
    return int(2 ** round(math.log2(stride)))


def levels_for(
    strides: Sequence[int], reads: Sequence[int], empty: Sequence[int], keeps: Keeps
) -> list[Level | None]:
    """Give the levels of a decoder, shallow to deep.

    A map stands at the level of its stride. Of several maps of one stride, the deeper stand at
    deeper levels: those of a plain ViT, as in a simple feature pyramid, at strides 4, 8, 16 and
    32. Where a level has no map, it is made from the one at the nearest level.

    Args:
        strides: Those of the maps.
        reads: Those of the decoder's levels.
        empty: Those of the levels that may be without a map: they are ``None`` then.
        keeps: Which maps stay as they are.
    """
    own = [power(stride) for stride in strides]
    places = _places(own)
    is_spread = len(set(own)) == 1
    levels: list[Level | None] = []
    for wanted in reads:
        is_last = keeps is Keeps.LAST and wanted == reads[-1]
        if not is_last and wanted not in places and wanted in empty:
            levels.append(None)
            continue
        source = len(own) - 1 if is_last else _nearest(places, wanted)
        finer = own[source] < wanted == places[source] and not is_spread
        stays = is_last or keeps is Keeps.ALL or (keeps is Keeps.FINER and finer)
        stride = own[source] if stays else wanted
        step = (own[source].bit_length() - 1) - (stride.bit_length() - 1)
        levels.append(Level(source, step, stride))
    return levels


def _places(own: Sequence[int]) -> list[int]:
    """Give each map a level of its own; one below the shallowest level means none."""
    pyramid = PLACES[1:]
    if len(set(own)) == 1 and len(own) > len(pyramid):
        evenly = {
            len(own) * number // len(pyramid) - 1: place
            for number, place in enumerate(pyramid, start=1)
        }
        return [evenly.get(index, 0) for index in range(len(own))]
    places = list(own)
    for index in range(1, len(places)):
        places[index] = max(places[index], 2 * places[index - 1])
    places[-1] = min(max(places[-1], PLACES[0]), PLACES[-1])
    for index in reversed(range(len(places) - 1)):
        places[index] = min(places[index], places[index + 1] // 2)
    return places


def _nearest(places: Sequence[int], wanted: int) -> int:
    """Give the map at the nearest level, of two that are as near the shallower."""
    usable = [index for index, place in enumerate(places) if place >= PLACES[0]]
    return min(usable, key=lambda index: abs(math.log2(places[index] / wanted)))
