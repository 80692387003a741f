"""What my-decoder gives; no torch here, because ``zoo list`` imports it."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)  # the version of the plugin API that this was written for


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give the decoder."""
    return [
        Spec(
            kind="decoder",
            name="my_decoder",
            aliases=("my-decoder",),
            target="my_decoder.model:MyDecoder",
            summary="all maps brought to one width, and summed at the finest",
            options={"width": "channels that every map is brought to"},
        )
    ]
