"""A table of architectures: layers, kinds, and weights equal to each library's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers
from torch import Tensor, nn

from zoo_attention_maps.maps import AttentionMaps
from zoo_core.explainability import NotApplicableError


class Row(NamedTuple):
    name: str
    build: Callable[[], nn.Module]
    size: int
    count: int
    kinds: dict[str, int]


def of_timm(name: str, size: int, count: int, /, *, sized: bool = True, **options: Any) -> Row:
    kinds = options.pop("kinds", {"token": count})
    label = options.pop("label", name)
    if sized:
        options["img_size"] = size
    return Row(label, lambda: timm.create_model(name, num_classes=5, **options), size, count, kinds)


SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}


def of_hf(
    name: str, config: Any, size: int, count: int, kinds: dict[str, int] | None = None
) -> Row:
    def build() -> nn.Module:
        kind = getattr(transformers, name)
        how = "sdpa" if kind._supports_sdpa else "eager"
        model: nn.Module = kind._from_config(config, attn_implementation=how)
        return model

    return Row(f"hf:{name}", build, size, count, kinds or {"token": count})


class Visual(nn.Module):
    """One tower of a model of two."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor) -> Any:
        return self.tower(images)


class Encoder(nn.Module):
    """torch's own transformer, on patches."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first)
        self.batch_first = batch_first
        self.head = nn.Linear(32, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        if self.batch_first:
            tokens = self.encoder(tokens)
        else:
            tokens = self.encoder(tokens.transpose(0, 1)).transpose(0, 1)
        scores: Tensor = self.head(tokens.mean(1))
        return scores


class Einsum(nn.Module):
    """Attention in Einstein's notation, with keys as the values' second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.qkv = nn.Linear(32, 96)
        self.head = nn.Linear(32, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, 4, 8)).unbind(2)
        weights = torch.einsum("bihd,bjhd->bhij", q, k).softmax(dim=-1)
        mixed = torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2)
        scores: Tensor = self.head(mixed.mean(1))
        return scores.softmax(-1)  # of classes, which is no attention


def of_open_clip(name: str, count: int, size: int, kinds: dict[str, int] | None = None) -> Row:
    vision = {"image_size": size, "layers": 2, "width": 64, "patch_size": 8, "head_width": 16}
    options: dict[str, dict[str, Any]] = {
        "vit": vision,
        "pooled": {**vision, "attentional_pool": True, "attn_pooler_heads": 4},
        "resnet": {"image_size": size, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    }
    text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}

    def build() -> nn.Module:
        clip = open_clip.model.CLIP(
            embed_dim=24,
            vision_cfg=open_clip.model.CLIPVisionCfg(**options[name]),
            text_cfg=open_clip.model.CLIPTextCfg(**text),
        )
        return Visual(clip.visual)

    return Row(f"open_clip:{name}", build, size, count, kinds or {"token": count})


SWIN = {"window": 10, "token": 2}

