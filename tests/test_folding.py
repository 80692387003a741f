"""Convolutions that do the work of the batch norms behind them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import get_model

import zoo_core as zoo
from zoo_core.folding import Folding, JointWeights, Pairs, pairs_of

PICTURES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def trained(model: nn.Module) -> nn.Module:
    """Give a model in eval mode whose norms have other values than the initial ones."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                if values is not None:
                    values.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


class Counting(TorchDispatchMode):
    """Counts the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        name = func.overloadpacket.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def runs(model: nn.Module, count: int = 3, pictures: Tensor = PICTURES) -> list[Tensor]:
    """Run a model some times with what was learnt in the first."""
    pairs, joint = Pairs(), JointWeights()
    results = []
    for _ in range(count):
        with Folding(pairs, joint), torch.no_grad():
            results.append(model(pictures))
    return results


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (lambda: get_model("resnet18"), 0),
        (lambda: get_model("mobilenet_v3_small", init_weights=False), 0),
        (lambda: get_model("densenet121"), 62),  # norms before convolutions, and of many maps
        (lambda: timm.create_model("efficientnet_lite0"), 0),
        (lambda: timm.create_model("regnety_002"), 0),
        (lambda: zoo.build("resnet18+cbam+unet", num_classes_classification=0), 0),
    ],
)  # fmt: skip
def test_models_give_the_same_with_fewer_norms(make: Callable[[], nn.Module], left: int) -> None:
    model = trained(make())
    with torch.no_grad():
        expected = model(PICTURES)
    first, *others = runs(model, 2)
    assert first.equal(expected)
    for found in others:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())
    pairs, joint = Pairs(), JointWeights()
    with torch.no_grad():
        with Folding(pairs, joint):
            model(PICTURES)
        with Folding(pairs, joint), Counting() as counting:
            model(PICTURES)
    assert counting.counts.get("native_batch_norm", 0) == left


class Reading(nn.Module):
    """Reads a convolution as ``read`` says, beside its norm."""

    def __init__(self, read: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.read = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), read

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv(x)
        return self.read(first, self.norm(first))


READINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a sum": lambda before, after: before + after,
    "in a list": lambda before, after: torch.cat([after, before]),
    "by name": lambda before, after: torch.add(input=after, other=before),
    "in place": lambda before, after: after.mul_(before),
    "a part": lambda before, after: after * before[:, :1],
    "values": lambda before, after: after * float(before.max()),
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_a_convolution_that_others_read_is_left_alone(
    read: Callable[[Tensor, Tensor], Tensor],
) -> None:
    model = trained(Reading(read))
    with torch.no_grad():
        expected = model(PICTURES)
    assert all(found.equal(expected) for found in runs(model))


def test_shapes_may_be_read() -> None:
    model = trained(Reading(lambda before, after: after * before.shape[1]))
    pairs = Pairs()
    with Folding(pairs, JointWeights()), torch.no_grad():
        model(PICTURES)
    assert pairs.norm(model.get_parameter("conv.weight")) is not None


def test_who_reads_later_before_the_norm_is_given_the_convolution_alone() -> None:
    seen = []

    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.look = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), False

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if self.look:
                seen.append(x + 0)
            return self.norm(x)  # type: ignore[no-any-return]

    model = trained(Sometimes())
    pairs, joint = Pairs(), JointWeights()
    with torch.no_grad():
        expected = model(PICTURES)
        alone = model.get_submodule("conv")(PICTURES)
        with Folding(pairs, joint):
            model(PICTURES)
        model.look = True
        with Folding(pairs, joint):
            found = model(PICTURES)
    torch.testing.assert_close(found, expected)
    assert seen[0].equal(alone)


def test_one_convolution_with_two_norms_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.one, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.other(self.conv(self.one(self.conv(x))))  # type: ignore[no-any-return]

    model = trained(Shared())
    model.get_submodule("other").weight.data.mul_(3)  # type: ignore[union-attr, operator]
    with torch.no_grad():
        expected = model(PICTURES)
    assert all(found.equal(expected) for found in runs(model))


@pytest.mark.parametrize("change", ["weight", "mean", "dtype", "data", "norm", "training"])
def test_changes_between_runs_are_heeded(change: str) -> None:
    model = trained(Reading(lambda before, after: after))
    pairs, joint = Pairs(), JointWeights()
    pictures = PICTURES
    with torch.no_grad():
        for _ in range(2):
            with Folding(pairs, joint):
                model(pictures)
        conv, norm = model.get_submodule("conv"), model.get_submodule("norm")
        if change == "weight":
            conv.weight.mul_(2)  # type: ignore[union-attr, operator]
        elif change == "mean":
            norm.running_mean.add_(1)  # type: ignore[union-attr, operator]
        elif change == "dtype":
            model.double()
            pictures = pictures.double()
        elif change == "data":
            conv.weight.data = conv.weight.data * 2  # type: ignore[union-attr, operator]
        elif change == "norm":
            model.norm = trained(nn.BatchNorm2d(4))
        else:
            norm.train()
        with Folding(pairs, joint):
            found = model(pictures)
        norm.eval()
        if change != "training":
            torch.testing.assert_close(found, model(pictures))
        else:
            torch.testing.assert_close(
                found, F.batch_norm(conv(pictures), None, None, norm.weight, norm.bias, True)
            )


def test_gradients_at_the_pictures_are_the_same() -> None:
    model = trained(get_model("resnet18")).double()
    leaf = PICTURES.double().requires_grad_()
    expected = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]
    pairs, joint = Pairs(), JointWeights()
    for _ in range(2):
        with Folding(pairs, joint):
            scores = model(leaf)
        found = torch.autograd.grad(scores[:, 0].sum(), leaf)[0]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_run_that_fails_teaches_nothing() -> None:
    def fail(before: Tensor, after: Tensor) -> Tensor:
        raise ArithmeticError

    model, pairs = trained(Reading(fail)), Pairs()
    with pytest.raises(ArithmeticError), Folding(pairs, JointWeights()):
        model(PICTURES)
    assert model.get_parameter("conv.weight") not in pairs


def test_what_is_known_lives_as_long_as_the_model() -> None:
    model = trained(get_model("resnet18"))
    known = pairs_of(model)
    assert known is not None
    assert pairs_of(model) is known
    with Folding(known, JointWeights()), torch.no_grad():
        model(PICTURES)
    assert len(known._norms) == 20
    del model
    assert not list(known._norms)


def test_models_with_hooks_or_without_pairs_have_none() -> None:
    assert pairs_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())) is None
    assert pairs_of(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))) is None
    hooked = trained(get_model("resnet18"))
    hooked.get_submodule("layer1").register_forward_hook(lambda *_: None)
    assert pairs_of(hooked) is None
