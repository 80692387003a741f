"""Published weights of ConvMixer, and a folder that they may be taken from; no torch here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from zoo_core import Preprocessing, WeightsEntry

_PUBLISHED: Final = {
    "birdhouse/convmixer_1024_20_k9_p14": "timm/convmixer_1024_20_ks9_p14.in1k",
    "birdhouse/convmixer_1536_20_k9_p7": "timm/convmixer_1536_20.in1k",
}

ENTRIES: Final = tuple(
    WeightsEntry(
        component=component,
        tag="in1k",
        repository=repository,
        preprocessing=Preprocessing(size=(224, 224), crop=0.96, interpolation="bicubic"),
        classes=1000,
        labels="imagenet-1k",
        licence="mit",
        source="timm 1.0.31, pretrained configuration",
    )
    for component, repository in _PUBLISHED.items()
)
"""Revision and hash are left out: nobody has read them from the Hub yet."""


def mirrored(entry: WeightsEntry) -> Path | None:
    """Give an entry's file in the folder that BIRDHOUSE_MIRROR names, laid out as the Hub is."""
    folder = os.environ.get("BIRDHOUSE_MIRROR")
    path = Path(folder, entry.repository, entry.filename) if folder else None
    return path if path and path.is_file() else None
