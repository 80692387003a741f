"""The layer that class-activation maps look at, found in models of every library."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core.errors import InputError, ZooWarning
from zoo_core.explainability import Facts, GradCAM, HiResCAM, NotApplicableError, layers
from zoo_core.explainability.grids import Layout, layout_of


def small_vit(kind: str) -> nn.Module:
    if kind == "torchvision":
        return torchvision.models.VisionTransformer(32, 8, 2, 2, 24, 48, num_classes=5)
    if kind == "timm":
        return timm.create_model(
            "vit_tiny_patch16_224", img_size=(32, 48), patch_size=8, embed_dim=24, depth=2,
            num_heads=2, num_classes=5,
        )  # fmt: skip
    if kind == "registers":
        return timm.create_model(
            "vit_medium_patch16_reg4_gap_256", img_size=(32, 48), patch_size=8, embed_dim=24,
            depth=2, num_heads=2, num_classes=5,
        )  # fmt: skip
    if kind == "zoo":
        return zoo.build(
            "vit", num_classes_classification=5, image_size=(32, 48), seed=0,
            backbone={"patch_size": 8, "num_layers": 4, "hidden_dim": 24, "num_heads": 2,
                      "mlp_dim": 48},
        )  # fmt: skip
    if kind == "zoo spatial":
        return zoo.build(
            "vit_spatial", num_classes_classification=5, image_size=(32, 48), seed=0,
            backbone={"patch_size": 8, "num_layers": 4, "hidden_dim": 24, "num_heads": 2,
                      "mlp_dim": 48},
        )  # fmt: skip
    if kind == "transformers":
        return transformers.ViTForImageClassification(
            transformers.ViTConfig(
                image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=2,
                num_attention_heads=2, intermediate_size=48, num_labels=5,
            )
        )  # fmt: skip
    if kind == "open_clip":
        return open_clip.model.CLIP(
            embed_dim=5,
            vision_cfg={"layers": 2, "width": 64, "patch_size": 8, "image_size": 32},
            text_cfg={"width": 8, "heads": 2, "layers": 1},
        )
    assert kind == "sequence first"
    return SequenceFirst()


class SequenceFirst(nn.Module):
    """A transformer of torch's own layers whose tokens stand before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        layers = [nn.TransformerEncoderLayer(24, 2, 48, norm_first=True) for _ in range(2)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        tokens = torch.cat([self.token.expand(1, tokens.shape[1], -1), tokens])
        return self.head(self.layers(tokens)[0])


VITS = {
    "torchvision": ("encoder.layers.encoder_layer_1.ln_1", (32, 32), 1),
    "timm": ("blocks.1.norm1", (32, 48), 1),
    "registers": ("blocks.1", (32, 48), 4),
    "zoo": ("backbone.blocks.3.norm1", (32, 48), 1),
    "zoo spatial": ("backbone.norm", (32, 48), 1),
    "transformers": ("vit.layers.1.layernorm_before", (32, 32), 1),
    "open_clip": ("visual.transformer.resblocks.1.ln_1", (32, 32), 1),
    "sequence first": ("layers.1.norm1", (32, 48), 1),
}


@pytest.mark.parametrize("kind", VITS)
def test_tokens_of_places_that_the_score_depends_on_are_found(kind: str) -> None:
    name, size, prefix = VITS[kind]
    torch.manual_seed(0)
    model = small_vit(kind).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2 and not parameter.any():
            nn.init.normal_(parameter)  # a head that begins as zeros
    pictures = torch.randn(2, 3, *size)
    explainer = GradCAM(model)
    explanation = explainer.explanation(pictures, target_class=2, normalize=False)
    assert explanation.facts.target_layer == name
    [(_, layout)] = layers._KNOWN[model].found.values()
    assert (layout.grid, layout.prefix) == ((size[0] // 8, size[1] // 8), prefix)
    # The same by hand: gradients of the tokens, without those before the places.
    kept: list[Tensor] = []
    with torch.enable_grad():
        handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o))
        output = model(pictures)
        handle.remove()
        logits = output[0] if isinstance(output, tuple) else getattr(output, "logits", output)
        [gradient] = torch.autograd.grad(logits[:, 2].sum(), kept)
    tokens = [t.transpose(0, 1) if layout.order == "NBC" else t for t in (kept[0], gradient)]
    activation, gradient = (t[:, prefix:].detach() for t in tokens)
    assert gradient.any()
    cam = (gradient.mean(1, keepdim=True) * activation).sum(2).relu().reshape(2, *layout.grid)
    expected = nn.functional.interpolate(cam[:, None], size, mode="bilinear")[:, 0]
    torch.testing.assert_close(explanation.values, expected, rtol=1e-4, atol=1e-6)


