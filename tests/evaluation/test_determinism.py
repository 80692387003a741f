"""set_seed and enable_cudnn_determinism."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from zoo_core.errors import InputError
from zoo_core.evaluation import enable_cudnn_determinism, set_seed


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    python, numpy = random.getstate(), np.random.get_state()
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)
    cudnn.deterministic, cudnn.benchmark = flags[:2]
    torch.use_deterministic_algorithms(flags[2])
    # Set by the code under test, so not undone by monkeypatch where it was absent.
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


class Noise(Dataset[tuple[float, float, float]]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))


def draws() -> list[Any]:
    in_workers = [batch.tolist() for part in DataLoader(Noise(), num_workers=1) for batch in part]
    return [random.random(), np.random.rand(), torch.rand(3).tolist(), in_workers]


def test_a_seed_fixes_every_generator() -> None:
    found = []
    for seed in (42, 42, 43):
        set_seed(seed)
        found.append(draws())
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[0], found[2], strict=True))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_range_are_seeds(seed: int) -> None:
    set_seed(seed)
    assert torch.initial_seed() == seed


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "42", None])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InputError) as caught:
        set_seed(seed)
    assert str(caught.value) == f"seed must be a whole number from 0 to 4294967295, not {seed!r}"


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, ":4096:8"), (":16:8", ":16:8"), (":4096:8", ":4096:8"), (":0:0", ":4096:8")],
)
def test_determinism_sets_what_torch_needs(before: str | None, after: str) -> None:
    torch.backends.cudnn.benchmark = True
    if before is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = before
    enable_cudnn_determinism()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == after
