"""What my-backbone gives; no torch here, because ``zoo list`` imports it."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)  # the version of the plugin API that this was written for


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give the backbone."""
    return [
        Spec(
            kind="backbone",
            name="my_backbone",
            aliases=("my-backbone",),
            target="my_backbone.model:MyBackbone",
            summary="four stages of residual depthwise convolutions",
            channels=(32, 64, 128, 256),
            strides=(4, 8, 16, 32),
            options={
                "width": "channels of the first map; each that follows has twice as many",
                "depth": "blocks of each stage",
            },
            tags=("cnn",),
        )
    ]
