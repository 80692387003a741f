"""Learning rates over steps and layers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import zoo_core as zoo
from zoo_core.errors import InputError
from zoo_core.training import cosine_schedule, layerwise


def test_a_cosine_rises_falls_and_stays() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = cosine_schedule(optimizer, 10, warmup=2, floor=0.1)
    rates = []
    for _ in range(13):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:3] == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert rates[6] == pytest.approx(2 * (0.1 + 0.9 / 2))
    assert rates[10:] == pytest.approx([0.2] * 3)
    assert all(a > b for a, b in pairwise(rates[2:11]))


def test_without_a_warm_up_it_is_torchs_cosine() -> None:
    rates = []
    for make in (
        lambda optimizer: cosine_schedule(optimizer, 7),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7),
    ):
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
        schedule = make(optimizer)
        found = []
        for _ in range(7):
            optimizer.step()
            schedule.step()
            found.append(optimizer.param_groups[0]["lr"])
        rates.append(found)
    assert rates[0] == pytest.approx(rates[1])


@pytest.mark.parametrize(
    "recipe", ["resnet18+linear", "vit_tiny+linear", "timm/vit_tiny_patch16_224"]
)
def test_layers_learn_slower_towards_the_picture(recipe: str) -> None:
    model = zoo.build(recipe, num_classes_classification=3, seed=0)
    groups = layerwise(model, 1.0, decay=0.5, weight_decay=0.1)
    rate = {p: group["lr"] for group in groups for p in group["params"]}
    decays = {p: group["weight_decay"] for group in groups for p in group["params"]}
    assert set(rate) == set(model.parameters())
    assert sum(len(group["params"]) for group in groups) == len(rate)
    assert model.classifier is not None
    assert rate[model.classifier.weight] == 1.0
    assert decays[model.classifier.weight] == 0.1
    assert decays[model.classifier.bias] == 0.0
    names = {name: rate[p] for name, p in model.backbone.named_parameters()}
    if "vit" in recipe:
        blocks = [
            next(value for name, value in names.items() if f"blocks.{number}." in name)
            for number in range(12)
        ]
        assert blocks == [blocks[-1] / 2 ** (11 - number) for number in range(12)]
    else:
        stages = [
            max(value for name, value in names.items() if name.startswith(f"layer{number}."))
            for number in (1, 2, 3, 4)
        ]
        assert stages == sorted(set(stages))
    assert max(names.values()) == 0.5
    assert min(names.values()) == next(iter(names.values()))
    torch.optim.AdamW(groups)


def test_any_model_has_layers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    rates = {group["lr"] for group in layerwise(model, 1.0, decay=0.5)}
    assert rates == {1.0, 0.5, 0.25}


def test_a_layer_that_is_most_of_a_model_is_one_too() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    rates = {p: group["lr"] for group in layerwise(model, 1.0, decay=0.5) for p in group["params"]}
    assert [rates[parameter] for parameter in model.parameters()] == [0.5, 0.5, 1.0, 1.0]


def test_what_cannot_be_is_refused() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    with pytest.raises(InputError, match="warmup must be from 0 to below steps, 3, not 3"):
        cosine_schedule(optimizer, 3, warmup=3)
    with pytest.raises(InputError, match="floor is a share from 0 to 1, not 2"):
        cosine_schedule(optimizer, 3, floor=2)
    with pytest.raises(InputError, match="decay is a share above 0 and at most 1, not 0"):
        layerwise(nn.Linear(1, 1), 1.0, decay=0)
