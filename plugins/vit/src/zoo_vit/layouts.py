"""How other projects name the tensors of a vision transformer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from zoo_core.errors import WeightsError
from zoo_core.weights.arranging import Arrangement, Origin

if TYPE_CHECKING:
    from zoo_vit.model import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names of one project; ``{}`` in them stands for ``weight`` and ``bias``.

    Attributes:
        name: What the registry calls it.
        patch: The convolution that cuts pictures into patches, which tells the layout.
        block: What stands before the names in a block; ``{}`` stands for its number.
        outer: Our names outside the blocks, and theirs.
        inner: Our names in a block, and theirs.
        prefixes: What may stand before all names.
        mark: In its names, what tells it from another with the same patches.
        eps: The layer norms' epsilon in all models of this layout, if it is the same.
        left_out: Patterns of names that have no place here, and why.
    """

    name: str
    patch: str
    block: str
    outer: Mapping[str, str]
    inner: Mapping[str, str | tuple[str, ...]]
    prefixes: tuple[str, ...] = ("",)
    mark: str = ""
    eps: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)


_TIMM: Final = Layout(
    name="timm",
    patch="patch_embed.proj",
    block="blocks.{}.",
    outer={
        **{name: name for name in ("cls_token", "reg_token", "pos_embed")},
        **{f"{name}.{{}}": f"{name}.{{}}" for name in ("norm_pre", "norm", "head")},
    },
    inner={
        name: name
        for name in (
            *("norm1.{}", "norm2.{}", "attn.qkv.{}", "attn.proj.{}", "mlp.fc1.{}", "mlp.fc2.{}"),
            *("ls1.gamma", "ls2.gamma"),
        )
    },
)

_TORCHVISION: Final = Layout(
    name="torchvision",
    patch="conv_proj",
    block="encoder.layers.encoder_layer_{}.",
    outer={
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "norm.{}": "encoder.ln.{}",
        "head.{}": "heads.head.{}",
    },
    inner={
        "norm1.{}": "ln_1.{}",
        "attn.qkv.{}": "self_attention.in_proj_{}",
        "attn.proj.{}": "self_attention.out_proj.{}",
        "norm2.{}": "ln_2.{}",
        "mlp.fc1.{}": "mlp.0.{}",
        "mlp.fc2.{}": "mlp.3.{}",
    },
    eps=1e-6,
)

# Before torchvision 0.12.
_OLDER_TORCHVISION: Final = Layout(
    name="torchvision",
    patch=_TORCHVISION.patch,
    block=_TORCHVISION.block,
    outer=_TORCHVISION.outer,
    inner={**_TORCHVISION.inner, "mlp.fc1.{}": "mlp.linear_1.{}", "mlp.fc2.{}": "mlp.linear_2.{}"},
    mark=".mlp.linear_1.",
    eps=1e-6,
)

_HF_ATTENTION: Final[dict[str, str | tuple[str, ...]]] = {
    "attn.qkv.{}": tuple(f"attention.attention.{name}.{{}}" for name in ("query", "key", "value")),
    "attn.proj.{}": "attention.output.dense.{}",
}
_HF_OUTER: Final = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "pos_embed": "embeddings.position_embeddings",
    "norm.{}": "layernorm.{}",
}
_POOLER: Final = {r"pooler\.dense\..*": "the class token is read as it is, without a pooler"}
_MASK: Final = "stands for patches that are hidden in pre-training"

_HF_VIT: Final = Layout(
    name="hf-vit",
    patch="embeddings.patch_embeddings.projection",
    block="encoder.layer.{}.",
    outer={**_HF_OUTER, "head.{}": "classifier.{}"},
    inner={
        "norm1.{}": "layernorm_before.{}",
        **_HF_ATTENTION,
        "norm2.{}": "layernorm_after.{}",
        "mlp.fc1.{}": "intermediate.dense.{}",
        "mlp.fc2.{}": "output.dense.{}",
    },
    prefixes=("", "vit."),
    mark=".layernorm_before.",
    left_out={
        **_POOLER,
        r"embeddings\.mask_token": _MASK,
        r"decoder\..*": "the decoder of pre-training as a masked autoencoder",
    },
)

