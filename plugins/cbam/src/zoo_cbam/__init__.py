"""CBAM attention (Woo et al. 2018, https://arxiv.org/abs/1807.06521)."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give CBAM."""
    return [
        Spec(
            kind="attention",
            name="cbam",
            target="zoo_cbam.model:CBAM",
            summary="channel, then spatial attention",
            options={"reduction": "how many times fewer channels the hidden layer has"},
        )
    ]
