"""Vision transformers (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)

OPTIONS: Final = {
    "patch_size": "side of a patch, in pixels: the stride of all maps",
    "num_layers": "number of blocks",
    "hidden_dim": "length of a token, and channels of each map",
    "num_heads": "heads of each attention",
    "mlp_dim": "hidden width of each block's MLP",
    "num_levels": "how many maps, from blocks at even distances",
    "activation": "gelu or quick_gelu; pretrained weights bring theirs",
    "eps": "epsilon of the layer norms; pretrained weights bring theirs",
    "pre_norm": "a layer norm before the first block, and patches without a bias",
    "layer_scale": "initial value of a learnt factor behind each attention and MLP",
    "num_registers": "tokens that stand for no patch",
    "class_token": "whether there is a class token",
}

_DINOV2: Final[dict[str, Any]] = {"patch_size": 14, "layer_scale": 1e-5}
_SIZES: Final = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
# Of each variant: its size, what else its constructor takes, and whose it is.
_VARIANTS: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    **{f"vit_{size}": (size, {"patch_size": 16}, f"ViT, {size}") for size in _SIZES},
    "dinov2_small": ("small", _DINOV2, "DINOv2's ViT, small"),
    "dinov2_base": ("base", _DINOV2, "DINOv2's ViT, base"),
    "clip_vit_base": ("base", {"patch_size": 16, "pre_norm": True}, "CLIP's picture half, base"),
}


def variants() -> dict[str, dict[str, Any]]:
    """Give the constructor arguments that make each named variant."""
    return {name: _arguments(size, more) for name, (size, more, _) in _VARIANTS.items()}


def _arguments(size: str, more: dict[str, Any]) -> dict[str, Any]:
    hidden_dim, num_layers, num_heads = _SIZES[size]
    return {
        "num_layers": num_layers,
        "hidden_dim": hidden_dim,
        "num_heads": num_heads,
        "mlp_dim": 4 * hidden_dim,
        **more,
    }


@hookimpl
def zoo_specs() -> Iterator[Spec]:
    """Give each variant, and one of any shape; ``vit_spatial_…`` are pooled over their last map."""
    yield from _pair("vit", {}, "ViT of any shape")
    for name, (size, more, summary) in _VARIANTS.items():
        patch = more["patch_size"]
        yield from _pair(
            name,
            _arguments(size, more),
            f"{summary}, patches of {patch}",
            channels=(_SIZES[size][0],) * 4,
            strides=(patch,) * 4,
        )


def _pair(name: str, arguments: dict[str, Any], summary: str, **facts: Any) -> Iterator[Spec]:
    options = {key: line for key, line in OPTIONS.items() if key not in arguments}
    shared: dict[str, Any] = {
        "kind": "backbone",
        "kwargs": arguments,
        "options": options,
        "tags": ("transformer",),
        **facts,
    }
    yield Spec(name=name, target="zoo_vit.model:VisionTransformer", summary=summary, **shared)
    rest = name.removeprefix("vit") if name.startswith("vit") else f"_{name}"
    yield Spec(
        name=f"vit_spatial{rest}",
        target="zoo_vit.model:ViTSpatial",
        summary=f"{summary}, pooled over the last map",
        weights_of=name,
        **shared,
    )