_HF_DINOV2: Final = Layout(
    name="hf-dinov2",
    patch=_HF_VIT.patch,
    block=_HF_VIT.block,
    outer=_HF_OUTER,
    inner={
        "norm1.{}": "norm1.{}",
        **_HF_ATTENTION,
        "ls1.gamma": "layer_scale1.lambda1",
        "norm2.{}": "norm2.{}",
        "mlp.fc1.{}": "mlp.fc1.{}",
        "mlp.fc2.{}": "mlp.fc2.{}",
        "ls2.gamma": "layer_scale2.lambda1",
    },
    prefixes=("", "dinov2.", "dinov2_with_registers."),
    mark=".layer_scale1.",
    eps=1e-6,
    left_out={
        r"embeddings\.mask_token": _MASK,
        r"classifier\..*": "the classifier reads the patches' average beside the class token",
    },
)

_PROJECTION: Final = "the projection to where CLIP compares pictures with text is no classifier"
_TEXT: Final = "the half of CLIP that reads text"

_HF_CLIP: Final = Layout(
    name="hf-clip",
    patch="embeddings.patch_embedding",
    block="encoder.layers.{}.",
    outer={
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding.weight",
        "norm_pre.{}": "pre_layrnorm.{}",
        "norm.{}": "post_layernorm.{}",
    },
    inner={
        "norm1.{}": "layer_norm1.{}",
        "attn.qkv.{}": tuple(f"self_attn.{name}_proj.{{}}" for name in "qkv"),
        "attn.proj.{}": "self_attn.out_proj.{}",
        "norm2.{}": "layer_norm2.{}",
        "mlp.fc1.{}": "mlp.fc1.{}",
        "mlp.fc2.{}": "mlp.fc2.{}",
    },
    prefixes=("", "vision_model."),
    eps=1e-5,
    left_out={
        r"embeddings\.position_ids": "positions are counted, not stored",
        r"visual_projection\..*": _PROJECTION,
        r"text_(model|projection)\..*|logit_(scale|bias)": _TEXT,
    },
)

_OPENAI_CLIP: Final = Layout(
    name="openai-clip",
    patch="conv1",
    block="transformer.resblocks.{}.",
    outer={
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "norm_pre.{}": "ln_pre.{}",
        "norm.{}": "ln_post.{}",
    },
    inner={
        "norm1.{}": "ln_1.{}",
        "attn.qkv.{}": "attn.in_proj_{}",
        "attn.proj.{}": "attn.out_proj.{}",
        "ls1.gamma": "ls_1.gamma",
        "norm2.{}": "ln_2.{}",
        "mlp.fc1.{}": "mlp.c_fc.{}",
        "mlp.fc2.{}": "mlp.c_proj.{}",
        "ls2.gamma": "ls_2.gamma",
    },
    prefixes=("", "visual."),
    mark="transformer.resblocks.",
    eps=1e-5,
    left_out={
        "proj": _PROJECTION,
        r"(transformer|token_embedding|ln_final)\..*|positional_embedding|text_projection|logit_.*"
        r"|input_resolution|context_length|vocab_size": _TEXT,
    },
)

_LAYOUTS: Final = (
    _TIMM, _OLDER_TORCHVISION, _TORCHVISION, _HF_VIT, _HF_DINOV2, _HF_CLIP, _OPENAI_CLIP,
)  # fmt: skip
READABLE: Final = tuple(dict.fromkeys(layout.name for layout in _LAYOUTS))