TABLE = [
    of_timm("vit_tiny_patch16_224", 64, 3, depth=3),
    of_timm("vit_small_patch14_reg4_dinov2", 70, 2, depth=2),
    of_timm("vit_base_patch16_siglip_224", 64, 3, depth=2, kinds={"token": 2, "pooled": 1}),
    of_timm("vit_relpos_small_patch16_224", 64, 2, depth=2),
    of_timm("vit_medium_patch16_reg4_gap_256", 64, 2, depth=2),
    of_timm("vit_small_patch16_36x1_224", 64, 2, depth=2),
    of_timm("vit_small_patch16_18x2_224", 64, 4, depth=2),
    of_timm("vit_tiny_r_s16_p8_224", 64, 2, depth=2),
    of_timm("deit_tiny_distilled_patch16_224", 64, 2, depth=2),
    of_timm("deit3_small_patch16_224", 64, 2, depth=2),
    of_timm("beit_base_patch16_224", 64, 2, depth=2),
    of_timm("eva02_tiny_patch14_224", 56, 2, depth=2),
    of_timm("vit_small_patch16_rope_224", 64, 2, depth=2),
    of_timm("vit_small_patch16_dinov3", 64, 2, depth=2),
    of_timm("naflexvit_base_patch16_gap", 64, 2, depth=2, sized=False),
    of_timm(
        "samvit_base_patch16",
        320,
        2,
        depth=2,
        global_attn_indexes=(1,),
        kinds={"window": 1, "token": 1},
    ),
    of_timm("cait_xxs24_224", 64, 4, depth=2, kinds={"token": 2, "pooled": 2}),
    of_timm("xcit_nano_12_p16_224", 64, 4, depth=2, kinds={"channel": 2, "pooled": 2}),
    of_timm("volo_d1_224", 64, 20, kinds={"window": 4, "token": 14, "pooled": 2}),
    of_timm("tnt_s_legacy_patch16_224", 64, 4, depth=2, kinds={"window": 2, "token": 2}),
    of_timm("pit_ti_224", 64, 12),
    of_timm("crossvit_9_240", 240, 18, kinds={"token": 12, "pooled": 6}),
    of_timm("levit_128s", 224, 11, sized=False, kinds={"token": 9, "pooled": 2}),
    of_timm("swin_tiny_patch4_window7_224", 224, 12, kinds=SWIN),
    of_timm("swinv2_tiny_window8_256", 256, 12, kinds=SWIN),
    of_timm("swinv2_cr_tiny_224", 224, 12, kinds=SWIN),
    of_timm("maxvit_tiny_tf_224", 224, 22, sized=False, kinds={"window": 18, "token": 4}),
    of_timm("maxxvit_rmlp_nano_rw_256", 256, 14, sized=False, kinds={"window": 12, "token": 2}),
    of_timm("coatnet_nano_rw_224", 224, 9, sized=False),
    of_timm("davit_tiny", 224, 12, sized=False, kinds={"window": 5, "channel": 6, "token": 1}),
    of_timm("nest_tiny", 224, 12, sized=False, kinds={"window": 4, "token": 8}),
    of_timm("hiera_tiny_224", 224, 12, sized=False, kinds={"window": 4, "token": 7, "pooled": 1}),
    of_timm("mvitv2_tiny", 224, 10, kinds={"token": 6, "pooled": 4}),
    of_timm("gcvit_xxtiny", 224, 12, sized=False, kinds={"window": 4, "token": 8}),
    of_timm("pvt_v2_b0", 64, 8, sized=False, kinds={"pooled": 6, "token": 2}),
    of_timm("twins_svt_small", 224, 18, sized=False, kinds={"window": 7, "pooled": 7, "token": 4}),
    of_timm("twins_pcpvt_small", 64, 16, sized=False, kinds={"pooled": 13, "token": 3}),
    of_timm("mobilevit_xxs", 256, 9, sized=False, kinds={"window": 9}),
    of_timm("edgenext_xx_small", 64, 3, sized=False, kinds={"channel": 3}),
    of_timm("efficientformer_l1", 224, 1, sized=False),
    of_timm("efficientformerv2_s0", 224, 5, sized=False, kinds={"token": 4, "pooled": 1}),
    of_timm("efficientvit_m0", 224, 24, sized=False, kinds={"window": 4, "token": 20}),
    of_timm("shvit_s1", 224, 9, sized=False),
    of_timm("tiny_vit_5m_224", 224, 10, sized=False, kinds={"window": 2, "token": 8}),
    of_timm("caformer_s18", 64, 12, sized=False),
    of_timm("fastvit_sa12", 64, 2, sized=False),
    of_timm("mobilenetv4_hybrid_medium", 224, 8, sized=False, kinds={"pooled": 4, "token": 4}),
    of_timm("nextvit_small", 64, 4, sized=False, kinds={"pooled": 3, "token": 1}),
    of_timm("visformer_tiny", 224, 8, sized=False),
    of_timm("botnet26t_256", 256, 3, sized=False),
    of_timm("halonet26t", 256, 3, sized=False, kinds={"window": 2, "pooled": 1}),
    of_timm("resnet50_clip", 224, 1, sized=False),
    Row(
        "torchvision:vit",
        lambda: torchvision.models.VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=2,
            num_heads=4,
            hidden_dim=32,
            mlp_dim=48,
            num_classes=5,
        ),
        32,
        2,
        {"token": 2},
    ),
    Row("torchvision:swin_t", lambda: torchvision.models.swin_t(), 224, 12, SWIN),
    Row("torchvision:swin_v2_t", lambda: torchvision.models.swin_v2_t(), 256, 12, SWIN),
    Row(
        "torchvision:maxvit_t",
        lambda: torchvision.models.maxvit_t(),
        224,
        22,
        {"window": 18, "token": 4},
    ),
    Row("torch:encoder", lambda: Encoder(batch_first=True), 32, 2, {"token": 2}),
    Row("torch:encoder, batch second", lambda: Encoder(batch_first=False), 32, 2, {"token": 2}),
    Row("einsum", Einsum, 32, 1, {"token": 1}),
    of_open_clip("vit", 2, 32),
    of_open_clip("pooled", 3, 32, {"token": 2, "pooled": 1}),
    of_open_clip("resnet", 1, 64),
    of_hf("ViTForImageClassification", transformers.ViTConfig(**SMALL), 32, 2),
    of_hf("DeiTForImageClassification", transformers.DeiTConfig(**SMALL), 32, 2),
    of_hf("Dinov2ForImageClassification", transformers.Dinov2Config(**SMALL), 32, 2),
    of_hf("Dinov2WithRegistersModel", transformers.Dinov2WithRegistersConfig(**SMALL), 32, 2),
    of_hf("DINOv3ViTModel", transformers.DINOv3ViTConfig(**SMALL), 32, 2),
    of_hf("BeitForImageClassification", transformers.BeitConfig(**SMALL), 32, 2),
    of_hf("CLIPVisionModel", transformers.CLIPVisionConfig(**SMALL), 32, 2),
    of_hf(
        "SiglipVisionModel",
        transformers.SiglipVisionConfig(**SMALL),
        32,
        3,
        {"token": 2, "pooled": 1},
    ),
    of_hf(
        "SwinForImageClassification",
        transformers.SwinConfig(image_size=56, embed_dim=16, depths=[2, 2], num_heads=[2, 4]),
        56,
        4,
        {"window": 2, "token": 2},
    ),
    of_hf(
        "Swinv2ForImageClassification",
        transformers.Swinv2Config(image_size=56, embed_dim=16, depths=[2, 2], num_heads=[2, 4]),
        56,
        4,
        {"window": 2, "token": 2},
    ),
    of_hf(
        "SegformerForSemanticSegmentation",
        transformers.SegformerConfig(
            hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16
        ),
        64,
        4,
        {"pooled": 3, "token": 1},
    ),
    of_hf(
        "PvtV2ForImageClassification",
        transformers.PvtV2Config(hidden_sizes=[8, 16, 40, 32], depths=[1, 1, 1, 1]),
        64,
        4,
        {"pooled": 3, "token": 1},
    ),
    of_hf(
        "YolosForObjectDetection",
        transformers.YolosConfig(**{**SMALL, "image_size": [32, 32], "num_detection_tokens": 4}),
        32,
        2,
    ),
]


