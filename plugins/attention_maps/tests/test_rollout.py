"""Rollouts against the product of all layers' matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from zoo_attention_maps.maps import AttentionMaps
from zoo_attention_maps.rollout import AttentionRollout, GradientRollout
from zoo_core.errors import InputError
from zoo_core.explainability import Explainer, NotApplicableError


def images(count: int = 2, size: int = 64) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def model_of(name: str, size: int = 64, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, img_size=size, num_classes=5, **options).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.08)
    return model


def rolled_out(attentions: Sequence[Tensor]) -> Tensor:
    """Abnar & Zuidema's product, of ``[B, heads, N, N]`` each."""
    result = torch.eye(attentions[0].shape[-1], dtype=torch.float64)
    for attention in attentions:
        mean = attention.double().mean(1)
        step = mean + torch.eye(mean.shape[-1])
        result = step / step.sum(-1, keepdim=True) @ result
    return result


def relevance(attentions: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Chefer et al.'s update rule for self-attention."""
    result = torch.eye(attentions[0].shape[-1], dtype=torch.float64)
    for attention, gradient in zip(attentions, gradients, strict=True):
        mean = (attention.double() * gradient.double()).clamp(min=0).mean(1)
        result = result + mean @ result
    return result


def at_size(rows: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    maps = rows.reshape(-1, 1, *grid)
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)[:, 0].float()


def hf_vit() -> Any:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=48,
        image_size=32, patch_size=8, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(config).eval()


def test_rollout_of_transformers_own_attentions() -> None:
    model, pictures = hf_vit(), images(2, 32)
    found = AttentionRollout(model).explain(pictures, normalize=False)
    scaled = AttentionRollout(model).explain(pictures)
    model.set_attn_implementation("eager")
    own = model(pictures, output_attentions=True).attentions
    expected = at_size(rolled_out(own)[:, 0, 1:], (4, 4), 32)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert scaled.shape == (2, 32, 32)
    torch.testing.assert_close(scaled.amax((1, 2)), torch.ones(2))
    torch.testing.assert_close(scaled.amin((1, 2)), torch.zeros(2))


def test_gradient_rollout_of_transformers_own_attentions() -> None:
    model, pictures = hf_vit(), images(2, 32)
    found = GradientRollout(model).explain(
        pictures, target_class=torch.tensor([1, 0]), normalize=False
    )
    model.set_attn_implementation("eager")
    output = model(pictures, output_attentions=True)
    own = output.attentions
    gradients = torch.autograd.grad(output.logits[0, 1] + output.logits[1, 0], own)
    expected = at_size(relevance(own, gradients)[:, 0, 1:], (4, 4), 32)
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=1e-4)
    other = GradientRollout(model).explain(pictures, target_class=0, normalize=False)
    assert not torch.allclose(other[0], found[0])
    torch.testing.assert_close(other[1], found[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "queries"),
    [
        ("vit_tiny_patch16_224", {}, [0]),
        ("deit_tiny_distilled_patch16_224", {}, [0, 1]),
        ("vit_medium_patch16_reg4_gap_256", {}, range(4, 20)),
        ("vit_relpos_small_patch16_224", {}, range(16)),
        ("beit_base_patch16_224", {}, range(1, 17)),
    ],
)
def test_it_begins_where_the_score_comes_from(
    name: str, options: dict[str, Any], queries: Sequence[int]
) -> None:
    model = model_of(name, depth=3, **options)
    pictures = images()
    maps = AttentionMaps(model).explain(pictures, heads=None, gradients=True)
    layer = maps.layers["blocks.0.attn"]
    chosen = torch.tensor(list(queries))
    plain = rolled_out(list(maps.values()))[:, chosen].mean(1)[:, layer.prefix :]
    found = AttentionRollout(model).explain(pictures, normalize=False)
    torch.testing.assert_close(found, at_size(plain, (4, 4), 64), atol=1e-6, rtol=0)
    assert maps.gradients is not None
    weighed = relevance(list(maps.values()), list(maps.gradients.values()))[:, chosen]
    found = GradientRollout(model).explain(pictures, normalize=False)
    expected = at_size(weighed.mean(1)[:, layer.prefix :], (4, 4), 64)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_tokens_gathered_by_one_query() -> None:
    model, pictures = model_of("vit_base_patch16_siglip_224", depth=2), images()
    maps = AttentionMaps(model).explain(pictures, heads=None)
    *layers, pool = maps.values()
    expected = pool.double().mean(1) @ rolled_out(layers)
    found = AttentionRollout(model).explain(pictures, normalize=False)
    torch.testing.assert_close(found, at_size(expected, (4, 4), 64), atol=1e-6, rtol=0)


def test_windows_of_one_grid_are_followed_too() -> None:
    torch.manual_seed(0)
    model = timm.create_model(
        "samvit_base_patch16", img_size=320, depth=3, num_classes=5, global_attn_indexes=(1,)
    )
    pictures = images(1, 320)
    maps = AttentionMaps(model).explain(pictures)
    assert [layer.kind for layer in maps.layers.values()] == ["window", "token", "window"]
    product = rolled_out([value[:, None] for value in maps.values()])
    found = AttentionRollout(model).explain(pictures, normalize=False)
    expected = at_size(product.mean(1), (20, 20), 320)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_it_does_not_depend_on_the_batch_nor_leave_a_trace() -> None:
    model = model_of("vit_tiny_patch16_224", depth=2).train()
    pictures = images(3)
    random = torch.get_rng_state()
    for explainer in (AttentionRollout(model), GradientRollout(model)):
        together = explainer.explain(pictures, target_class=2)
        with torch.no_grad():
            apart = [explainer.explain(one[None], target_class=2) for one in pictures]
        torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=0)
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.get_rng_state().equal(random)


def test_a_model_without_logits_is_rolled_out_from_its_class_token() -> None:
    class Features(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            tokens: Tensor = self.inner.forward_features(x)
            return tokens

    inner, pictures = model_of("vit_tiny_patch16_224", depth=2), images()
    expected = AttentionRollout(inner).explain(pictures)
    torch.testing.assert_close(AttentionRollout(Features(inner)).explain(pictures), expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "'layers.0.blocks.0.attn' has 3136 of them and"),
        ("xcit_nano_12_p16_224", "'blocks.0.attn' attends to channels"),
        ("pvt_v2_b0", "'stages.0.blocks.0.attn' has other queries than keys"),
        ("cait_xxs24_224", "'blocks_token_only.0.attn' has other queries than keys"),
        ("resnet18", "has no attention"),
    ],
)
def test_where_it_does_not_apply_it_says_why(name: str, reason: str) -> None:
    model = timm.create_model(name, num_classes=5)
    for explainer in (AttentionRollout(model), GradientRollout(model)):
        with pytest.raises(NotApplicableError, match=reason):
            explainer.explain(images(1, 224))


def test_options() -> None:
    model, pictures = model_of("vit_tiny_patch16_224", depth=2), images()
    with pytest.raises(InputError, match="heads of AttentionRollout must be 'mean', 'max' or"):
        AttentionRollout(model, heads="none")
    methods = {"attention_rollout": {"heads": "max"}, "gradient_rollout": {}}
    results = Explainer(model, methods=methods).explain(pictures, target_class=1)
    assert results["attention_rollout"].shape == (2, 64, 64)
    expected = GradientRollout(model).explain(pictures, target_class=1)
    torch.testing.assert_close(results["gradient_rollout"], expected)
