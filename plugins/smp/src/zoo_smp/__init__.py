"""The decoders of segmentation_models_pytorch (https://github.com/qubvel-org/segmentation_models.pytorch)."""

from collections.abc import Iterable
from typing import Final

from zoo_core.hookspecs import hookimpl
from zoo_core.spec import Source, Spec
from zoo_smp.options import OPTIONS

ZOO_API = (1, 0)

_SUMMARIES: Final = {
    "unet": "smp's U-Net: step-by-step upsampling with skip connections",
    "unetplusplus": "smp's U-Net++: a U-Net with densely nested skips",
    "manet": "smp's MA-Net: a U-Net with position-wise and multi-scale attention",
    "linknet": "smp's LinkNet: light upsampling, skips are added",
    "fpn": "smp's feature pyramid network",
    "pspnet": "smp's PSPNet: pyramid pooling of the last map",
    "deeplabv3": "smp's DeepLab v3: atrous pyramid of the last map",
    "deeplabv3plus": "smp's DeepLab v3+: atrous pyramid, refined by a map of stride 4",
    "pan": "smp's pyramid attention network",
    "upernet": "smp's UPerNet: feature pyramid with pyramid pooling",
    "segformer": "smp's SegFormer head: all levels by linear layers to one width",
    "dpt": "smp's DPT: learnt resampling and residual fusion, made for ViTs",
}


_TARGET: Final = "zoo_smp.model:SmpDecoder"


def _spec(name: str) -> Spec:
    """Describe one decoder by its name in smp."""
    return Spec(
        kind="decoder",
        name=f"smp/{name}",
        target=_TARGET,
        kwargs={"name": name},
        summary=_SUMMARIES[name],
        options={spelling: option.line for spelling, option in OPTIONS[name].items()},
    )


@hookimpl
def zoo_sources() -> Iterable[Source]:
    """Give the decoders."""
    yield Source(
        kind="decoder",
        prefix="smp/",
        names=lambda: tuple(OPTIONS),
        spec=_spec,
        target=_TARGET,
        summary="the decoders of segmentation_models_pytorch",
    )
