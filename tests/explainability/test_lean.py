"""Gradients at pictures alone, and models that run again for theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import zoo_core.explainability as explaining
from zoo_core.explainability import precision
from zoo_core.explainability.lean import Lean
from zoo_core.folding import JointWeights, Pairs

M = TypeVar("M", bound=nn.Module)


def seeded(module: M) -> M:
    """Give a module in eval mode, of float64, whose norms have seen something."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean):
                nn.init.normal_(tensor)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    return module.double().eval()


def gradients(
    model: nn.Module, pictures: Tensor, mode: Lean | None = None, weigh: int = 3
) -> tuple[Tensor, Tensor]:
    """Give what a model gives, and the gradient at its pictures."""
    leaf = pictures.clone().requires_grad_()
    if mode is None:
        output = model(leaf)
    else:
        with mode:
            output = model(leaf)
    generator = torch.Generator().manual_seed(weigh)
    weights = torch.randn(output.shape, generator=generator, dtype=output.dtype)
    return output.detach(), torch.autograd.grad((output * weights).sum(), leaf)[0]


CONVOLUTIONS = [
    nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False),
    nn.Conv2d(3, 8, 7, stride=3),
    nn.Conv2d(3, 8, (4, 6), stride=2, padding=(0, 2)),
    nn.Conv2d(3, 8, 11, stride=4, padding=2),
    nn.Conv2d(3, 6, 4, stride=4),
    nn.Conv2d(3, 6, 4, stride=6, padding=1),
    nn.Conv2d(3, 6, 5, stride=(1, 2)),
    nn.Conv2d(3, 6, 4, stride=2, dilation=2),
    nn.Conv2d(3, 6, 4, stride=2, padding="valid"),
    nn.Conv2d(3, 6, 3, padding="same"),
    nn.Conv2d(3, 6, 4, groups=3, stride=2),
    nn.Conv2d(3, 6, 1),
]


@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("size", [(23, 30), (24, 25), (29, 26)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_and_its_norm_have_torchs_gradient(
    convolution: nn.Conv2d, size: tuple[int, int], order: torch.memory_format
) -> None:
    model = seeded(nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels)))
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    pictures = pictures.contiguous(memory_format=order)
    output, expected = gradients(model, pictures)
    for every_layer in (False, True):
        given, found = gradients(model, pictures, Lean(Pairs(), None, every_layer=every_layer))
        torch.testing.assert_close(given, output, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.fixture
def maps() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 9, 8, generator=generator, dtype=torch.float64)


class Reading(nn.Module):
    """A convolution and its norm, and something that happens between them."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.between, self.shared = between, False

    def forward(self, maps: Tensor) -> Tensor:
        maps = maps * 2
        given = self.conv(maps if self.shared else maps.clone())
        more = self.between(maps, given)
        return self.norm(given) + more  # type: ignore[no-any-return]


def read_too(maps: Tensor, given: Tensor) -> Tensor:
    return given.sin()


def change_what_was_given(maps: Tensor, given: Tensor) -> Tensor:
    return given.relu_()


def change_what_was_read(maps: Tensor, given: Tensor) -> Tensor:
    return maps.relu_()


def change_its_gradient(maps: Tensor, given: Tensor) -> Tensor:
    given.register_hook(lambda gradient: 3 * gradient)  # type: ignore[no-untyped-call]
    return maps


def cut_off(maps: Tensor, given: Tensor) -> Tensor:
    return given.detach()


@pytest.mark.parametrize(
    "between",
    [read_too, change_what_was_given, change_what_was_read, change_its_gradient, cut_off],
)
def test_what_else_happens_to_a_convolutions_result_is_seen(
    between: Callable[[Tensor, Tensor], Tensor], maps: Tensor
) -> None:
    model = seeded(Reading(between))
    output, expected = gradients(model, maps)
    model.shared = True  # torch itself refuses a gradient where what a weight read was changed
    given, found = gradients(model, maps, Lean(Pairs(), None))
    torch.testing.assert_close(given, output)
    torch.testing.assert_close(found, expected)


def test_a_norm_of_what_was_cut_off_has_no_gradient(maps: Tensor) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, maps: Tensor) -> Tensor:
            with torch.no_grad():
                given = self.conv(maps)
            return self.norm(given) + maps.sin()  # type: ignore[no-any-return]

    model = seeded(Cut())
    torch.testing.assert_close(gradients(model, maps, Lean(Pairs(), None)), gradients(model, maps))


def test_weights_made_of_the_picture_pass_a_gradient_on(maps: Tensor) -> None:
    class Dynamic(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            weight = maps.mean((0, 2, 3)).outer(maps.std((0, 2, 3)))
            maps = nn.functional.conv2d(maps, weight[:, :, None, None])
            return nn.functional.linear(maps.mean((2, 3)), weight)

    for low in (False, True):
        model, mode = Dynamic(), Lean(Pairs(), None, low_backward=low)
        inputs = maps.float() if low else maps
        found = gradients(model, inputs, mode)
        torch.testing.assert_close(found, gradients(model, inputs))


def test_a_model_that_maps_over_its_batch_is_explained(maps: Tensor) -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, maps: Tensor) -> Tensor:
            run = torch.func.vmap(lambda one: self.conv(one[None])[0])
            return run(maps)  # type: ignore[no-any-return]

    model = seeded(Mapped())
    torch.testing.assert_close(gradients(model, maps, Lean(Pairs(), None)), gradients(model, maps))


# Models that run again for their gradients.


class Checkpointed(nn.Module):
    """Blocks, of which the middle one may be run again for its gradients."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again = again

        def block(channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            )  # fmt: skip

        self.first, self.middle, self.last = block(3), block(8), block(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = checkpoint(self.middle, x, use_reentrant=False) if self.again else self.middle(x)
        return self.head(self.last(x).mean((2, 3)))  # type: ignore[no-any-return]


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("VanillaSaliency", {}),
    ("GuidedBackprop", {}),
    ("InputXGradient", {}),
    ("SmoothGrad", {"num_samples": 3}),
    ("IntegratedGradients", {"num_steps": 3}),
    ("RISE", {"num_masks": 8}),
    ("GradCAM", {}),
    ("GradCAM", {"target_layer": "middle.2"}),
    ("LayerCAM", {"target_layer": "middle.3"}),
    ("HiResCAM", {"target_layer": "first.4"}),
    ("AblationCAM", {"target_layer": "middle.4"}),
]


