"""What each of smp's decoders reads, and how its modules are built from channel lists."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from torch import nn

from zoo_smp.levels import PLACES, Keeps
from zoo_smp.pooling import replace_pooling


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One of smp's decoders.

    Attributes:
        target: ``"module:Class"`` under ``segmentation_models_pytorch.decoders``.
        head: ``"module:Class"`` of its segmentation head under ``segmentation_models_pytorch``.
        width: Gives the channels of its result from its parameters.
        stride: Stride of its result; 0 for that of its last map.
        kernel: Kernel size of its segmentation head.
        reads: Strides of its levels.
        empty: Those that may have no map and no channels.
        keeps: Which maps it takes at their own stride.
        unit: What the channels of its maps must be a multiple of.
        smallest: Least side of its last map, in pixels.
        pools: Whether it normalises averages of whole maps over the batch.
        unused: A layer of it that never runs.
        initialized: Whether smp gives it other initial values than torch does.
    """

    target: str
    width: Callable[[Mapping[str, Any]], int]
    head: str = "base.heads:SegmentationHead"
    stride: int = 4
    kernel: int = 1
    reads: Sequence[int] = PLACES[1:]
    empty: Sequence[int] = ()
    keeps: Keeps = Keeps.NONE
    unit: int = 1
    smallest: int = 1
    pools: bool = False
    unused: str = ""
    initialized: bool = True

    @property
    def decoder_class(self) -> Any:
        """The class, which importing smp gives."""
        return _smp(f"decoders.{self.target}")


STRUCTURES: Final = {
    "unet": Structure(
        target="unet.decoder:UnetDecoder",
        width=lambda given: int(given["decoder_channels"][-1]),
        stride=1,
        kernel=3,
        reads=PLACES,
        empty=PLACES[:-1],
        keeps=Keeps.FINER,
        unused="blocks.4.attention1",
    ),
    "unetplusplus": Structure(
        target="unetplusplus.decoder:UnetPlusPlusDecoder",
        width=lambda given: int(given["decoder_channels"][-1]),
        stride=1,
        kernel=3,
        reads=PLACES,
        empty=PLACES[:1],
        unused="blocks.x_0_4.attention1",
    ),
    "manet": Structure(
        target="manet.decoder:MAnetDecoder",
        width=lambda given: int(given["decoder_channels"][-1]),
        stride=1,
        kernel=3,
        reads=PLACES,
        empty=PLACES[:-1],
    ),
    "linknet": Structure(
        target="linknet.decoder:LinknetDecoder",
        width=lambda given: int(given["prefinal_channels"]),
        stride=1,
        reads=PLACES,
        empty=PLACES[:-1],
    ),
    "fpn": Structure(
        target="fpn.decoder:FPNDecoder",
        width=lambda given: (
            int(given["segmentation_channels"]) * (4 if given["merge_policy"] == "cat" else 1)
        ),
    ),
    "pspnet": Structure(
        target="pspnet.decoder:PSPDecoder",
        width=lambda given: int(given["out_channels"]),
        stride=0,
        kernel=3,
        reads=PLACES[-1:],
        keeps=Keeps.LAST,
        unit=4,
    ),
    "deeplabv3": Structure(
        target="deeplabv3.decoder:DeepLabV3Decoder",
        width=lambda given: int(given["out_channels"]),
        stride=0,
        reads=PLACES[-1:],
        keeps=Keeps.LAST,
        pools=True,
        initialized=False,
    ),
    "deeplabv3plus": Structure(
        target="deeplabv3.decoder:DeepLabV3PlusDecoder",
        width=lambda given: int(given["out_channels"]),
        reads=(4, 32),
        keeps=Keeps.LAST,
        pools=True,
        initialized=False,
    ),
    "pan": Structure(
        target="pan.decoder:PANDecoder",
        width=lambda given: int(given["decoder_channels"]),
        kernel=3,
        keeps=Keeps.FINER,
        smallest=8,
        pools=True,
    ),
    "upernet": Structure(
        target="upernet.decoder:UPerNetDecoder",
        width=lambda given: int(given["decoder_channels"]),
        keeps=Keeps.FINER,
        pools=True,
    ),
    "segformer": Structure(
        target="segformer.decoder:SegformerDecoder",
        width=lambda given: int(given["segmentation_channels"]),
        reads=PLACES,
        empty=PLACES[:1],
        keeps=Keeps.FINER,
    ),
    "dpt": Structure(
        target="dpt.decoder:DPTDecoder",
        width=lambda given: int(given["fusion_channels"]),
        head="decoders.dpt.decoder:DPTSegmentationHead",
        stride=2,
        kernel=3,
        keeps=Keeps.ALL,
    ),
}


def wired(channels: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
    """Give the parameters of decoder classes that follow from the maps.

    Args:
        channels: Channels at each of :data:`PLACES`, 0 where no map is read.
        strides: Strides of the maps that are read.
    """
    return {
        "encoder_channels": [0, *channels],
        "n_blocks": len(channels),
        "encoder_depth": len(channels),
        "in_channels": channels[-1],
        "output_stride": 16,  # of DeepLab v3+, whose upsampling is replaced
        "encoder_out_channels": [width for width in channels if width],
        "encoder_output_strides": list(strides),
        "encoder_has_prefix_tokens": False,
        "readout": "ignore",
    }


def build_modules(
    structure: Structure, output_channels: int, given: Mapping[str, Any], maps: Mapping[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """Give smp's decoder and segmentation head.

    Args:
        structure: Which one.
        output_channels: Channels of the logits.
        given: The decoder's parameters that users may set.
        maps: Those that follow from the maps, as :func:`wired` gives them.
    """
    cls = structure.decoder_class
    known = inspect.signature(cls).parameters
    given = dict(given)
    if given.get("use_norm") == "instancenorm":
        # Without parameters smp's initialisation fails on it.
        given["use_norm"] = {"type": "instancenorm", "affine": True}
    stride = maps["encoder_output_strides"][-1]
    with warnings.catch_warnings():
        # Torch warns of layers without channels; who calls refuses them.
        warnings.filterwarnings("ignore", "Initializing zero-element tensors", UserWarning)
        decoder = cls(**given, **{name: maps[name] for name in maps if name in known})
        head = _smp(structure.head)(
            structure.width(given),
            output_channels,
            kernel_size=structure.kernel,
            upsampling=structure.stride or stride,
        )
        if structure.initialized:
            _smp("base.initialization:initialize_decoder")(decoder)
            _smp("base.initialization:initialize_head")(head)
    replace_pooling(decoder)
    if structure.unused:
        decoder.set_submodule(structure.unused, nn.Identity())
    if hasattr(decoder, "up"):
        # DeepLab v3+, whose own knows of two strides only.
        decoder.up = nn.Upsample(scale_factor=stride / 4, mode="bilinear", align_corners=True)
    return decoder, head


def _smp(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(f"segmentation_models_pytorch.{module}"), attribute)
