"""The vision transformer beside timm's, at any size, and what composition makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

import zoo_core as zoo
from zoo_core.errors import InputError
from zoo_core.models import MultitaskModel
from zoo_core.models.backbones import VisionTransformer, ViTSpatial
from zoo_core.testing import LoopbackHub
from zoo_core.weights import load
from zoo_vit import variants

SMALL: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 4,
    "hidden_dim": 48,
    "num_heads": 3,
    "mlp_dim": 96,
}
THEIRS: dict[str, str] = {
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "vit_large": "vit_large_patch16_224",
    "dinov2_small": "vit_small_patch14_dinov2",
    "dinov2_base": "vit_base_patch14_dinov2",
    "clip_vit_base": "vit_base_patch16_clip_224",
}


def stirred(model: VisionTransformer) -> VisionTransformer:
    """Give a model in which every parameter matters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))


def test_every_variant_has_the_tensors_of_timm_s() -> None:
    assert variants().keys() == THEIRS.keys()
    for name, theirs in THEIRS.items():
        with torch.device("meta"):
            # DINOv2's maps are of pictures of 518 px, which its weights ask for.
            size = 518 if "dinov2" in name else 224
            ours = VisionTransformer(image_size=size, **variants()[name])
            other = timm.create_model(theirs, num_classes=0)
        shapes = {key: tensor.shape for key, tensor in ours.state_dict().items()}
        assert shapes == {key: tensor.shape for key, tensor in other.state_dict().items()}, name


@pytest.mark.parametrize("size", [(32, 32), (40, 64), (37, 51), (8, 9)])
def test_maps_are_timm_s_at_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = timm.models.vision_transformer.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=48,
        depth=4,
        num_heads=3,
        mlp_ratio=2,
        num_classes=0,
        dynamic_img_size=True,
        dynamic_img_pad=True,
    ).eval()
    save_file(other.state_dict(), tmp_path / "a.safetensors")
    ours = VisionTransformer(**SMALL).eval()
    load(ours, tmp_path / "a.safetensors")
    with torch.no_grad():
        last, maps = other.forward_intermediates(picture(*size), indices=[0, 1, 2, 3])
        features = ours.forward_features(picture(*size))
    torch.testing.assert_close(features.maps[:3], maps[:3], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.pooled, last[:, 0], rtol=1e-5, atol=1e-5)
    tokens = features.maps[3].flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, last[:, 1:], rtol=1e-5, atol=1e-5)


def test_positions_of_another_size_are_resampled_as_timm_does(tmp_path: Path) -> None:
    save_file(VisionTransformer(**SMALL).state_dict(), tmp_path / "a.safetensors")
    ours = VisionTransformer(**{**SMALL, "image_size": (48, 24)})
    report = load(ours, tmp_path / "a.safetensors")
    [fate] = report.adapted
    assert (fate.name, fate.reason) == ("pos_embed", "4×4 → 6×3 positions")
    stored = VisionTransformer(**SMALL)
    load(stored, tmp_path / "a.safetensors")
    theirs = timm.layers.resample_abs_pos_embed(stored.pos_embed.detach(), [6, 3])
    torch.testing.assert_close(ours.pos_embed.detach(), theirs)


@pytest.mark.parametrize(
    ("num_layers", "num_levels", "taps"),
    [(12, 4, [2, 5, 8, 11]), (24, 4, [5, 11, 17, 23]), (5, 4, [0, 1, 2, 4]), (3, 1, [2])],
)
def test_maps_come_from_blocks_at_even_distances(
    num_layers: int, num_levels: int, taps: list[int]
) -> None:
    model = stirred(VisionTransformer(**{**SMALL, "num_layers": num_layers}, num_levels=num_levels))
    seen: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, result: seen.append(result))
    with torch.no_grad():
        maps = model(picture(32, 32))
    assert len(maps) == len(model.get_channel_schedule()) == num_levels
    seen[-1] = model.norm(seen[-1])
    for item, tap in zip(maps, taps, strict=True):
        assert torch.equal(item.flatten(2).transpose(1, 2), seen[tap][:, 1:])


