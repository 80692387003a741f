"""Files of every layout give the tokens of the project that wrote them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT

from zoo_core.errors import WeightsError
from zoo_core.weights import blank, load
from zoo_vit.model import VisionTransformer, ViTSpatial

transformers = pytest.importorskip("transformers")
open_clip = pytest.importorskip("open_clip")

SIDE, DIM, DEPTH, HEADS, HIDDEN = 32, 48, 4, 3, 96
PICTURES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
SHAPE: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 8,
    "num_layers": DEPTH,
    "hidden_dim": DIM,
    "num_heads": HEADS,
    "mlp_dim": HIDDEN,
}
HF: dict[str, Any] = {
    "image_size": SIDE,
    "patch_size": 8,
    "num_hidden_layers": DEPTH,
    "hidden_size": DIM,
    "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN,
}


def stirred(model: nn.Module) -> nn.Module:
    """Give every parameter random values, so that none is zero or one by chance."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def of_timm(**more: Any) -> Callable[[Path], Tensor]:
    def make(folder: Path) -> Tensor:
        model = stirred(
            timm.models.vision_transformer.VisionTransformer(
                img_size=SIDE,
                patch_size=8,
                embed_dim=DIM,
                depth=DEPTH,
                num_heads=HEADS,
                mlp_ratio=HIDDEN / DIM,
                num_classes=5,
                **more,
            )
        )
        save_file(model.state_dict(), folder / "model.safetensors")
        return model.forward_features(PICTURES)

    return make


def of_torchvision(folder: Path) -> Tensor:
    model = stirred(TorchvisionViT(SIDE, 8, DEPTH, HEADS, DIM, HIDDEN, num_classes=5))
    save_file(model.state_dict(), folder / "model.safetensors")
    tokens = model._process_input(PICTURES)
    return model.encoder(torch.cat([model.class_token.expand(2, -1, -1), tokens], 1))


def of_older_torchvision(folder: Path) -> Tensor:
    tokens = of_torchvision(folder)
    path = folder / "model.safetensors"
    newer = load_file(path)
    older = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): tensor
        for name, tensor in newer.items()
    }
    save_file(older, path)
    return tokens


def of_transformers(kind: str, config: Any, **more: Any) -> Callable[[Path], Tensor]:
    def make(folder: Path) -> Tensor:
        settings = getattr(transformers, config)(**HF, **more)
        settings._attn_implementation = "eager"
        model = stirred(getattr(transformers, kind)(settings))
        model.save_pretrained(folder)
        base = getattr(model, model.base_model_prefix, model)
        return base(PICTURES).last_hidden_state

    return make


def of_hf_clip(folder: Path) -> Tensor:
    settings = transformers.CLIPVisionConfig(**HF, projection_dim=24)
    model = stirred(transformers.CLIPVisionModelWithProjection(settings))
    model.save_pretrained(folder)
    return model.vision_model.post_layernorm(model.vision_model(PICTURES).last_hidden_state)


def of_mae(folder: Path) -> Tensor:
    settings = transformers.ViTMAEConfig(
        **HF, mask_ratio=0.0, decoder_num_hidden_layers=1, decoder_hidden_size=16
    )
    model = stirred(transformers.ViTMAEForPreTraining(settings))
    model.save_pretrained(folder)
    order = torch.arange(16).expand(2, -1).float()  # unmasked, and in the pictures' order
    return model.vit(PICTURES, noise=order).last_hidden_state


