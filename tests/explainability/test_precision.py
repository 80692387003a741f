"""Running with less work, and in lower precision where that changes no map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

import zoo_core as zoo
from zoo_core.errors import InputError
from zoo_core.explainability import (
    RISE,
    Explainer,
    IntegratedGradients,
    SmoothGrad,
    VanillaSaliency,
)
from zoo_core.explainability import precision as precisions
from zoo_core.explainability.lean import Lean
from zoo_core.explainability.precision import agreement
from zoo_core.folding import JointWeights, Pairs
from zoo_core.hardware import has_units

LOWERABLE = {"num_samples": 4, "noise_level": 0.05}


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    model: nn.Module = zoo.build("resnet18", num_classes_classification=5, seed=0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # of other values than the initial ones
            generator = torch.Generator().manual_seed(module.num_features)
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                values.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))


class Disagreeing(nn.Module):
    """Adds up numbers of which bfloat16 keeps nothing that matters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, bias=False)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        far = self.first(x) + 1000
        return self.last((far - 1000).square().mean((2, 3)))  # type: ignore[no-any-return]


class Cancelling(nn.Sequential):
    """Takes from each other what differs by less than bfloat16 keeps."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1))
        with torch.no_grad():
            self[0].weight[8:] = self[0].weight[:8] * (1 + 2**-12)
            self[1].weight[:, 8:] = -self[1].weight[:, :8]


class Viewing(nn.Module):
    """Counts on pictures whose channels come first in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4 * 46 * 38, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).view(len(x), -1))  # type: ignore[no-any-return]


def test_lean_runs_give_the_same_gradients_and_keep_less(
    resnet: nn.Module, pictures: Tensor
) -> None:
    double = resnet.double()
    pairs, joint = Pairs(), JointWeights()
    for _ in range(2):
        with torch.no_grad(), Lean(pairs, joint):
            double(pictures.double())
    leaf = pictures.double()
    once = [tensor for _, made in joint._made.values() for tensor in made]
    own = {p.data_ptr() for p in [*double.parameters(), *double.buffers(), *once]}
    kept: dict[str, dict[int, int]] = {"plain": {}, "lean": {}}
    found = {}
    for name in kept:

        def pack(tensor: Tensor, name: str = name) -> Tensor:
            if tensor.data_ptr() not in own:
                kept[name][tensor.data_ptr()] = tensor.nbytes
            return tensor

        x = leaf.clone().requires_grad_()
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            if name == "lean":
                with Lean(pairs, joint):
                    scores = double(x)
            else:
                scores = double(x)
        found[name] = torch.autograd.grad(scores[:, 0].sum(), x)[0]
    resnet.float()
    torch.testing.assert_close(found["lean"], found["plain"], rtol=1e-10, atol=1e-12)
    assert sum(kept["lean"].values()) < 0.7 * sum(kept["plain"].values())


def test_lean_norms_of_unknown_convolutions_are_the_same_to_the_last_bit(
    resnet: nn.Module, pictures: Tensor
) -> None:
    with torch.no_grad():
        expected = resnet(pictures)
        with Lean(Pairs(), JointWeights()):
            assert resnet(pictures).equal(expected)


def test_a_model_that_counts_on_an_order_in_memory_is_explained(pictures: Tensor) -> None:
    model = Viewing().eval()
    leaf = pictures.clone().requires_grad_()
    expected = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0]
    found = VanillaSaliency(model).explain(pictures, target_class=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("precision", ["full", "bfloat16"])
def test_the_precision_is_told_and_changes_no_more_than_rounding(
    resnet: nn.Module, pictures: Tensor, precision: str
) -> None:
    explainer = SmoothGrad(resnet, **LOWERABLE)
    full = explainer.explain(pictures, target_class=0)
    found = explainer.explanation(pictures, target_class=0, precision=precision)
    assert found.facts.details["precision"] == precision
    assert found.values.dtype == torch.float32
    assert found.values.equal(full) == (precision == "full")
    assert agreement(found.values, full, torch.arange(2)) > 0.9


def test_where_there_are_no_units_auto_is_full(resnet: nn.Module, pictures: Tensor) -> None:
    explainer = SmoothGrad(resnet, **LOWERABLE)
    found = explainer.explanation(pictures, target_class=0, precision="auto")
    if has_units(pictures.device):
        full = explainer.explain(pictures, target_class=0)
        assert agreement(found.values, full, torch.arange(2)) > 0.98
    else:
        assert found.facts.details["precision"] == "full"
        assert found.values.equal(explainer.explain(pictures, target_class=0))


def test_auto_keeps_to_full_precision_where_the_two_disagree(
    pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any processor calculates in bfloat16, if slowly; here it is taken to do so fast.
    monkeypatch.setattr(precisions, "has_units", lambda device: True)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for explains, disagreeing, lowered in (
        (SmoothGrad, nn.Sequential(Cancelling(), plain), "bfloat16 backward"),
        (RISE, Disagreeing(), "bfloat16"),
    ):
        for model, expected in ((disagreeing, "full"), (plain, lowered)):
            explainer = explains(model.eval(), 4)
            found = explainer.explanation(pictures, target_class=0, precision="auto")
            assert found.facts.details["precision"] == expected
            full = explainer.explain(pictures, target_class=0)
            assert found.values.equal(full) == (expected == "full")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False),
        nn.Conv2d(4, 6, 1, stride=2),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Linear(10, 6),
        nn.Linear(10, 6, bias=False),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_of_a_low_gradient_the_way_there_is_untouched_and_the_way_back_rounded(
    layer: nn.Conv2d | nn.Linear, order: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 12, 10, generator=generator).contiguous(memory_format=order)
    x.requires_grad_()
    expected = layer(x)
    with Lean(Pairs(), None, low_backward=True):
        found = layer(x)
    assert found.equal(expected)
    weights = torch.randn(expected.shape, generator=generator)
    full, low = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (expected, found))
    assert low.dtype == torch.float32
    assert (low - full).norm() < 0.01 * full.norm()
    exact = isinstance(layer, nn.Conv2d) and (layer.groups > 1 or layer.padding == "same")
    assert low.equal(full) == exact


