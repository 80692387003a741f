"""Every installed decoder's class, found through the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_core.lookup import class_getter

if TYPE_CHECKING:
    from zoo_decoders.deeplabv3plus import DeepLabV3PlusDecoder as DeepLabV3PlusDecoder
    from zoo_decoders.dpt import DPTDecoder as DPTDecoder
    from zoo_decoders.fpn import FPNDecoder as FPNDecoder
    from zoo_decoders.linear import LinearDecoder as LinearDecoder
    from zoo_decoders.segformer import SegFormerDecoder as SegFormerDecoder
    from zoo_decoders.upernet import UPerNetDecoder as UPerNetDecoder
    from zoo_smp.model import SmpDecoder as SmpDecoder
    from zoo_unet.model import UNetDecoder as UNetDecoder

__getattr__, __dir__ = class_getter(__name__, "decoder")
