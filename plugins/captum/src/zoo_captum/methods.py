"""captum's methods by name, and what users may set of each; captum itself is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final


class Kind(Enum):
    """What can be given for an option, in words."""

    FLAG = "True or False"
    COUNT = "a positive whole number"
    SEED = "a whole number from 0 to 4294967295"
    POSITIVE = "a positive number"
    SPREAD = "a number of zero or more"
    BASELINE = "a number or pictures that broadcast to the inputs"
    BASELINES = "pictures [N, C, H, W]"
    FEATURES = "cells along each side, or whole numbers [H, W] or [C, H, W]"
    WINDOW = "pixels along each side, (height, width) or (channels, height, width)"
    LAYER = "a layer or its dotted name"
    NAME = "one of these names"
    OBJECT = "an object that captum takes"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One argument of captum's, by captum's own name.

    Attributes:
        line: One line of documentation.
        kind: What can be given.
        default: The value without it.
        own: Whether that is the zoo's choice, where captum demands a value, or its default would
            take a run of the model for each pixel; or whether the option is the zoo's.
        names: What can be given for a ``NAME``.
    """

    line: str
    kind: Kind
    default: Any = None
    own: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Method:
    """One of captum's methods.

    Attributes:
        captum: The class in ``captum.attr``.
        summary: One line for ``zoo list``.
        options: What users may set.
        hooks: Whether captum puts hooks into the layers of the model.
        layer: Whether it attributes the score to a layer rather than to the pictures.
        adds_up: Whether all values together are the change of score from the baseline.
    """

    captum: str
    summary: str
    options: Mapping[str, Option] = field(default_factory=dict)
    hooks: bool = False
    layer: bool = False
    adds_up: bool = False


SCALE: Final = {
    "normalize": "whether each picture's values are scaled to 0-1",
    "absolute": "whether signs are left away",
}

_PRODUCT: Final = {
    "multiply_by_inputs": Option(
        line="whether gradients are multiplied by the change from the baseline",
        kind=Kind.FLAG,
        default=True,
    )
}
_BASELINE: Final = {
    "baselines": Option(line="what stands for nothing; zero without it", kind=Kind.BASELINE)
}
_BASELINES: Final = {
    "baselines": Option(
        line="pictures that stand for nothing; zero, darkest and brightest without it",
        kind=Kind.BASELINES,
        own=True,
    )
}
_SEED: Final = {
    "seed": Option(line="fixes what is drawn by chance", kind=Kind.SEED, default=0, own=True)
}
_LAYER: Final = {
    "layer": Option(
        line="the layer; without it, the one that suits class-activation maps",
        kind=Kind.LAYER,
        own=True,
    )
}
_AT_ONCE: Final = {
    "perturbations_per_eval": Option(
        line="changed pictures run at once; found by itself", kind=Kind.COUNT, own=True
    )
}
_PATH: Final = {
    "n_steps": Option(line="places of the path from the baseline", kind=Kind.COUNT, default=50),
    "method": Option(
        line="the sum that stands for the integral",
        kind=Kind.NAME,
        default="gausslegendre",
        names=(
            "gausslegendre", "riemann_left", "riemann_right", "riemann_middle",
            "riemann_trapezoid",
        ),
    ),
    "internal_batch_size": Option(
        line="places run at once; found by itself", kind=Kind.COUNT, own=True
    ),
}  # fmt: skip
_DRAWN: Final = {
    "n_samples": Option(
        line="points drawn between baselines and picture", kind=Kind.COUNT, default=5
    ),
    "stdevs": Option(line="deviation of the noise that is added", kind=Kind.SPREAD, default=0.0),
    **_BASELINES,
    **_PRODUCT,
    **_SEED,
}


def _features(cells: int) -> dict[str, Option]:
    return {
        "feature_mask": Option(
            line=f"pixels that count as one: their numbers, or cells a side; {cells} without it",
            kind=Kind.FEATURES,
            default=cells,
            own=True,
        ),
        **_BASELINE,
        **_AT_ONCE,
    }


def _samples(count: int, line: str, *, own: bool) -> dict[str, Option]:
    return {"n_samples": Option(line=line, kind=Kind.COUNT, default=count, own=own), **_SEED}


def _objects(**lines: str) -> dict[str, Option]:
    return {name: Option(line=line, kind=Kind.OBJECT) for name, line in lines.items()}


