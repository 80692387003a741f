"""U-Net decoder (after Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597)."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give U-Net."""
    return [
        Spec(
            kind="decoder",
            name="unet",
            target="zoo_unet.model:UNetDecoder",
            summary="step-by-step upsampling with skip connections",
            options={
                "decoder_channels": "width of each step, deep to shallow",
                "atrous": "true, or dilation rates, for an ASPP on the deepest map",
                "skip_attention": "name of an attention for every skip connection",
            },
        )
    ]
