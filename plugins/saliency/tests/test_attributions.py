"""What holds for attributions whatever a peer does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core import Preprocessing, registry
from zoo_core.errors import InputError
from zoo_core.explainability import Explainer, NotApplicableError, VanillaSaliency
from zoo_core.explainability.inquiry import Inquiry
from zoo_core.explainability.running import explaining
from zoo_core.targets import component_class
from zoo_saliency import zoo_specs
from zoo_saliency.base import PixelAttribution, SampledAttribution
from zoo_saliency.guided import GuidedBackprop
from zoo_saliency.occlusion import Occlusion
from zoo_saliency.path import IntegratedGradients
from zoo_saliency.rise import RISE
from zoo_saliency.smooth import SmoothGrad, fingerprints

FEW: dict[str, dict[str, int]] = {
    "smoothgrad": {"num_samples": 5},
    "integrated_gradients": {"num_steps": 5},
    "occlusion": {"patch_size": 9, "stride": 7},
    "rise": {"num_masks": 7},
}
METHODS = {spec.name: component_class(registry.explainers[spec.name]) for spec in zoo_specs()}
every_method = pytest.mark.parametrize("name", METHODS)


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), activation(),
        nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), activation(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 6),
    ).eval()  # fmt: skip


def made(name: str, model: nn.Module, **options: Any) -> PixelAttribution:
    explainer = METHODS[name](model, **FEW.get(name, {}), **options)
    assert isinstance(explainer, PixelAttribution)
    return explainer


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(3, 3, 20, 28, generator=torch.Generator().manual_seed(3))


@every_method
def test_shapes_signs_and_scales(name: str, pictures: Tensor) -> None:
    explainer = made(name, network())
    raw = explainer.explain(pictures, target_class=[0, 1, 2])
    assert raw.shape == ((3, 20, 28) if name in ("occlusion", "rise") else pictures.shape)
    assert not raw.requires_grad
    if name != "rise":  # probabilities have no sign
        assert raw.min() < 0 < raw.max()
    absolute = explainer.explain(pictures, target_class=[0, 1, 2], absolute=True)
    torch.testing.assert_close(absolute, raw.abs())
    scaled = explainer.explain(pictures, target_class=[0, 1, 2], normalize=True)
    flat = raw.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    torch.testing.assert_close(scaled.flatten(1), (flat - low) / (high - low))


@every_method
def test_neither_the_batch_nor_the_chunk_changes_a_picture_s_result(
    name: str, pictures: Tensor
) -> None:
    model = network()
    explainer = made(name, model)
    together = explainer.explain(pictures, target_class=[0, 1, 2])
    scale = together.abs().max()
    for row in (2, 0):
        alone = explainer.explain(pictures[row : row + 1], target_class=row)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=float(1e-5 * scale))
    if isinstance(explainer, SampledAttribution):
        for size in (1, 4, 100):
            found = made(name, model, chunk_size=size).explain(pictures, target_class=[0, 1, 2])
            torch.testing.assert_close(found, together, rtol=0, atol=float(1e-5 * scale))


@every_method
def test_global_random_numbers_change_nothing(name: str, pictures: Tensor) -> None:
    model = network()
    torch.manual_seed(1)
    one = made(name, model).explain(pictures, target_class=1)
    torch.manual_seed(2)
    assert torch.equal(made(name, model).explain(pictures, target_class=1), one)
    if name in ("smoothgrad", "rise"):
        other = made(name, model, seed=1).explain(pictures, target_class=1)
        assert not torch.allclose(other, one)


@every_method
def test_segmentation_is_explained(name: str, pictures: Tensor) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()[:6]

        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(self.layers(x), x.shape[2:], mode="bilinear")

    explanation = made(name, Wide().eval()).explanation(pictures)
    assert explanation.facts.region == "predicted"
    assert explanation.values.flatten(1).any(1).all()


# Integrated gradients.


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("steps", [5, 50])
def test_integrated_gradients_add_up_to_the_change_of_score(
    pictures: Tensor, activation: type[nn.Module], steps: int
) -> None:
    model, inputs = network(activation).double(), pictures.double()
    for baseline in (None, 0.7, torch.rand(3, 3, 20, 28)):
        explanation = IntegratedGradients(model, steps, baseline).explanation(inputs)
        facts = explanation.facts
        assert facts.target_class is not None
        start = torch.zeros_like(inputs) + (0 if baseline is None else baseline)
        with torch.no_grad():
            change = (model(inputs) - model(start))[range(3), facts.target_class]
        total = explanation.values.sum((1, 2, 3))
        torch.testing.assert_close(total, change, rtol=0, atol=1e-8)


def test_what_the_steps_miss_is_told_and_little() -> None:
    inputs = torch.randn(2, 3, 20, 28, dtype=torch.float64)
    smooth = IntegratedGradients(network(nn.GELU).double()).explanation(inputs)
    assert max(smooth.facts.details["gap"]) < 1e-8
    bending = network().double()
    few, many = (
        IntegratedGradients(bending, steps, complete=False).explanation(inputs)
        for steps in (10, 200)
    )
    assert max(few.facts.details["gap"]) > max(many.facts.details["gap"]) > 1e-8
    whole = IntegratedGradients(bending, 10).explanation(inputs)
    assert whole.facts.details["gap"] == few.facts.details["gap"]
    shared = (whole.values - few.values) / few.values.abs()
    for picture in shared:  # in proportion to each value's size
        torch.testing.assert_close(picture, picture[0, 0, 0].expand_as(picture), rtol=1e-6, atol=0)


def test_black_is_black_in_image_space_where_that_is_known(pictures: Tensor) -> None:
    model = zoo.build("resnet18", num_classes_classification=3, seed=0)
    model.preprocessing = None
    explainer = IntegratedGradients(model, num_steps=2)
    assert explainer.explanation(pictures, target_class=1).facts.details["baseline"] == "zero"
    with pytest.raises(InputError, match="baseline='black' takes a model whose preprocessing is"):
        IntegratedGradients(model, baseline="black").explain(pictures)
    model.preprocessing = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    found = explainer.explanation(pictures, target_class=1)
    assert found.facts.details["baseline"] == "black"
    black = torch.tensor([-2.5, -1.6, -0.6])[:, None, None]
    given = IntegratedGradients(model, 2, black).explanation(pictures, target_class=1)
    assert given.facts.details["baseline"] == "given"
    torch.testing.assert_close(found.values, given.values)


# SmoothGrad.


def test_noise_is_relative_to_each_pictures_range() -> None:
    seen: list[Tensor] = []

    class Seeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return self.model(x)

    ranges = torch.tensor([1.0, 10.0, 0.1])
    pictures = torch.rand(3, 3, 20, 28) * ranges[:, None, None, None]
    SmoothGrad(Seeing(), num_samples=40, noise_level=0.2).explain(pictures, target_class=1)
    copies = torch.cat(seen)[3:].reshape(3, 40, 3, 20, 28)
    deviations = (copies - pictures[:, None]).flatten(1).std(1)
    torch.testing.assert_close(deviations, 0.2 * ranges, rtol=0.05, atol=0)
    noise = (copies - pictures[:, None]) / ranges[:, None, None, None, None]
    flat = noise.flatten(0, 1).flatten(1)
    similar = torch.corrcoef(flat) - torch.eye(120)
    assert similar.abs().max() < 0.2  # each copy of each picture has noise of its own


def test_smoothgrad_without_noise_is_the_gradient_and_of_a_line_too(pictures: Tensor) -> None:
    model = network()
    gradient = made("saliency", model).explain(pictures, target_class=1)
    none = SmoothGrad(model, 3, noise_level=0).explain(pictures, target_class=1)
    torch.testing.assert_close(none, gradient)
    line = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 28, 4)).eval()
    found = SmoothGrad(line, 3).explain(pictures, target_class=1)
    torch.testing.assert_close(found, line[1].weight[1].reshape(1, 3, 20, 28).expand(3, -1, -1, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_fingerprints_are_of_a_picture_alone(pictures: Tensor, dtype: torch.dtype) -> None:
    pictures = pictures.to(dtype)
    prints = fingerprints(pictures)
    assert len(set(prints)) == 3
    assert fingerprints(pictures[1:2]) == prints[1:2]
    assert fingerprints(pictures.to(memory_format=torch.channels_last)) == prints
    changed = pictures.clone()
    changed[0, 0, 0, 0], changed[0, 0, 0, 1] = pictures[0, 0, 0, 1], pictures[0, 0, 0, 0]
    assert fingerprints(changed)[0] != prints[0]


# Guided backpropagation, occlusion, RISE.


class Functional(nn.Module):
    """ReLUs in all spellings, in place too."""

    def __init__(self, six: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(7))
        self.six = six

    def forward(self, x: Tensor) -> Tensor:
        c = self.convs
        x = F.relu(c[0](x), True)
        x = torch.relu(c[1](x))
        x = c[2](x).relu()
        x = c[3](x)
        x.relu_()
        x = F.relu(input=c[4](x), inplace=True)
        x = torch.relu_(c[5](x))
        return nn.ReLU(inplace=True)(c[6](x)).mean((2, 3))


class Modules(Functional):
    """The same with modules, that captum can hook."""

    def __init__(self) -> None:
        super().__init__()
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(7))

    def forward(self, x: Tensor) -> Tensor:
        for conv, relu in zip(self.convs, self.relus, strict=True):
            x = relu(conv(x))
        return x.mean((2, 3))


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
def test_relus_are_guided_however_they_are_written(pictures: Tensor) -> None:
    import captum.attr

    modules = Modules().eval()
    theirs = captum.attr.GuidedBackprop(modules)
    expected = theirs.attribute(pictures.clone().requires_grad_(), 1)
    assert expected.any()
    for model in (modules, Functional().eval()):
        found = GuidedBackprop(model).explain(pictures, target_class=1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("module", [nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0.0, 6.0)])
def test_relu6_is_guided_below_its_top(module: nn.Module) -> None:
    values = torch.tensor([-1.0, 1.0, 2.0, 7.0]).reshape(1, 1, 2, 2)
    head = nn.Linear(4, 1, bias=False)
    nn.init.constant_(head.weight, 1.0)
    with torch.no_grad():
        head.weight[0, 2] = -1
    model = nn.Sequential(nn.Identity(), module, nn.Flatten(), head).eval()
    found = GuidedBackprop(model).explain(values, target_class=0)
    assert found.flatten().tolist() == [0, 1, 0, 0]


def test_without_a_relu_nothing_is_guided(pictures: Tensor) -> None:
    with pytest.raises(NotApplicableError, match="Sequential has no ReLU"):
        GuidedBackprop(network(nn.GELU)).explain(pictures)


def spotted() -> nn.Module:
    """Whose first class's score is the brightness of one corner."""

    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bright = x[:, :, :5, :7].mean((1, 2, 3))
            return torch.stack([bright, -bright], 1)

    return Corner().eval()