def test_a_class_token_leaves_no_gradient_behind_the_last_attention() -> None:
    model = small_vit("zoo").eval()
    pictures = torch.randn(2, 3, 32, 48)
    for layer in ("backbone.blocks.3", "backbone.norm"):
        with pytest.warns(ZooWarning, match="the same everywhere, so that it shows nothing"):
            assert not GradCAM(model, layer).explain(pictures, target_class=1).any()
    assert GradCAM(model, "backbone.blocks.3.norm1").explain(pictures, target_class=1).any()


def test_what_was_found_in_a_model_is_remembered_while_its_modules_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5),
    ).eval()  # fmt: skip
    model[-1].weight.data.abs_()
    passes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    pictures = torch.randn(2, 3, 32, 48)
    first = GradCAM(model).explanation(pictures, target_class=1)
    assert first.facts.target_layer == "1"
    assert passes == [1, 2]
    again = HiResCAM(model).explanation(pictures, target_class=1)
    assert again.facts.target_layer == "1"
    assert passes == [1, 2, 2]
    model[2] = nn.Sequential(nn.MaxPool2d(5), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1))
    for parameter in model[2].parameters():
        parameter.data.abs_()  # so that there is something to show
    changed = GradCAM(model).explanation(pictures, target_class=1)
    assert changed.facts.target_layer == "2.1"
    assert passes == [1, 2, 2, 1, 2]
    kept = weakref.ref(model)
    del model
    gc.collect()
    assert kept() is None


def test_what_was_found_is_forgotten_where_a_module_is_set_otherwise() -> None:
    model = small_vit("timm").eval()
    nn.init.normal_(model.head.weight)
    pictures = torch.randn(2, 3, 32, 48)
    found = []
    for pool in ("avg", "token", "avg"):
        model.global_pool = pool
        found.append(GradCAM(model).explanation(pictures, target_class=1).facts.target_layer)
    assert found == ["norm", "blocks.1.norm1", "norm"]


def test_a_head_of_zeros_warns_and_is_not_remembered() -> None:
    model = small_vit("torchvision").eval()
    pictures = torch.randn(2, 3, 32, 32)
    explainer = GradCAM(model)
    with pytest.warns(ZooWarning, match="picture 0, 1 is the same everywhere"):
        assert not explainer.explain(pictures).any()
    nn.init.normal_(model.heads.head.weight)
    facts = explainer.explanation(pictures, target_class=0).facts
    assert facts.target_layer == "encoder.layers.encoder_layer_1.ln_1"


def facts_of(model: nn.Module, size: tuple[int, int] = (64, 96), **options: Any) -> Facts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZooWarning)  # maps of random models may be empty
        explanation = GradCAM(model.eval()).explanation(torch.randn(2, 3, *size), **options)
    assert explanation.values.shape == (2, *size)
    return explanation.facts


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: torchvision.models.resnet18(), "layer4.1"),
        (lambda: torchvision.models.squeezenet1_1(), "classifier.2"),
        (lambda: torchvision.models.mobilenet_v3_small(), "features.12.2"),
        (lambda: timm.create_model("convnext_atto"), "stages.3"),
        (lambda: timm.create_model("test_efficientnet"), "bn2"),
        (lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=(64, 96), depths=(1, 1, 1, 1), embed_dim=24,
            window_size=2), "norm"),
        (lambda: zoo.build("resnet18", seed=0), "backbone.layer4.1"),
        (lambda: zoo.build("resnet18+cbam", seed=0), "attention.4.0"),
    ],
)  # fmt: skip
def test_the_last_map_of_a_classifier_is_found(make: Callable[[], nn.Module], name: str) -> None:
    assert facts_of(make()).target_layer == name


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: zoo.build("resnet18+unet", num_classes_classification=0, seed=0),
         "backbone.layer4.1"),
        (lambda: zoo.build("resnet18+upernet", num_classes_classification=0, seed=0),
         "backbone.layer4.1"),
        (lambda: smp.Unet("resnet18", encoder_weights=None, classes=4), "encoder.layer4.1"),
        (lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None), "backbone.16.2"),
        (lambda: transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(
            depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1] * 4,
            decoder_hidden_size=16, num_labels=4)), "segformer.stages.3"),
        (lambda: OwnUNet(), "middle.1"),
    ],
)  # fmt: skip
def test_the_lowest_map_of_a_segmentation_models_encoder_is_found(
    make: Callable[[], nn.Module], name: str
) -> None:
    facts = facts_of(make())
    assert (facts.target_layer, facts.task, facts.region) == (name, "segmentation", "predicted")


