"""What each pixel of a picture contributes to a class's score."""

from typing import Final

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)

_SCALE: Final = {
    "normalize": "whether each picture's values are scaled to 0-1",
    "absolute": "whether signs are left away",
}
_SEED: Final = {"seed": "fixes what is drawn by chance"}
_CHUNK: Final = {"chunk_size": "pictures run at once; found by itself"}
_BASELINE: Final = {"baseline": "what stands for nothing: black, zero, a number or pictures"}

_METHODS: Final = {
    "saliency": ("gradient:VanillaSaliency", "the score's gradient at each pixel", {}),
    "input_x_gradient": ("gradient:InputXGradient", "gradient times pixel", {}),
    "guided_backprop": (
        "guided:GuidedBackprop",
        "the gradient through what each ReLU lets pass and wants more of",
        _CHUNK,
    ),
    "smoothgrad": (
        "smooth:SmoothGrad",
        "the gradient's average over noisy copies",
        {
            "num_samples": "noisy copies of each picture",
            "noise_level": "the noise's deviation, as a share of the picture's range",
            **_SEED,
            **_CHUNK,
        },
    ),
    "integrated_gradients": (
        "path:IntegratedGradients",
        "the gradient's integral from a baseline; adds up to the change of score",
        {
            "num_steps": "places of the path where the gradient is taken",
            "complete": "whether what the steps miss is shared out among the pixels",
            **_BASELINE,
            **_CHUNK,
        },
    ),
    "occlusion": (
        "occlusion:Occlusion",
        "what the score loses where a patch covers the picture",
        {
            "patch_size": "height and width of the patch in pixels",
            "stride": "pixels from one place of the patch to the next",
            **_BASELINE,
            **_CHUNK,
        },
    ),
    "rise": (
        "rise:RISE",
        "the probability that pictures masked by chance keep",
        {
            "num_masks": "masks drawn",
            "cells": "cells of a mask along each side",
            "keep": "the chance of each cell to be kept",
            **_SEED,
            **_CHUNK,
        },
    ),
}


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give all methods."""
    return [
        Spec(
            kind="explainer",
            name=name,
            target=f"zoo_saliency.{target}",
            summary=summary,
            options={**options, **_SCALE},
        )
        for name, (target, summary, options) in _METHODS.items()
    ]