def of_open_clip(prefix: str, quick: bool) -> Callable[[Path], Tensor]:
    def make(folder: Path) -> Tensor:
        vision = {"image_size": SIDE, "patch_size": 8, "width": DIM, "layers": DEPTH}
        model = stirred(
            open_clip.CLIP(
                embed_dim=24,
                vision_cfg={**vision, "head_width": DIM // HEADS, "mlp_ratio": HIDDEN / DIM},
                text_cfg={
                    "context_length": 8,
                    "vocab_size": 20,
                    "width": 16,
                    "heads": 2,
                    "layers": 1,
                },
                quick_gelu=quick,
            )
        )
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        if not prefix:
            state = {
                name.removeprefix("visual."): tensor
                for name, tensor in state.items()
                if name.startswith("visual.")
            }
        save_file(state, folder / "model.safetensors")
        seen: list[Tensor] = []
        handle = model.visual.ln_post.register_forward_hook(lambda *given: seen.append(given[2]))
        model.encode_image(PICTURES)
        handle.remove()
        return seen[0]

    return make


CLIP: dict[str, Any] = {"pre_norm": True, "eps": 1e-5}
CASES: dict[str, tuple[str, Callable[[Path], Tensor], dict[str, Any]]] = {
    "timm": ("timm", of_timm(), {}),
    "timm-dinov2": ("timm", of_timm(init_values=0.1), {"layer_scale": 0.1}),
    "timm-registers": (
        "timm",
        of_timm(init_values=0.1, reg_tokens=3, no_embed_class=True),
        {"layer_scale": 0.1, "num_registers": 3},
    ),
    "timm-clip": (
        "timm",
        of_timm(
            pre_norm=True,
            act_layer="quick_gelu",
            norm_layer=lambda dim, **_: nn.LayerNorm(dim, eps=1e-5),
        ),
        {**CLIP, "activation": "quick_gelu"},
    ),
    "timm-tokenless": (
        "timm",
        of_timm(class_token=False, global_pool="", fc_norm=False),
        {"class_token": False},
    ),
    "torchvision": ("torchvision", of_torchvision, {}),
    "torchvision-older": ("torchvision", of_older_torchvision, {}),
    "hf-vit": ("hf-vit", of_transformers("ViTModel", "ViTConfig"), {"eps": 1e-12}),
    "hf-vit-classifier": (
        "hf-vit",
        of_transformers("ViTForImageClassification", "ViTConfig", num_labels=5),
        {"eps": 1e-12},
    ),
    "hf-mae": ("hf-vit", of_mae, {"eps": 1e-12}),
    "hf-dinov2": (
        "hf-dinov2",
        of_transformers("Dinov2Model", "Dinov2Config", mlp_ratio=2),
        {"layer_scale": 1.0},
    ),
    "hf-dinov2-classifier": (
        "hf-dinov2",
        of_transformers("Dinov2ForImageClassification", "Dinov2Config", mlp_ratio=2),
        {"layer_scale": 1.0},
    ),
    "hf-dinov2-registers": (
        "hf-dinov2",
        of_transformers(
            "Dinov2WithRegistersModel",
            "Dinov2WithRegistersConfig",
            mlp_ratio=2,
            num_register_tokens=3,
        ),
        {"layer_scale": 1.0, "num_registers": 3},
    ),
    "hf-clip": ("hf-clip", of_hf_clip, {**CLIP, "activation": "quick_gelu"}),
    "open-clip": ("openai-clip", of_open_clip("visual.", quick=False), CLIP),
    "openai": (
        "openai-clip",
        of_open_clip("", quick=True),
        {**CLIP, "activation": "quick_gelu"},
    ),
}


def difference(model: VisionTransformer, tokens: Tensor) -> float:
    with torch.no_grad():
        ours = model.eval().tokens(PICTURES)
    return float((ours - tokens).abs().max() / tokens.abs().max())


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[str, Path, Tensor, dict[str, Any]]:
    layout, make, options = CASES[request.param]
    with torch.no_grad():
        tokens = make(tmp_path)
    return layout, tmp_path / "model.safetensors", tokens, options


@pytest.mark.parametrize("said", [True, False])
def test_tokens_are_those_of_the_project_that_wrote_the_file(
    said: bool, case: tuple[str, Path, Tensor, dict[str, Any]]
) -> None:
    layout, path, tokens, options = case
    with blank():
        model = VisionTransformer(**SHAPE, **options)
    report = load(model, path, layout if said else None)
    assert not report.random
    assert difference(model, tokens) < 1e-5


def test_another_activation_is_seen_in_the_tokens(
    case: tuple[str, Path, Tensor, dict[str, Any]],
) -> None:
    _, path, tokens, options = case
    other = "gelu" if options.get("activation") == "quick_gelu" else "quick_gelu"
    model = VisionTransformer(**SHAPE, **{**options, "activation": other})
    load(model, path)
    assert difference(model, tokens) > 1e-4


def test_another_layout_than_is_said_is_refused(
    case: tuple[str, Path, Tensor, dict[str, Any]],
) -> None:
    layout, path, _, options = case
    model = VisionTransformer(**SHAPE, **options)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    said = "timm" if layout != "timm" else "torchvision"
    with pytest.raises(WeightsError) as caught:
        load(model, path, said)
    assert str(caught.value) == (
        f"{path}: its names are of layout {layout!r}, not {said!r} as was said"
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["torchvision", "hf-dinov2", "hf-clip", "openai"])
def test_another_epsilon_than_the_layout_s_is_refused(name: str, tmp_path: Path) -> None:
    layout, make, options = CASES[name]
    make(tmp_path)
    model = VisionTransformer(**SHAPE, **{**options, "eps": 1e-3})
    right = options.get("eps", 1e-6)
    with pytest.raises(WeightsError) as caught:
        load(model, tmp_path / "model.safetensors")
    assert str(caught.value).endswith(
        f"models of layout {layout!r} have layer norms with eps={right:g}, and this one has "
        f"eps=0.001; construct it with eps={right:g}"
    )


def test_names_of_no_layout_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="its names are of none of the layouts of a vision"):
        load(VisionTransformer(**SHAPE), tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["timm", "torchvision", "hf-vit-classifier"])
def test_the_classifier_is_filled_too(name: str, tmp_path: Path) -> None:
    _, make, options = CASES[name]
    make(tmp_path)
    head = nn.Linear(DIM, 5)
    report = load(VisionTransformer(**SHAPE, **options), tmp_path / "model.safetensors", head=head)
    assert {fate.name for fate in report.loaded} > {"classifier.weight", "classifier.bias"}
    stored = load_file(tmp_path / "model.safetensors")
    assert any(torch.equal(head.weight, t) for t in stored.values() if t.shape == (5, DIM))


def test_what_is_left_out_has_a_reason(case: tuple[str, Path, Tensor, dict[str, Any]]) -> None:
    _, path, _, options = case
    model = ViTSpatial(**SHAPE, **options)
    report = load(model, path)
    names = {fate.name for fate in report.dropped}
    stored = set(load_file(path))
    assert names < stored
    assert all(fate.reason for fate in report.dropped)


def test_a_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    of_transformers("ViTModel", "ViTConfig")(tmp_path)
    path = tmp_path / "model.safetensors"
    stored = load_file(path)
    del stored["encoder.layer.2.attention.attention.key.weight"]
    stored["encoder.layer.1.what.weight"] = torch.zeros(2)
    save_file(stored, path)
    with pytest.raises(WeightsError) as caught:
        load(VisionTransformer(**SHAPE, eps=1e-12), path)
    for problem in (
        "blocks.2.attn.qkv.weight is in the model but not in the file",
        "encoder.layer.1.what.weight is in the file but not in the model",
    ):
        assert problem in str(caught.value)
