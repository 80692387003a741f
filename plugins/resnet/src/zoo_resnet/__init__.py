"""ResNet backbones (He et al. 2015, https://arxiv.org/abs/1512.03385)."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)

OPTIONS = {"output_stride": "stride of the deepest map: 32, or 16 or 8 by dilation"}


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give the ResNets of depth 18 to 152."""
    return [
        Spec(
            kind="backbone",
            name=f"resnet{depth}",
            target="zoo_resnet.model:CNNBackbone",
            kwargs={"depth": depth},
            summary=f"ResNet of {depth} layers",
            channels=(64, 128, 256, 512) if depth < 50 else (256, 512, 1024, 2048),
            strides=(4, 8, 16, 32),
            options=OPTIONS,
            tags=("cnn",),
        )
        for depth in (18, 34, 50, 101, 152)
    ]
