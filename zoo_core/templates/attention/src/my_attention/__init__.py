"""What my-attention gives; no torch here, because ``zoo list`` imports it."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)  # the version of the plugin API that this was written for


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give the attention."""
    return [
        Spec(
            kind="attention",
            name="my_attention",
            aliases=("my-attention",),
            target="my_attention.model:MyAttention",
            summary="weighs channels by their averages",
            options={"reduction": "how many times fewer channels the hidden layer has"},
        )
    ]
