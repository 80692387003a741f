"""What holds for class-activation maps whatever a peer does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import zoo_core.explainability.chunks
from zoo_core import registry
from zoo_core.errors import InputError, ZooWarning
from zoo_core.targets import component_class
from zoo_gradcam import zoo_specs
from zoo_gradcam.ablation import AblationCAM
from zoo_gradcam.base import CAM
from zoo_gradcam.eigen import EigenCAM
from zoo_gradcam.gradient import GradCAM, HiResCAM
from zoo_gradcam.score import ScoreCAM

METHODS = {spec.name: component_class(registry.explainers[spec.name]) for spec in zoo_specs()}
every_method = pytest.mark.parametrize("kind", METHODS.values(), ids=METHODS)


def network(inplace: bool = True) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace),
        nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(inplace),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 6),
    )  # fmt: skip
    with torch.no_grad():
        net[-1].weight.add_(0.3)
    return net.eval()


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(3, 3, 20, 28, generator=torch.Generator().manual_seed(3))


@every_method
def test_each_map_has_the_pictures_size_and_goes_from_0_to_1(
    kind: type[CAM], pictures: Tensor
) -> None:
    maps = kind(network()).explain(pictures, target_class=[0, 1, 2], normalize=True)
    assert maps.shape == (3, 20, 28)
    assert maps.flatten(1).amin(1).tolist() == [0] * 3
    assert maps.flatten(1).amax(1).tolist() == [1] * 3
    assert not maps.requires_grad
    raw = kind(network()).explain(pictures, target_class=[0, 1, 2], normalize=False)
    flat = raw.flatten(1)
    least, most = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    torch.testing.assert_close(maps, (raw - least) / (most - least))


@every_method
def test_a_picture_s_map_does_not_depend_on_the_others(kind: type[CAM], pictures: Tensor) -> None:
    explainer = kind(network())
    together = explainer.explain(pictures, target_class=[0, 1, 2])
    for row in range(3):
        alone = explainer.explain(pictures[row : row + 1], target_class=row)
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-5)


@every_method
def test_pieces_change_nothing(
    kind: type[CAM], pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = kind(network()).explain(pictures, target_class=1)
    monkeypatch.setattr(zoo_core.explainability.chunks, "_PIXELS", 20 * 28 // 2)
    found = kind(network()).explain(pictures, target_class=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@every_method
def test_a_map_that_is_the_same_everywhere_gives_zeros_and_warns(kind: type[CAM]) -> None:
    flat = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    explainer = kind(flat, "1")
    even = torch.ones(2, 3, 8, 12)
    with pytest.warns(ZooWarning, match="map of picture 0, 1 is the same everywhere"):
        maps = explainer.explain(even, target_class=1)
    assert torch.equal(maps, torch.zeros(2, 8, 12))


@every_method
@pytest.mark.parametrize("layer", ["3", "4", "5"])
def test_what_works_in_place_behind_the_layer_changes_nothing(
    kind: type[CAM], pictures: Tensor, layer: str
) -> None:
    maps = [kind(network(inplace), layer).explain(pictures, None, 1) for inplace in (False, True)]
    assert torch.equal(*maps)


def test_a_layer_that_gives_its_input_back_is_kept_too(pictures: Tensor) -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.drop = network(), nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            x = self.layers[:5](x)
            dropped = self.drop(x)
            x.fill_(100)  # in eval mode, what the dropout gave was the same tensor
            return self.layers[5:](dropped)

    class Early(Late):
        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

    found = GradCAM(Late(), "drop").explain(pictures, target_class=1)
    expected = GradCAM(Early(), "layers.4").explain(pictures, target_class=1)
    assert torch.equal(found, expected)


def test_gradients_begin_at_the_layer(pictures: Tensor) -> None:
    model = torchvision.models.resnet18().eval()
    explainer = GradCAM(model, "layer4")
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    large = torch.randn(2, 3, 64, 64)
    explainer.explain(large, target_class=1)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        explainer.explain(large, target_class=1)
    of_the_head = sum(p.numel() * p.element_size() for p in model.fc.parameters())
    assert sum(sizes) < of_the_head + 50_000  # a forward with a graph keeps 20 MB


def ablated(model: nn.Module, layer: str, pictures: Tensor, category: int) -> Tensor:
    """Ablation-CAM's weights by hand: one whole forward for each channel."""
    weights = []
    with torch.no_grad():
        score = model(pictures)[:, category]
        for channel in range(model.get_submodule(layer)(torch.zeros(1, 8, 8, 8)).shape[1]):

            def zero(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
                changed = output.clone()
                changed[:, channel] = 0  # noqa: B023
                return changed

            handle = model.get_submodule(layer).register_forward_hook(zero)
            weights.append((score - model(pictures)[:, category]) / score.abs())
            handle.remove()
    return torch.stack(weights, 1)


class Merged(nn.Module):
    """Takes the size of the batch from its input, so that no other one fits further on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[5:](self.layers[:5](x).reshape(len(x), 12, 5, 7))


@pytest.mark.parametrize("merged", [False, True])
def test_ablation_cam_runs_what_follows_for_each_channel(pictures: Tensor, merged: bool) -> None:
    model = Merged().eval() if merged else network()
    layer = "layers.3" if merged else "3"
    expected = ablated(model, layer, pictures, 1)
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))
    with torch.no_grad():
        model(pictures)
    handle.remove()
    maps = (expected[:, :, None, None] * kept[0]).sum(1).relu()
    maps = nn.functional.interpolate(maps[:, None], (20, 28), mode="bilinear")[:, 0]
    found = AblationCAM(model, layer).explain(pictures, target_class=1, normalize=False)
    torch.testing.assert_close(found, maps, rtol=1e-4, atol=1e-5)


def test_ablation_cam_before_pooling_and_a_linear_layer_takes_no_pass_a_channel(
    pictures: Tensor,
) -> None:
    model = network()
    explainer = AblationCAM(model)
    explainer.explain(pictures, target_class=1)
    passes: list[int] = []
    model[0].register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    explainer.explain(pictures, target_class=1)
    assert passes == [3, 1]  # the batch, and one picture to see that what follows is linear


def test_hires_cam_adds_up_to_the_score(pictures: Tensor) -> None:
    model = network().double()
    with torch.no_grad():
        model[-1].weight.abs_()
        model[-1].bias.zero_()
        score = model(pictures.double())[:, 2]
    explanation = HiResCAM(model).explanation(pictures.double(), target_class=2, normalize=False)
    assert explanation.values.dtype == torch.float64
    # The map is 5×7, enlarged four times, without what is outside of the corners' centres.
    cells = nn.functional.interpolate(explanation.values[:, None], (5, 7), mode="area")
    torch.testing.assert_close(cells.sum((1, 2, 3)), score, rtol=0.05, atol=0)


def test_eigen_cam_shows_what_stands_out() -> None:
    torch.manual_seed(0)
    model = network()
    pictures = 0.01 * torch.randn(2, 3, 40, 40)
    pictures[0, :, :16, :16] += 3 * torch.randn(3, 16, 16)
    pictures[1, :, 24:, 24:] += 3 * torch.randn(3, 16, 16)
    for layer in ("5", "2"):  # with fewer channels than places, and the other way round
        maps = EigenCAM(model, layer).explain(pictures)
        inside = [maps[0, :16, :16].mean(), maps[1, 24:, 24:].mean()]
        outside = [maps[0, 24:, 24:].mean(), maps[1, :16, :16].mean()]
        assert all(a > 3 * b for a, b in zip(inside, outside, strict=True))


def test_score_cam_weighs_by_the_scores_of_masked_pictures(pictures: Tensor) -> None:
    model = network()
    with torch.no_grad():
        activation = model[:6](pictures)
        masks = nn.functional.interpolate(activation, (20, 28), mode="bilinear")
        flat = masks.flatten(2)
        low, high = flat.amin(2)[..., None, None], flat.amax(2)[..., None, None]
        masks = (masks - low) / (high - low).clamp(min=1e-12)
        scores = torch.stack([model(pictures * masks[:, k : k + 1])[:, 4] for k in range(12)], 1)
        maps = (scores.softmax(1)[:, :, None, None] * activation).sum(1)
    expected = nn.functional.interpolate(maps[:, None], (20, 28), mode="bilinear")[:, 0]
    found = ScoreCAM(model, "5").explain(pictures, target_class=4, normalize=False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="the model has no layer 'layer9'"):
        GradCAM(network(), "layer9")
    with pytest.raises(InputError) as caught:
        GradCAM(network()).explain(torch.ones(1, 3, 20, 28), absolute=True)
    assert str(caught.value) == (
        "explain of GradCAM has no option 'absolute'; it has normalize, precision, region, task"
    )
