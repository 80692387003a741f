"""Scores of explanations, compared with pytorch-grad-cam's, captum's and scipy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined
from scipy.stats import spearmanr
from skimage import data
from torch import Tensor, nn

from zoo_core.contracts import BaseExplainer
from zoo_core.errors import InputError
from zoo_core.explainability.trust import (
    average_drop,
    deletion,
    insertion,
    pointing_game,
    randomisation_check,
    road,
    score_maps,
    sensitivity,
)
from zoo_core.explainability.trust.imputation import impute
from zoo_core.explainability.trust.sanity import _rank_correlation

SIZE = 32


class Probability:
    """The probability of a class, as pytorch-grad-cam asks for targets."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[self.index]


class Gradients(BaseExplainer):
    """Absolute gradients of the class's logit."""

    def explain(
        self, inputs: Tensor, model: nn.Module | None = None,
        target_class: int | Tensor | None = None, **options: Any,
    ) -> Tensor:  # fmt: skip
        assert model is not None
        leaf = inputs.detach().clone().requires_grad_()
        with torch.enable_grad():
            score = model(leaf)[:, target_class].sum()
        return torch.autograd.grad(score, leaf)[0].abs()


class Edges(BaseExplainer):
    """Differences of neighbours: what no model is asked for."""

    def explain(
        self, inputs: Tensor, model: nn.Module | None = None,
        target_class: int | Tensor | None = None, **options: Any,
    ) -> Tensor:  # fmt: skip
        return inputs.diff(dim=-1, append=inputs[..., -1:]).abs().sum(1)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 5),
    ).eval()  # fmt: skip


@pytest.fixture
def pictures() -> Tensor:
    photos = [data.chelsea(), data.coffee(), data.rocket()]
    parts = [torch.from_numpy(photo[100:228:4, 150:278:4].copy()) for photo in photos]
    return (torch.stack(parts).permute(0, 3, 1, 2) / 127.5 - 1).contiguous()


@pytest.fixture
def maps() -> Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


OLD_NUMPY = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")


@OLD_NUMPY  # pytorch-grad-cam's own calls
def test_imputed_pixels_are_those_of_the_paper_s_own_code(pictures: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    for share in (0.1, 0.5, 0.9):
        removed = torch.rand(3, SIZE, SIZE, generator=generator) < share
        removed[2, :20] = True  # a large hole, to the border
        found = impute(pictures, removed)
        for picture, hole, ours in zip(pictures, removed, found, strict=True):
            theirs = NoisyLinearImputer(noise=0)(picture, (~hole).float())
            torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)
    nothing = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    assert torch.equal(impute(pictures, nothing), pictures)
    assert bool(impute(pictures, ~nothing).eq(0).all())


@OLD_NUMPY
def test_road_is_pytorch_grad_cam_s(
    model: nn.Module, pictures: Tensor, maps: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoisyLinearImputer, "__init__", lambda self: vars(self).update(noise=0.0))
    targets = [Probability(index) for index in (0, 3, 1)]
    theirs = ROADCombined(percentiles=[20, 50, 80])(pictures, maps.numpy(), targets, model)
    ours = road(model, pictures, maps, torch.tensor([0, 3, 1]), shares=(0.2, 0.5, 0.8), noise=0)
    # They round the number of pixels otherwise, by one of 1,024.
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_drop_is_pytorch_grad_cam_s_as_a_share(
    model: nn.Module, pictures: Tensor, maps: Tensor
) -> None:
    maps = (maps - maps.amin((1, 2), True)) / (maps.amax((1, 2), True) - maps.amin((1, 2), True))
    targets = [Probability(index) for index in (0, 3, 1)]
    before = model(pictures).softmax(1)[range(3), [0, 3, 1]].detach().numpy()
    found = average_drop(model, pictures, 7 * maps + 2, [0, 3, 1])
    drop = DropInConfidence()(pictures, maps.numpy(), targets, model)
    np.testing.assert_allclose(found.drop, drop / before, atol=1e-5)
    increase = IncreaseInConfidence()(pictures, maps.numpy(), targets, model)
    assert found.increased.tolist() == increase.astype(bool).tolist()


@pytest.mark.parametrize("kind", [deletion, insertion])
def test_pixels_go_and_come_one_after_the_other(
    kind: Any, model: nn.Module, pictures: Tensor, maps: Tensor
) -> None:
    other = pictures.flip(0)
    curve = kind(model, pictures, maps, 2, steps=4, baseline=other)
    start, end = (pictures, other) if kind is deletion else (other, pictures)
    for step, share in enumerate((0, 0.25, 0.5, 0.75, 1)):
        for row in range(3):
            order = maps[row].flatten().argsort(descending=True)[: round(share * SIZE**2)]
            mixed = start[row].flatten(1).clone()
            mixed[:, order] = end[row].flatten(1)[:, order]
            with torch.no_grad():
                probability = model(mixed.reshape(1, 3, SIZE, SIZE)).softmax(1)[0, 2]
            assert float(curve.probabilities[step, row]) == pytest.approx(
                float(probability), abs=1e-6
            )
    values = curve.probabilities
    wanted = (values[1:] + values[:-1]).mean(0) / 2
    torch.testing.assert_close(curve.area, wanted)


