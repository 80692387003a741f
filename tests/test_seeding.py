"""Initial weights depend on the seed and on a part's own name only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

import zoo_core as zoo


def state(recipe: str, **options: Any) -> dict[str, Tensor]:
    return dict(zoo.build(recipe, **options).state_dict())


def differing(one: dict[str, Tensor], other: dict[str, Tensor], prefix: str) -> list[str]:
    names = [name for name in one if name.startswith(prefix) and one[name].is_floating_point()]
    assert names
    return [name for name in names if not torch.equal(one[name], other[name])]


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    one, same, other = (state("resnet18+cbam+unet", seed=seed) for seed in (1, 1, 2))
    assert not differing(one, same, "")
    assert "backbone.conv1.weight" in differing(one, other, "backbone.")


def test_a_part_starts_the_same_whatever_stands_beside_it() -> None:
    alone = state("resnet18+unet", seed=1)
    joined = state("resnet18+cbam@2+cbam@4+unet", seed=1, num_classes_classification=7)
    assert not differing(alone, joined, "backbone.")
    assert not differing(alone, joined, "decoder.")
    only_last = state("resnet18+cbam+unet", seed=1)
    assert not differing(only_last, joined, "attention.4.")


def test_two_attentions_of_one_kind_start_differently() -> None:
    weights = state("resnet18+cbam+cbam", seed=1)
    first, second = (weights[f"attention.4.{i}.spatial.conv.weight"] for i in (0, 1))
    assert not torch.equal(first, second)


def test_without_a_seed_torchs_generator_decides() -> None:
    torch.manual_seed(5)
    one, next_one = state("resnet18"), state("resnet18")
    torch.manual_seed(5)
    again = state("resnet18")
    assert not differing(one, again, "")
    assert differing(one, next_one, "backbone.")


def test_building_with_a_seed_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    zoo.build("resnet18+cbam+unet", seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_can_be_built_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = zoo.build("resnet50+cbam@all+unet")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model(torch.empty(2, 3, 97, 131, device="meta"))["segmentation"].shape == (
        2, 21, 97, 131,
    )  # fmt: skip


def test_building_does_not_touch_buffers_or_modes() -> None:
    model = zoo.build("resnet18+cbam+unet", seed=1)
    assert all(module.training for module in model.modules())
    assert not model.backbone.bn1.running_mean.any()
    assert int(model.backbone.bn1.num_batches_tracked) == 0


def test_threads_that_build_at_once_do_not_disturb_one_another() -> None:
    alone = state("resnet18+cbam+unet", seed=3)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: state("resnet18+cbam+unet", seed=3), range(6)))
    assert not [name for other in together for name in differing(alone, other, "")]
