"""Every native backbone with every attention and decoder, for real and for shapes."""

from __future__ import annotations

import random
import re
from functools import cache

import pytest
import torch
from torch import nn

import zoo_core as zoo
from matrix.native import PAGE, Trial, page, trials
from matrix.of_timm import PAGE as TIMM_PAGE
from matrix.of_timm import try_architecture
from matrix.trying import native, problem_of
from zoo_core.catalogue import registry
from zoo_core.contracts import Backbone, ChannelSchedule
from zoo_core.seeding import Seeds
from zoo_core.targets import construct

# One of each kind, small enough to be trained with everything; three of them for a long time.
SMALL = (
    "resnet18",
    pytest.param("resnet50", marks=pytest.mark.long),
    "vit_tiny",
    pytest.param("vit_spatial_tiny", marks=pytest.mark.long),
    pytest.param("dinov2_small", marks=pytest.mark.long),
)
# Half a minute between them, of what smaller ones have in every layer.
LARGE = ("vit_large", "vit_spatial_large")
SIZE = (61, 75)


@cache
def backbone(name: str) -> Backbone:
    with Seeds(0).part(name):
        made: Backbone = construct(registry.backbones[name], {}, in_channels=4)
    return made.train()


def untrained(module: nn.Module) -> list[str]:
    """Give the parameters without a gradient, or with one of zeros throughout."""
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name in LARGE else ())
        for name in native("backbone")
    ],
)
def test_every_pair_is_trained_whole(name: str) -> None:
    trunk = backbone(name)
    pictures = torch.rand(2, 4, *SIZE, generator=torch.Generator().manual_seed(0))
    maps = trunk(pictures)
    schedule = ChannelSchedule(trunk.get_channel_schedule())
    for decoder in native("decoder"):
        torch.manual_seed(0)
        wired = {"backbone_channels": schedule, "output_channels": 3}
        module = construct(registry.decoders[decoder], {}, **wired)
        given = [item.detach().requires_grad_() for item in maps]
        logits = module(given, output_size=SIZE)
        assert logits.shape == (2, 3, *SIZE), decoder
        (logits * torch.randn_like(logits)).sum().backward()
        assert not untrained(module), decoder
        # All decoders read the deepest map, behind which every parameter of the backbone stands.
        assert given[-1].grad is not None, decoder
        assert given[-1].grad.any(), decoder
    (maps[-1] * torch.randn_like(maps[-1])).sum().backward()
    assert not untrained(trunk)
    trunk.zero_grad()


@pytest.mark.parametrize("decoder", native("decoder"))
@pytest.mark.parametrize("name", SMALL)
def test_every_triple_is_trained_whole(name: str, decoder: str) -> None:
    # Three of them: batch norm over two numbers gives one and minus one, whatever they are.
    pictures = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    for attention in native("attention"):
        # A layer of a few units may rest for one draw of the weights, and not for all.
        resting: set[str] | None = None
        for seed in range(4):
            model = trained(f"{name}+{attention}@all+{decoder}", pictures, seed, **narrow(decoder))
            found = set(untrained(model))
            resting = found if resting is None else resting & found
            if not resting:
                break
        assert not resting, attention


def narrow(decoder: str) -> dict[str, dict[str, int]]:
    """Give a decoder's options that take less time; its full width is tried with every backbone."""
    options = registry.decoders[decoder].options or {}
    return {"decoder": {"channels": 64}} if "channels" in options else {}


def trained(recipe: str, pictures: torch.Tensor, seed: int, **options: object) -> nn.Module:
    """Give a model after a backward from both of its heads."""
    model = zoo.build(
        recipe,
        num_classes_classification=5,
        num_classes_segmentation=3,
        seed=seed,
        **options,
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # else what begins as the identity holds back what is behind
                parameter.normal_(std=0.1)
    outputs = model(pictures)
    assert outputs["classification"].shape == (len(pictures), 5)
    assert outputs["segmentation"].shape == (len(pictures), 3, *pictures.shape[-2:])
    sum((item * torch.randn_like(item)).sum() for item in outputs.values()).backward()
    return model


@pytest.mark.parametrize(
    "trial", random.Random(0).sample(sorted(trials()), 60), ids=lambda t: t.recipe
)
def test_shapes_are_right_for_a_sample(trial: Trial) -> None:
    assert problem_of(trial.recipe, trial.channels) == ""


@pytest.mark.long
@pytest.mark.parametrize("name", native("backbone"))
def test_shapes_are_right_for_all(name: str) -> None:
    ours = [trial for trial in trials() if trial.backbone == name]
    problems = {trial: problem_of(trial.recipe, trial.channels) for trial in ours}
    assert not {trial: problem for trial, problem in problems.items() if problem}


def test_the_page_is_of_the_components_there_are() -> None:
    """The page was written when these components were, all of them being right."""
    assert PAGE.read_text() == page(dict.fromkeys(trials(), ""))


@pytest.mark.parametrize(
    "name",
    ["resnet50", "vit_base_patch16_224", "swin_tiny_patch4_window7_224", "coatnet_0_rw_224",
     "efficientnet_lite0", "mixer_b16_224", "vgg11", "levit_128", "crossvit_9_240", "inception_v4"],
)  # fmt: skip
def test_timm_s_compose_with_every_decoder(name: str) -> None:
    assert not any(try_architecture(name).values())


def test_nearly_all_of_timm_composes() -> None:
    text = TIMM_PAGE.read_text()
    whole = re.search(r"([\d,]+) names \(([\d.]+)%\) compose with every native decoder", text)
    assert whole is not None
    assert float(whole[2]) >= 99
    assert all(f"| `{decoder}` |" in text for decoder in native("decoder"))


def test_the_whole_of_timm_is_what_the_page_says() -> None:
    from zoo_timm.names import architectures

    said = re.search(r"All ([\d,]+) names that timm ([\w.]+) lists", TIMM_PAGE.read_text())
    assert said is not None
    timm = pytest.importorskip("timm")
    if timm.__version__ != said[2]:
        pytest.skip(f"the page is of timm {said[2]}")
    assert int(said[1].replace(",", "")) == len(architectures())