class OwnUNet(nn.Module):
    """A model of which no name is known."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.paint = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.down(x)
        joined = torch.cat([self.up(self.middle(shallow)), shallow], 1)
        return nn.functional.interpolate(self.paint(joined), x.shape[-2:])


def test_each_head_of_a_model_has_its_layer() -> None:
    model = zoo.build("vit_tiny+unet", num_classes_segmentation=3, image_size=64, seed=0)
    size = (64, 64)
    layers = {task: facts_of(model, size, task=task).target_layer for task in
              ("classification", "segmentation")}  # fmt: skip
    assert layers == {
        "classification": "backbone.blocks.11.norm1",
        "segmentation": "backbone.norm",
    }


def test_a_model_that_stops_gradients_inside_is_explained_above() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torchvision.models.mobilenet_v3_small().features
            self.head = nn.Linear(576, 5)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.body(x)
            return self.head(x.mean((2, 3)))

    model = Frozen().eval()
    nn.init.uniform_(model.head.weight)
    pictures = torch.randn(2, 3, 64, 64)
    assert GradCAM(model, "body.12").explain(pictures).any()


def test_a_named_layer_that_gives_no_map_is_refused() -> None:
    model = torchvision.models.resnet18().eval()
    pictures = torch.randn(1, 3, 64, 64)
    for layer, error, message in (
        ("layer5", InputError, "the model has no layer 'layer5'; did you mean layer4 or layer3 or "
         "layer2?"),
        (nn.ReLU(), InputError, "target_layer, a ReLU, is no layer of the model"),
        (4, InputError, "target_layer must be a layer or its dotted name, not int"),
        ("fc", NotApplicableError, "layer 'fc' gives [1, 1000] for one picture, which is no map of "
         "its places"),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            GradCAM(model, layer).explain(pictures)
        assert str(caught.value) == message
    unused = zoo.build("resnet18+unet", num_classes_segmentation=2, seed=0)
    with pytest.raises(NotApplicableError) as caught:
        GradCAM(unused, unused.decoder).explain(pictures, task="classification")
    assert str(caught.value) == "layer 'decoder' is not called when the model runs"


def test_a_model_without_maps_is_not_applicable() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.LayerNorm(5))
    with pytest.raises(NotApplicableError) as caught:
        GradCAM(model).explain(torch.randn(2, 3, 4, 4))
    assert str(caught.value) == "no layer of Sequential gives a map of the picture"


@pytest.mark.parametrize(
    ("shape", "size", "grids", "expected"),
    [
        ((2, 512, 7, 5), (224, 160), [], ("BCHW", (7, 5), 0)),
        ((2, 7, 5, 512), (224, 160), [], ("BHWC", (7, 5), 0)),
        ((2, 141, 64), (224, 160), [], ("BNC", (14, 10), 1)),
        ((2, 145, 64), (224, 160), [], ("BNC", (14, 10), 5)),
        ((141, 2, 64), (224, 160), [], ("NBC", (14, 10), 1)),
        ((2, 197, 64), (200, 300), [(14, 14)], ("BNC", (14, 14), 1)),
        ((2, 197, 64), (224, 160), [(112, 80), (14, 14), (28, 28)], ("BNC", (14, 14), 1)),
    ],
)
def test_layouts_are_told_from_shapes(
    shape: tuple[int, ...], size: tuple[int, int], grids: Any, expected: Any
) -> None:
    layout = layout_of(torch.zeros(shape), 2, size, grids)
    assert layout is not None
    order, grid, prefix = expected
    assert layout == Layout(order=order, grid=grid, prefix=prefix)
    tensor = torch.randn(shape)
    places = layout.to_map(tensor)
    assert places.shape == (2, shape[-1] if order != "BCHW" else shape[1], *grid)
    assert torch.equal(layout.put_map(tensor, places), tensor)
    changed = layout.put_map(tensor, places + 1)
    torch.testing.assert_close(layout.to_map(changed), places + 1)
    assert (changed != tensor).sum() == places.numel()
