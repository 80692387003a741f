"""Every installed backbone's class, found through the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_core.lookup import class_getter

if TYPE_CHECKING:
    from zoo_resnet.model import CNNBackbone as CNNBackbone
    from zoo_timm.model import TimmBackbone as TimmBackbone
    from zoo_vit.model import VisionTransformer as VisionTransformer
    from zoo_vit.model import ViTSpatial as ViTSpatial

__getattr__, __dir__ = class_getter(__name__, "backbone")
