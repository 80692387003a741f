"""Importing components' classes by name from the core, whichever plugin gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo_core.catalogue import registry
from zoo_core.errors import AmbiguousComponentError, MissingDistributionError
from zoo_core.spec import Source, Spec

FIRST_PARTY = {
    "backbone": {
        "CNNBackbone": "zoo-resnet",
        "TimmBackbone": "zoo-timm",
        "ViTSpatial": "zoo-vit",
        "VisionTransformer": "zoo-vit",
    },
    "attention": {
        "BAM": "zoo-attention",
        "CBAM": "zoo-cbam",
        "ConcurrentSqueezeExcitation": "zoo-attention",
        "CoordinateAttention": "zoo-attention",
        "EfficientChannelAttention": "zoo-attention",
        "GlobalContext": "zoo-attention",
        "NonLocal": "zoo-attention",
        "SimAM": "zoo-attention",
        "SqueezeExcitation": "zoo-attention",
        "TimmAttention": "zoo-timm",
    },
    "decoder": {
        "DPTDecoder": "zoo-decoders",
        "DeepLabV3PlusDecoder": "zoo-decoders",
        "FPNDecoder": "zoo-decoders",
        "LinearDecoder": "zoo-decoders",
        "SegFormerDecoder": "zoo-decoders",
        "SmpDecoder": "zoo-smp",
        "UNetDecoder": "zoo-unet",
        "UPerNetDecoder": "zoo-decoders",
    },
    "explainer": {
        "AblationCAM": "zoo-gradcam",
        "AttentionMaps": "zoo-attention-maps",
        "AttentionRollout": "zoo-attention-maps",
        "CaptumExplainer": "zoo-captum",
        "EigenCAM": "zoo-gradcam",
        "GradCAM": "zoo-gradcam",
        "GradCAMPlusPlus": "zoo-gradcam",
        "GradientRollout": "zoo-attention-maps",
        "GuidedBackprop": "zoo-saliency",
        "HiResCAM": "zoo-gradcam",
        "InputXGradient": "zoo-saliency",
        "IntegratedGradients": "zoo-saliency",
        "LayerCAM": "zoo-gradcam",
        "Occlusion": "zoo-saliency",
        "RISE": "zoo-saliency",
        "ScoreCAM": "zoo-gradcam",
        "SmoothGrad": "zoo-saliency",
        "VanillaSaliency": "zoo-saliency",
        "XGradCAM": "zoo-gradcam",
    },
}
"""Classes that the zoo's own plugins give, so that a missing one can say what to install."""


def targets(kind: str) -> dict[str, dict[str, str]]:
    """Give the class names of a kind, each with its targets and who gives them."""
    components = registry.of_kind(kind)
    found: dict[str, dict[str, str]] = {}
    items: list[Spec | Source] = [*components.listed(), *components.sources()]
    for item in items:
        found.setdefault(item.target.partition(":")[2], {})[item.target] = item.provider
    return found


def class_getter(module: str, kind: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Give ``__getattr__`` and ``__dir__`` for a module that offers all classes of a kind."""

    def get(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = targets(kind).get(name, {})
        if len(found) > 1:
            modules = " and ".join(f"{who} ({target})" for target, who in found.items())
            raise AmbiguousComponentError(
                f"{module}.{name} is given by {modules}; import it from one of these modules"
            )
        if found:
            from zoo_core.targets import resolve

            [(target, provider)] = found.items()
            return resolve(target, f"{kind} class {name} of {provider}")
        if name in FIRST_PARTY[kind]:
            distribution = FIRST_PARTY[kind][name]
            failed = {p.distribution: p for p in registry.plugins if p.status != "ok"}
            if distribution in failed:
                plugin = failed[distribution]
                problem = f"plugin {distribution} {plugin.status}: {plugin.reason}"
            else:
                problem = f"it comes with {distribution}: 'pip install {distribution}'"
            raise MissingDistributionError(f"{module}.{name} is not available; {problem}")
        raise AttributeError(
            f"module {module!r} has no attribute {name!r}; installed: {', '.join(targets(kind))}"
        )

    def names() -> list[str]:
        return sorted(targets(kind))

    return get, names
