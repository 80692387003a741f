"""Every installed decoder's class, found through the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_core.lookup import class_getter

if TYPE_CHECKING:
    from zoo_unet.model import UNetDecoder as UNetDecoder

__getattr__, __dir__ = class_getter(__name__, "decoder")