def test_a_spatial_one_has_the_same_maps_and_pools_the_last() -> None:
    plain, spatial = stirred(VisionTransformer(**SMALL)), ViTSpatial(**SMALL).eval()
    spatial.load_state_dict(plain.state_dict())
    with torch.no_grad():
        a, b = plain.forward_features(picture(30, 41)), spatial.forward_features(picture(30, 41))
    assert all(map(torch.equal, a.maps, b.maps))
    assert torch.equal(b.pooled, b.maps[-1].mean((-2, -1)))
    assert not torch.allclose(a.pooled, b.pooled)


@pytest.mark.parametrize("cls", [VisionTransformer, ViTSpatial])
@pytest.mark.parametrize("decoded", [True, False])
def test_every_parameter_is_trained(cls: type[VisionTransformer], decoded: bool) -> None:
    for more in (
        {},
        {"class_token": False},
        {"num_registers": 2, "layer_scale": 0.1},
        {"pre_norm": True},
    ):
        backbone = cls(**SMALL, **more)
        features = backbone.forward_features(picture(30, 41))
        # A head that reads maps alone trains the final norm too.
        outputs = features.maps if decoded else [features.pooled]
        weights = [torch.randn_like(item) for item in outputs]
        sum((item * weight).sum() for item, weight in zip(outputs, weights, strict=True)).backward()
        unused = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
        assert not unused, (more, unused)


def test_pictures_do_not_depend_on_each_other() -> None:
    model = stirred(VisionTransformer(**SMALL))
    pictures = picture(40, 33)
    with torch.no_grad():
        together, alone = model(pictures), model(pictures[1:])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], one)


@pytest.mark.parametrize(
    "name",
    ["vit_tiny", pytest.param("vit_spatial_tiny", marks=pytest.mark.long), "dinov2_small"],
)
def test_programs_are_exported_for_any_size(name: str) -> None:
    model = zoo.build(f"{name}+unet", num_classes_classification=5, image_size=56).eval()
    example = torch.rand(2, 3, 70, 90)
    dims = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(model, (example,), dynamic_shapes=({**dims},))
    for size in ((1, 3, 56, 56), (3, 3, 101, 64)):
        pictures = torch.rand(*size)
        with torch.no_grad():
            ours, exported = model(pictures), program.module()(pictures)
        for head, logits in ours.items():
            torch.testing.assert_close(exported[head], logits, rtol=1e-4, atol=1e-4)


def test_compiled_it_gives_the_same() -> None:
    model = stirred(VisionTransformer(**SMALL))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        for size in ((32, 32), (40, 33)):
            for a, b in zip(model(picture(*size)), compiled(picture(*size)), strict=True):
                torch.testing.assert_close(a, b)


def test_half_precision_stays_close() -> None:
    model = stirred(VisionTransformer(**SMALL, num_registers=2))
    with torch.no_grad():
        exact = model(picture(40, 33))
        model.to(torch.bfloat16)
        rough = model(picture(40, 33).to(torch.bfloat16))
    for a, b in zip(exact, rough, strict=True):
        assert b.dtype == torch.bfloat16
        assert float((a - b).abs().max()) < 0.15 * float(a.abs().max())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_heads": 5}, "num_heads must divide hidden_dim 48, not 5"),
        ({"num_levels": 9}, "num_levels is 9, but there are 4 blocks"),
        ({"activation": "relu"}, "activation must be gelu or quick_gelu, not 'relu'"),
        ({"eps": 0}, "eps must be a positive number, not 0"),
        ({"layer_scale": "x"}, "layer_scale must be a positive number, not 'x'"),
        ({"num_layers": 0}, "num_layers must be a positive whole number, not 0"),
        ({"num_registers": -1}, "num_registers must be a positive whole number, not -1"),
        ({"class_token": "no"}, "class_token must be true or false, not 'no'"),
        ({"pre_norm": 1}, "pre_norm must be true or false, not 1"),
        ({"patch_size": 8.0}, "patch_size must be a positive whole number, not 8.0"),
        ({"image_size": (3, 4, 5)}, "image_size is one side, or height and width, not (3, 4, 5)"),
        ({"image_size": 0}, "image_size must be a positive whole number, not 0"),
        (
            {"pretrained": True},
            "pretrained=True is for the shapes of vit_tiny, vit_small, vit_base, vit_large, "
            "dinov2_small, dinov2_base, clip_vit_base; others are filled by zoo_core.weights.load",
        ),
    ],
)
def test_what_cannot_be_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        VisionTransformer(**{**SMALL, **more})
    assert str(caught.value) == message


