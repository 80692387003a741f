"""Class-activation maps: which places of a picture speak for a class."""

from typing import Final

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)

_METHODS: Final = {
    "grad_cam": ("gradient:GradCAM", "Grad-CAM: channels weighed by their average gradient"),
    "grad_cam_plus_plus": (
        "gradient:GradCAMPlusPlus",
        "Grad-CAM++: places weighed too, for several objects of one class",
    ),
    "layer_cam": ("gradient:LayerCAM", "LayerCAM: each place by its own gradient; fine layers too"),
    "hires_cam": ("gradient:HiResCAM", "HiResCAM: gradient times activation, place by place"),
    "xgrad_cam": ("gradient:XGradCAM", "XGrad-CAM: gradients weighed by activations"),
    "eigen_cam": ("eigen:EigenCAM", "Eigen-CAM: the main direction of activations, of no class"),
    "score_cam": ("score:ScoreCAM", "Score-CAM: the score of pictures masked by each channel"),
    "ablation_cam": ("ablation:AblationCAM", "Ablation-CAM: the loss of score without a channel"),
}


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give all methods."""
    return [
        Spec(
            kind="explainer",
            name=name,
            target=f"zoo_gradcam.{target}",
            summary=summary,
            options={
                "target_layer": "the layer or its dotted name; without it, the one that suits",
                "normalize": "whether maps are scaled to 0-1",
            },
        )
        for name, (target, summary) in _METHODS.items()
    ]