def test_a_map_that_tells_the_truth_scores_better_than_its_opposite() -> None:
    """A model that looks at one corner only."""

    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bright = x[:, :, :8, :8].mean((1, 2, 3)) * 8
            return torch.stack([bright, -bright], 1)

    pictures = torch.ones(2, 3, SIZE, SIZE)
    pictures[1] = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) + 0.5
    truth = torch.zeros(2, SIZE, SIZE)
    truth[:, :8, :8] = 1
    truth += torch.rand(truth.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    good = score_maps(Corner(), pictures, truth, 0)
    bad = score_maps(Corner(), pictures, 1 - truth, 0)
    assert bool((good["deletion"] < bad["deletion"] - 0.2).all())
    assert bool((good["average_drop"] < bad["average_drop"] - 0.2).all())
    # The blurred beginning of the even picture is the picture itself.
    assert float(good["insertion"][1]) > float(bad["insertion"][1])
    assert set(good) == {"insertion", "deletion", "road", "average_drop"}


def test_scores_do_not_depend_on_the_batch(
    model: nn.Module, pictures: Tensor, maps: Tensor
) -> None:
    classes = [4, 0, 2]
    together = score_maps(model, pictures, maps, classes)
    alone = [score_maps(model, pictures[i : i + 1], maps[i : i + 1], classes[i]) for i in range(3)]
    for name, values in together.items():
        if name != "road":  # whose noise is drawn by the row
            torch.testing.assert_close(
                values, torch.cat([one[name] for one in alone]), atol=1e-5, rtol=1e-5
            )
    without = road(model, pictures, maps, classes, noise=0)
    rows = [
        road(model, pictures[i : i + 1], maps[i : i + 1], classes[i], noise=0) for i in range(3)
    ]
    torch.testing.assert_close(without, torch.cat(rows), atol=1e-4, rtol=0)


def test_sensitivity_is_captum_s(model: nn.Module, pictures: Tensor) -> None:
    explainer, radius, count = Gradients(), 0.05, 4
    drawn = [torch.Generator().manual_seed(row) for row in range(3)]
    noises = iter(
        torch.stack([torch.rand(3, SIZE, SIZE, generator=g) for g in drawn]) for _ in range(count)
    )

    def perturbed(inputs: Any, _: float) -> Any:
        return inputs + (2 * next(noises) - 1) * radius

    def explained(inputs: Any) -> tuple[Tensor]:
        return (explainer.explain(inputs[0] if isinstance(inputs, tuple) else inputs, model, 1),)

    theirs = sensitivity_max(
        explained, pictures, perturbed, radius, count, max_examples_per_batch=3
    )
    ours = sensitivity(explainer, pictures, model, 1, radius=radius, samples=count)
    torch.testing.assert_close(ours, theirs)


def test_ranks_are_scipy_s() -> None:
    generator = torch.Generator().manual_seed(0)
    one = torch.randint(5, (3, 40), generator=generator).double()
    other = torch.rand(3, 40, generator=generator).double()
    other[2] = 1
    found = _rank_correlation(one, other)
    for row in range(2):
        assert float(found[row]) == pytest.approx(spearmanr(one[row], other[row]).statistic)
    assert float(found[2]) == 0


def test_gradients_pass_the_sanity_check_and_edges_do_not(
    model: nn.Module, pictures: Tensor
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = randomisation_check(Gradients(), model, pictures, 1, steps=3)
    assert gradients.layers == ["7", "1", "0"]
    assert gradients.similarity.shape == (3, 3)
    assert gradients.passed
    edges = randomisation_check(Edges(), model, pictures, 1, steps=3)
    assert not edges.passed
    assert bool(edges.similarity.allclose(torch.ones(3, 3).double()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_pointing_game() -> None:
    maps = torch.zeros(4, SIZE, SIZE)
    maps[0, 5, 6] = maps[1, 5, 6] = maps[2, 20, 20] = 1  # the last is constant
    masks = torch.zeros(4, SIZE, SIZE)
    masks[:, 0:8, 0:8] = 1
    masks[1] = 0
    assert pointing_game(maps, masks, tolerance=3).tolist() == [True, False, False, False]
    # The corner (7, 7) is 18.4 pixels from (20, 20).
    assert pointing_game(maps, masks, tolerance=18).tolist() == [True, False, False, False]
    assert pointing_game(maps, masks, tolerance=19).tolist() == [True, False, True, False]
    boxes = torch.tensor([[6, 5, 7, 6], [7, 5, 8, 6], [0, 0, 1, 1], [0, 0, 9, 9]])
    assert pointing_game(maps, boxes, tolerance=0).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda m, x, a: deletion(m, x, a[:2]), "maps must be .B, H, W. or .B, C, H, W. of the"),
        (lambda m, x, a: deletion(m, x, a, steps=0), "steps must be a positive whole number"),
        (lambda m, x, a: deletion(m, x, a / 0 * 0), "maps have values that are not finite"),
        (lambda m, x, a: insertion(m, x, a, baseline="noise"), "baseline is 'blur', 'zero' or"),
        (lambda m, x, a: insertion(m, x, a, baseline=x[:, :1]), "must be like the pictures"),
        (lambda m, x, a: road(m, x, a, shares=(0.5, 1)), "shares must be above 0 and below 1"),
        (lambda m, x, a: road(m, x, a, 9), "target_class must be from 0 to 4"),
        (lambda m, x, a: pointing_game(a, a[:1]), "objects must be masks"),
        (lambda m, x, a: sensitivity(Gradients(), x, m), "target_class must be given"),
        (lambda m, x, a: randomisation_check(Gradients(), m, x), "target_class must be given"),
    ],
)
def test_what_cannot_be_is_refused(
    call: Any, problem: str, model: nn.Module, pictures: Tensor, maps: Tensor
) -> None:
    with pytest.raises(InputError, match=problem):
        call(model, pictures, maps)
