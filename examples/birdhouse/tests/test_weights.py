"""Weights that are fetched from a Hub on this machine, or from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import zoo_core as zoo
from safetensors.torch import save
from timm.models import get_pretrained_cfg
from torch import Tensor
from zoo_core.testing import Cut, LoopbackHub

from birdhouse.convmixer import ConvMixer
from birdhouse.sizes import SIZES
from birdhouse.weights import ENTRIES

SMALLEST = min(ENTRIES, key=lambda entry: SIZES[entry.component.partition("/")[2]].parameters)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Values of the smallest size that has weights."""
    with torch.device("meta"):
        blank = ConvMixer(**SIZES[SMALLEST.component.partition("/")[2]].arguments)
    state = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in blank.state_dict().items()}
    state["stem.0.weight"] += 0.5
    return {**state, "head.weight": torch.zeros(1000, 1024), "head.bias": torch.arange(1000.0)}


def test_weights_load_even_if_the_connection_breaks(
    loopback_hub: LoopbackHub, state: dict[str, Tensor]
) -> None:
    loopback_hub.add(SMALLEST.repository, {SMALLEST.filename: save(state)})
    cut = loopback_hub.fault(Cut(after=1_000_000), times=1)
    model = zoo.build(SMALLEST.component, pretrained=True)
    assert cut.hits == 1
    assert model.backbone.stem[0].weight.equal(state["stem.0.weight"])
    assert model.classifier.bias.equal(state["head.bias"])


def test_a_mirror_is_asked_before_the_hub(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loopback_hub: LoopbackHub,
    state: dict[str, Tensor],
) -> None:
    path = tmp_path / SMALLEST.repository / SMALLEST.filename
    path.parent.mkdir(parents=True)
    path.write_bytes(save(state))
    monkeypatch.setenv("BIRDHOUSE_MIRROR", str(tmp_path))
    model = zoo.build(f"{SMALLEST.component}.in1k")
    assert model.backbone.stem[0].weight.equal(state["stem.0.weight"])
    assert not loopback_hub.requests


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_entries_say_what_timm_says(entry: zoo.WeightsEntry) -> None:
    size = SIZES[entry.component.partition("/")[2]]
    told = get_pretrained_cfg(entry.repository.partition("/")[2])
    assert told is not None
    assert told.hf_hub_id == entry.repository
    given = entry.preprocessing
    assert (told.input_size, told.crop_pct) == ((3, *given.size), given.crop)
    assert (told.mean, told.std, told.interpolation) == (given.mean, given.std, given.interpolation)
    assert (told.license, told.num_classes) == (entry.licence, entry.classes)
    assert f"convmixer_{size.width}_{size.depth}" in entry.repository