def arranged(
    model: VisionTransformer, file: Mapping[str, torch.Size], said: str | None
) -> Arrangement:
    """Tell which of a file's tensors make each of a vision transformer's.

    Args:
        model: The vision transformer.
        file: Names and shapes of the file's tensors.
        said: The layout that the file is said to have; ``None`` if nobody says.

    Raises:
        WeightsError: If the names are of no layout, of another, or of one whose models have
            another epsilon.
    """
    layout, prefix = _detected(file)
    if said is not None and said != layout.name:
        raise WeightsError(f"its names are of layout {layout.name!r}, not {said!r} as was said")
    eps = model.norm.eps
    if layout.eps is not None and layout.eps != eps:
        raise WeightsError(
            f"models of layout {layout.name!r} have layer norms with eps={layout.eps:g}, and this "
            f"one has eps={eps:g}; construct it with eps={layout.eps:g}"
        )
    origins = dict(_origins(model, layout, prefix, file))
    used = {name for origin in origins.values() for name in origin.names}
    left_out = {name: _reason(name, layout, prefix) for name in file if name not in used}
    # timm keeps CLIP's projection as a head, which has no bias as a classifier has.
    if (
        "head.weight" in origins
        and "head.bias" not in origins
        and model.patch_embed.proj.bias is None
    ):
        left_out["head.weight"] = _PROJECTION
        del origins["head.weight"]
    return Arrangement(origins, {name: reason for name, reason in left_out.items() if reason})


def _detected(file: Mapping[str, torch.Size]) -> tuple[Layout, str]:
    """Find the layout, and what stands before its names, by the names alone."""
    for layout in _LAYOUTS:
        for prefix in layout.prefixes:
            inside = (name for name in file if name.startswith(prefix))
            if f"{prefix}{layout.patch}.weight" in file and any(layout.mark in n for n in inside):
                return layout, prefix
    raise WeightsError(
        f"its names are of none of the layouts of a vision transformer: {', '.join(READABLE)}"
    )


def _origins(
    model: VisionTransformer, layout: Layout, prefix: str, file: Mapping[str, torch.Size]
) -> Iterator[tuple[str, Origin]]:
    own = [*model.state_dict(), "head.weight", "head.bias"]
    for name in own:
        theirs = _theirs(name, layout)
        names = tuple(f"{prefix}{one}" if f"{prefix}{one}" in file else one for one in theirs)
        if names and all(one in file for one in names):
            yield name, Origin(names, _change(name, len(names)))
    if model.reg_token is not None and layout is not _TIMM:
        # Ours, as timm's, has the class token's position added already, and no row for it.
        token, position = (f"{prefix}{layout.outer[name]}" for name in ("cls_token", "pos_embed"))
        if token in file and position in file:
            yield "cls_token", Origin((token, position), _with_position)
            yield "pos_embed", Origin((position,), _without_class)


def _theirs(name: str, layout: Layout) -> tuple[str, ...]:
    """Give the names of what makes one of our tensors, none if the layout has no such thing."""
    module, _, parameter = name.rpartition(".")
    if module == "patch_embed.proj":
        return (f"{layout.patch}.{parameter}",)
    block = re.match(r"blocks\.(\d+)\.", name)
    rest = name[block.end() :] if block else name
    table: Mapping[str, str | tuple[str, ...]] = layout.inner if block else layout.outer
    found = table.get(rest) or table.get(f"{rest.rpartition('.')[0]}.{{}}", ())
    begin = layout.block.format(block[1]) if block else ""
    given = (found,) if isinstance(found, str) else found
    return tuple(begin + one.format(parameter) for one in given)


def _change(name: str, count: int) -> Callable[..., Tensor]:
    if count > 1:
        return _joined
    if name in ("cls_token", "reg_token", "pos_embed"):
        return _as_tokens
    return Origin.change


def _joined(*parts: Tensor) -> Tensor:
    return torch.cat(parts)


def _as_tokens(tensor: Tensor) -> Tensor:
    return tensor.reshape(1, -1, tensor.shape[-1])


def _with_position(token: Tensor, positions: Tensor) -> Tensor:
    return _as_tokens(token) + _as_tokens(positions)[:, :1]


def _without_class(positions: Tensor) -> Tensor:
    return _as_tokens(positions)[:, 1:]


def _reason(name: str, layout: Layout, prefix: str) -> str:
    """Say why a tensor of the file has no place here; nothing if it should have one."""
    bare = name.removeprefix(prefix)
    for pattern, reason in layout.left_out.items():
        # What says "visual.…" in CLIP has a half without it that reads text.
        if re.fullmatch(pattern, bare) and not (reason == _TEXT and prefix and bare != name):
            return reason
    return ""