def test_the_inventory_s_examples_run() -> None:
    vit = VisionTransformer(
        image_size=224, patch_size=16, num_layers=12, hidden_dim=768, num_heads=12, mlp_dim=3072
    )
    spatial = ViTSpatial(image_size=224, patch_size=16, num_layers=12)
    for model in (vit, spatial):
        with torch.no_grad():
            maps = model.eval()(torch.rand(1, 3, 224, 224))
        assert [item.shape for item in maps] == [(1, 768, 14, 14)] * 4


@pytest.mark.parametrize("cls", [VisionTransformer, ViTSpatial])
def test_one_of_any_shape_is_saved_by_value(cls: type[VisionTransformer], tmp_path: Path) -> None:
    backbone = cls(**SMALL, num_registers=2, layer_scale=0.1)
    model = MultitaskModel(backbone, num_classes_classification=3).eval()
    model.save_pretrained(tmp_path)
    again = MultitaskModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(model(picture(30, 41)), again(picture(30, 41)))
    name = "vit" if cls is VisionTransformer else "vit_spatial"
    assert again.recipe.canonical == f"zoo-vit:{name}"


@pytest.fixture
def small_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with weights of vit_tiny that were made with CLIP's first activation."""
    torch.manual_seed(3)
    model = VisionTransformer(**variants()["vit_tiny"], activation="quick_gelu", eps=1e-5)
    tensors = {name: torch.randn_like(t) * 0.05 for name, t in model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    registry = tmp_path / "registry.yaml"
    registry.write_text(
        "weights:\n- component: zoo-vit:vit_tiny\n  tag: quick\n  repository: me/vit\n"
        "  activation: quick_gelu\n  eps: 1.0e-5\n  source: this test\n  licence: mit\n"
    )
    monkeypatch.setenv("ZOO_REGISTRY", str(registry))
    return tmp_path / "model.safetensors"


CHECK = """
import sys, torch, zoo_core as zoo
from zoo_core.errors import WeightsError
from zoo_core.models import MultitaskModel
for name in ("vit_tiny.quick", "vit_spatial_tiny.quick"):
    model = zoo.build(name, num_classes_classification=3, seed=0).eval()
    given = model.backbone.constructor_arguments
    assert (given["activation"], given["eps"]) == ("quick_gelu", 1e-5), given
    model.save_pretrained(sys.argv[1] + name)
    again = MultitaskModel.from_pretrained(sys.argv[1] + name)
    assert again.backbone.constructor_arguments["activation"] == "quick_gelu"
    x = torch.rand(1, 3, 50, 60)
    with torch.no_grad():
        assert torch.equal(model(x), again(x))
for wrong in ({"activation": "gelu"}, {"eps": 1e-6}):
    try:
        zoo.build("vit_tiny.quick", backbone=wrong)
    except WeightsError as error:
        print(error)
"""


def test_weights_bring_their_activation_and_it_is_saved(
    small_clip: Path, loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    loopback_hub.add("me/vit", {"model.safetensors": small_clip})
    command = [sys.executable, "-c", CHECK, str(tmp_path / "saved-")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == (
        "weights zoo-vit:vit_tiny.quick are of a model with activation='quick_gelu', and this one "
        "has activation='gelu'\n"
        "weights zoo-vit:vit_tiny.quick are of a model with eps=1e-05, and this one has eps=1e-06\n"
    )