def test_a_rounded_way_back_hardly_turns_a_deep_model(resnet: nn.Module, pictures: Tensor) -> None:
    explainer = SmoothGrad(resnet, **LOWERABLE)
    full = explainer.explain(pictures, target_class=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precisions, "has_units", lambda device: True)
        found = explainer.explanation(pictures, target_class=0, precision="auto")
    assert found.facts.details["precision"] == "bfloat16 backward"
    assert not found.values.equal(full)
    assert agreement(found.values, full, torch.arange(2)) > 0.999


def test_a_model_of_inference_mode_is_lowered_too(
    pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "has_units", lambda device: True)
    for recipe in ("resnet18", "vit_tiny"):
        with torch.inference_mode():
            model = zoo.build(recipe, image_size=48, num_classes_classification=5, seed=0).eval()
        explainer = SmoothGrad(model, **LOWERABLE)
        inputs = F.interpolate(pictures, (48, 48))
        full = explainer.explain(inputs, target_class=0)
        found = explainer.explanation(inputs, target_class=0, precision="auto")
        assert found.facts.details["precision"] == "bfloat16 backward"
        assert not found.values.equal(full)
        assert agreement(found.values, full, torch.arange(2)) > 0.99


def test_a_model_in_lower_precision_already_is_run_as_it_is(pictures: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    explainer = IntegratedGradients(model, num_steps=2)
    found = explainer.explanation(pictures.double(), target_class=0, precision="bfloat16")
    assert found.facts.details["precision"] == "full"
    assert found.values.dtype == torch.float64


def test_several_methods_share_a_precision(resnet: nn.Module, pictures: Tensor) -> None:
    explainer = Explainer(resnet, {"smoothgrad": LOWERABLE, "grad_cam": {}})
    full = explainer.explain(pictures, target_class=0)
    low = explainer.explain(pictures, target_class=0, precision="bfloat16")
    assert low["grad_cam"].equal(full["grad_cam"])  # of the pictures themselves
    assert low.facts["smoothgrad"].details["precision"] == "bfloat16"


def test_agreement_is_the_rank_correlation() -> None:
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(4, 3, 5, generator=generator)
    low = full + 0.3 * torch.randn(4, 3, 5, generator=generator)
    rows = torch.tensor([0, 0, 1, 1])
    expected = [
        spearmanr(low[rows == row].sum(0).flatten(), full[rows == row].sum(0).flatten()).statistic
        for row in (0, 1)
    ]
    assert agreement(low, full, rows) == pytest.approx(min(expected))
    numbers, scores = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 1.0, 3.0, 4.0])
    assert agreement(numbers, scores, torch.zeros(4)) == pytest.approx(0.8)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs /proc/cpuinfo")
def test_units_are_those_that_the_processor_tells_of() -> None:
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    assert has_units(torch.device("cpu")) == bool(flags & {"amx_bf16", "avx512_bf16"})
    assert not has_units(torch.device("meta"))


def test_another_precision_is_refused(resnet: nn.Module, pictures: Tensor) -> None:
    with pytest.raises(
        InputError,
        match="precision must be one of 'full', 'bfloat16', 'auto', 'exact', not 'float16'",
    ):
        SmoothGrad(resnet).explain(pictures, precision="float16")


def test_exact_runs_the_model_just_as_it_is(resnet: nn.Module, pictures: Tensor) -> None:
    """A mode of the caller's sees every batch norm; otherwise none in the runs of copies."""

    class Seeing(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.norms = 0

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.norms += func is F.batch_norm
            return func(*args, **(kwargs or {}))

    explainer = SmoothGrad(resnet, **LOWERABLE)
    found, seen = {}, {}
    for precision in ("full", "exact"):
        with Seeing() as seeing:
            found[precision] = explainer.explain(pictures, target_class=0, precision=precision)
        seen[precision] = seeing.norms
    assert seen == {"full": 0, "exact": 40}
    torch.testing.assert_close(found["exact"], found["full"], rtol=1e-3, atol=1e-5)