METHODS: Final[Mapping[str, Method]] = {
    "deep_lift": Method(
        captum="DeepLift",
        summary="DeepLIFT: each layer's change from a baseline, shared out backwards",
        options={
            **_BASELINE,
            **_PRODUCT,
            "eps": Option(
                line="changes below this take the gradient", kind=Kind.POSITIVE, default=1e-10
            ),
        },
        hooks=True,
        adds_up=True,
    ),
    "deep_lift_shap": Method(
        captum="DeepLiftShap",
        summary="DeepLIFT, averaged over several baselines",
        options={**_BASELINES, **_PRODUCT},
        hooks=True,
        adds_up=True,
    ),
    "gradient_shap": Method(
        captum="GradientShap",
        summary="gradients at points drawn between baselines and picture",
        options=_DRAWN,
    ),
    "deconvolution": Method(
        captum="Deconvolution",
        summary="the gradient through what each ReLU wants more of",
        hooks=True,
    ),
    "guided_gradcam": Method(
        captum="GuidedGradCam",
        summary="Grad-CAM times guided backpropagation",
        options={
            **_LAYER,
            "interpolate_mode": Option(
                line="how the map is enlarged",
                kind=Kind.NAME,
                default="nearest",
                names=("nearest", "area", "bilinear", "bicubic"),
            ),
        },
        hooks=True,
    ),
    "lrp": Method(
        captum="LRP",
        summary="layer-wise relevance propagation, by the epsilon rule",
        hooks=True,
    ),
    "noise_tunnel": Method(
        captum="NoiseTunnel",
        summary="mean, mean square or variance of a method over noisy copies",
        options={
            "attribution_method": Option(
                line="whose values: saliency, input_x_gradient or integrated_gradients",
                kind=Kind.NAME,
                default="saliency",
                own=True,
                names=("saliency", "input_x_gradient", "integrated_gradients"),
            ),
            "nt_type": Option(
                line="smoothgrad, smoothgrad_sq or vargrad",
                kind=Kind.NAME,
                default="smoothgrad",
                names=("smoothgrad", "smoothgrad_sq", "vargrad"),
            ),
            "nt_samples": Option(line="noisy copies of each picture", kind=Kind.COUNT, default=5),
            "stdevs": Option(line="deviation of the noise", kind=Kind.SPREAD, default=1.0),
            **_SEED,
        },
    ),
    "feature_ablation": Method(
        captum="FeatureAblation",
        summary="what the score loses without each feature",
        options=_features(7),
    ),
    "occlusion": Method(
        captum="Occlusion",
        summary="what the score loses where a window covers the picture",
        options={
            "sliding_window_shapes": Option(
                line="the window; an eighth of each side, and all channels, without it",
                kind=Kind.WINDOW,
                own=True,
            ),
            "strides": Option(
                line="from one place of the window to the next; half a window without it",
                kind=Kind.WINDOW,
                own=True,
            ),
            **_BASELINE,
            **_AT_ONCE,
        },
    ),
    "shapley_value_sampling": Method(
        captum="ShapleyValueSampling",
        summary="Shapley values of features, over orders drawn by chance",
        options={**_features(7), **_samples(25, "orders drawn", own=False)},
    ),
    "shapley_values": Method(
        captum="ShapleyValues",
        summary="Shapley values of few features, over all orders",
        options=_features(2),
    ),
    "lime": Method(
        captum="Lime",
        summary="LIME: a linear model of which features are shown",
        options={
            **_features(7),
            **_samples(200, "changed pictures that the linear model is fitted to", own=True),
            **_objects(
                interpretable_model="the linear model; a lasso without it",
                similarity_func="how alike a changed picture is; by angle without it",
                perturb_func="draws which features are shown; half of them without it",
            ),
        },
    ),
    "kernel_shap": Method(
        captum="KernelShap",
        summary="Shapley values of features, from a linear model",
        options={
            **_features(7),
            **_samples(200, "changed pictures that the linear model is fitted to", own=True),
        },
    ),
    "internal_influence": Method(
        captum="InternalInfluence",
        summary="a layer's gradient, averaged along a path from a baseline",
        options={**_LAYER, **_BASELINE, **_PATH},
        hooks=True,
        layer=True,
    ),
    "layer_conductance": Method(
        captum="LayerConductance",
        summary="what flows from the pictures through each place of a layer",
        options={**_LAYER, **_BASELINE, **_PATH},
        hooks=True,
        layer=True,
    ),
    "layer_integrated_gradients": Method(
        captum="LayerIntegratedGradients",
        summary="integrated gradients of a layer's activations",
        options={**_LAYER, **_BASELINE, **_PATH, **_PRODUCT},
        hooks=True,
        layer=True,
    ),
    "layer_gradient_x_activation": Method(
        captum="LayerGradientXActivation",
        summary="gradient times activation of a layer",
        options={**_LAYER, **_PRODUCT},
        hooks=True,
        layer=True,
    ),
    "layer_deep_lift": Method(
        captum="LayerDeepLift",
        summary="DeepLIFT of a layer's activations",
        options={**_LAYER, **_BASELINE, **_PRODUCT},
        hooks=True,
        layer=True,
        adds_up=True,
    ),
    "layer_deep_lift_shap": Method(
        captum="LayerDeepLiftShap",
        summary="DeepLIFT of a layer's activations, averaged over several baselines",
        options={**_LAYER, **_BASELINES, **_PRODUCT},
        hooks=True,
        layer=True,
        adds_up=True,
    ),
    "layer_gradient_shap": Method(
        captum="LayerGradientShap",
        summary="a layer's gradients at points drawn between baselines and picture",
        options={**_LAYER, **_DRAWN},
        hooks=True,
        layer=True,
    ),
}
"""Name after the prefix to method."""
