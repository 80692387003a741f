"""Every installed attention module's class, found through the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_core.lookup import class_getter

if TYPE_CHECKING:
    from zoo_attention.channel import EfficientChannelAttention as EfficientChannelAttention
    from zoo_attention.channel import SqueezeExcitation as SqueezeExcitation
    from zoo_attention.context import GlobalContext as GlobalContext
    from zoo_attention.context import NonLocal as NonLocal
    from zoo_attention.spatial import BAM as BAM
    from zoo_attention.spatial import ConcurrentSqueezeExcitation as ConcurrentSqueezeExcitation
    from zoo_attention.spatial import CoordinateAttention as CoordinateAttention
    from zoo_attention.spatial import SimAM as SimAM
    from zoo_cbam.model import CBAM as CBAM
    from zoo_timm.attention import TimmAttention as TimmAttention

__getattr__, __dir__ = class_getter(__name__, "attention")