@contextmanager
def softmaxes(patch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Record what all softmaxes give, however they are called."""
    seen: list[Tensor] = []
    with patch.context() as context:
        for owner in (torch.Tensor, torch):
            plain = owner.softmax

            def record(*args: Any, _plain: Any = plain, **kwargs: Any) -> Tensor:
                result: Tensor = _plain(*args, **kwargs)
                seen.append(result.detach())
                return result

            context.setattr(owner, "softmax", record)
        context.setattr(F, "scaled_dot_product_attention", written_out)
        yield seen


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *_: Any) -> Tensor:
    """What a few parts that have no switch of their own call."""
    assert mask is None
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    result: Tensor = weights @ v
    return result


def unfuse(model: nn.Module) -> None:
    """Make a model calculate its attention in the open, as its library offers."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_pre_hook(
                lambda _, args, kwargs: (args, {**kwargs, "need_weights": True}), with_kwargs=True
            )
    if isinstance(model, transformers.PreTrainedModel):
        model.set_attn_implementation("eager")


def split(reference: Tensor, batch: int, windows: int, heads: int) -> Tensor:
    """Give a library's weights as ``[B, windows, heads, queries, keys]``."""
    if reference.ndim == 5 and reference.shape[1] == heads and reference.shape[2] == windows:
        reference = reference.transpose(1, 2)
    return reference.reshape(batch, windows, heads, *reference.shape[-2:])


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_layers_kinds_and_weights(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = row.build().eval()
    images = torch.randn(2, 3, row.size, row.size)
    maps = AttentionMaps(model).explain(images)
    assert len(maps) == row.count
    kinds = [layer.kind for layer in maps.layers.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == row.kinds
    for name, layer in maps.layers.items():
        assert layer.kind != "window" or layer.windows().shape[1] > 1
        weights = maps[name]
        assert weights.ndim == 3
        assert weights.shape[0] == 2
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
    alone = AttentionMaps(model).explain(images[1:])
    for name, layer in maps.layers.items():
        single = alone.layers[name]
        assert (single.kind, single.grid, single.prefix) == (layer.kind, layer.grid, layer.prefix)
        torch.testing.assert_close(alone[name], maps[name][1:], atol=1e-5, rtol=0)

    unfuse(model)
    with softmaxes(monkeypatch) as seen:  # with gradients: without them torch takes a short cut
        model(images)
    references = [one for one in seen if one.ndim > 2]
    assert len(references) == len(maps)
    for reference, layer in zip(references, maps.layers.values(), strict=True):
        ours = layer.windows("none")
        if row.name == "halonet26t":  # [pictures × heads, windows, queries, keys]
            reference = reference.unflatten(0, (2, -1))
        theirs = split(reference, 2, ours.shape[1], ours.shape[2])
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilevitv2_050",
        "poolformer_s12",
        "mixer_s16_224",
        "convnext_atto",
        "efficientvit_b0",
        "skresnet18",
        "resnest14d",
    ],
)
def test_models_without_attention_say_so(name: str) -> None:
    model = timm.create_model(name, num_classes=5)
    with pytest.raises(NotApplicableError, match=r"has no attention: no softmax over keys"):
        AttentionMaps(model).explain(torch.randn(1, 3, 224, 224))