def test_occlusion_finds_what_the_score_hangs_on() -> None:
    values = Occlusion(spotted(), (5, 7), (5, 7)).explain(torch.ones(2, 3, 20, 28), None, 0)
    expected = torch.zeros(2, 20, 28)
    expected[:, :5, :7] = 1
    torch.testing.assert_close(values, expected)


def test_rise_finds_what_the_score_hangs_on() -> None:
    bright = 4 * torch.ones(1, 3, 20, 28)
    found = RISE(spotted(), num_masks=300, cells=4).explain(bright, None, 0)[0]
    assert found[:5, :7].min() > found[10:, 14:].max() + 0.03
    assert 0.5 < found.min() < found.max() < 1  # the score goes from 0 to 4, and 0.5 to 1 of it


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smoothgrad", {"num_samples": 0}, "num_samples of SmoothGrad must be a positive whole "
         "number, not 0"),
        ("smoothgrad", {"noise_level": -1}, "noise_level of SmoothGrad must be a number from 0, "
         "not -1"),
        ("smoothgrad", {"chunk_size": 2.5}, "chunk_size of SmoothGrad must be a positive whole "
         "number, not 2.5"),
        ("integrated_gradients", {"num_steps": True}, "num_steps of IntegratedGradients must be a "
         "positive whole number, not True"),
        ("occlusion", {"patch_size": (1, 2, 3)}, "patch_size of Occlusion is one side, or height "
         "and width, not (1, 2, 3)"),
        ("occlusion", {"stride": (1, 0)}, "stride of Occlusion must be a positive whole number, "
         "not 0"),
        ("rise", {"keep": 1}, "keep of RISE must be a number between 0 and 1, not 1"),
        ("rise", {"cells": -1}, "cells of RISE must be a positive whole number, not -1"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        METHODS[name](network(), **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("white", "baseline must be 'black', 'zero', a number or pictures, not 'white'"),
        ([1], "baseline must be 'black', 'zero', a number or pictures, not [1]"),
        (torch.ones(4, 20, 28), "a baseline of [4, 20, 28] does not broadcast to [3, 3, 20, 28]"),
    ],
)
def test_wrong_baselines_are_refused(baseline: Any, message: str, pictures: Tensor) -> None:
    with pytest.raises(InputError) as caught:
        IntegratedGradients(network(), baseline=baseline).explain(pictures)
    assert str(caught.value) == message
    with pytest.raises(InputError, match="a patch of 21×3 is larger than the picture, 20×28"):
        Occlusion(network(), (21, 3)).explain(pictures)


@pytest.mark.parametrize(
    "methods", [["guided_backprop", "saliency"], ["saliency", "guided_backprop"]]
)
def test_guided_gradients_are_nobody_elses(methods: list[str]) -> None:
    model, pictures = network(), torch.rand(2, 3, 20, 28)
    both = Explainer(model, methods).explain(pictures, target_class=1)
    for name, kind in (("saliency", VanillaSaliency), ("guided_backprop", GuidedBackprop)):
        alone = kind(model).explain(pictures, target_class=1)
        torch.testing.assert_close(both[name], alone, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(both["saliency"], both["guided_backprop"])


def test_guided_gradients_of_an_inquiry_come_before_plain_ones() -> None:
    model, pictures = network().eval(), torch.rand(2, 3, 20, 28)
    with explaining(model) as bare:
        inquiry = Inquiry(bare, pictures, 1)
        guided = GuidedBackprop().values(inquiry)[0]
        plain = inquiry.input_gradient
    torch.testing.assert_close(plain, VanillaSaliency(model).explain(pictures, target_class=1))
    torch.testing.assert_close(guided, GuidedBackprop(model).explain(pictures, target_class=1))