@pytest.mark.parametrize(("method", "options"), METHODS, ids=str)
@pytest.mark.parametrize("how", ["full", "exact"])
def test_a_model_that_runs_again_for_its_gradients_is_explained(
    method: str, options: dict[str, Any], how: str
) -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    maps = []
    for again in (False, True):
        model = seeded(Checkpointed(again))
        model.head.weight.data.abs_()
        explainer = getattr(explaining, method)(model, **options)
        maps.append(explainer.explain(pictures, target_class=1, precision=how))
    expected, found = maps
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_a_model_of_timm_that_runs_again_is_explained_by_several_methods(name: str) -> None:
    size: dict[str, Any] = {"img_size": 64} if name.startswith("vit") else {}
    torch.manual_seed(0)
    model: Any = timm.create_model(name, pretrained=False, num_classes=5, **size).double().eval()
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    methods: dict[str, dict[str, Any]] = {
        "grad_cam": {}, "saliency": {}, "integrated_gradients": {"num_steps": 3}
    }  # fmt: skip
    found = []
    for again in (False, True):
        model.set_grad_checkpointing(again)
        found.append(explaining.Explainer(model, methods).explain(pictures, target_class=2))
    for method in methods:
        torch.testing.assert_close(found[1][method], found[0][method], rtol=1e-7, atol=1e-9)


def test_a_model_that_runs_again_is_not_said_to_be_lowered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "has_units", lambda device: True)
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for again, told in ((False, "bfloat16 backward"), (True, "full")):
        explainer = explaining.SmoothGrad(seeded(Checkpointed(again)).float(), num_samples=4)
        found = explainer.explanation(pictures, target_class=1, precision="auto")
        assert found.facts.details["precision"] == told
        full = explainer.explain(pictures, target_class=1)
        assert found.values.equal(full) == again


@pytest.mark.parametrize("method", ["SmoothGrad", "IntegratedGradients", "VanillaSaliency"])
def test_a_norm_that_runs_again_reads_what_its_convolution_alone_gives(method: str) -> None:
    class Split(nn.Module):
        def __init__(self, again: bool) -> None:
            super().__init__()
            self.again, self.conv = again, nn.Conv2d(3, 8, 3)
            self.rest = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            x = checkpoint(self.rest, x, use_reentrant=False) if self.again else self.rest(x)
            return x.mean((2, 3))  # type: ignore[no-any-return]

    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    expected, found = (
        getattr(explaining, method)(seeded(Split(again))).explain(pictures, target_class=1)
        for again in (False, True)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_runs_of_copies_of_a_model_that_runs_again_join_nothing(maps: Tensor) -> None:
    model = seeded(Checkpointed(True))
    pairs = Pairs()
    gradients(model, maps[:, :3], mode := Lean(pairs, JointWeights()))
    assert mode.checkpointed
    known = [layer.weight in pairs for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert known == [True, True, False, False, True, True]
