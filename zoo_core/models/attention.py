"""Every installed attention module's class, found through the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_core.lookup import class_getter

if TYPE_CHECKING:
    from zoo_cbam.model import CBAM as CBAM

__getattr__, __dir__ = class_getter(__name__, "attention")
