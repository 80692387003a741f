"""Which devices there are."""

from __future__ import annotations

import pytest
import torch

from zoo_core.errors import InputError
from zoo_core.hardware import find_device

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


def test_a_device_is_found_by_its_name() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(torch.device("cpu")) == torch.device("cpu")


@needs_no_gpu
def test_without_a_gpu_it_is_the_cpu() -> None:
    assert find_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", "there is no device 'tpu'; write cpu, cuda or cuda:1"),
        ("vulkan", "torch finds no device 'vulkan' here; write cpu, cuda or cuda:1"),
        ("meta", "nothing can be computed on device 'meta'; write cpu, cuda or cuda:1"),
        pytest.param(
            "cuda:1",
            "device='cuda:1', but torch finds no GPU; device='cpu' runs anywhere",
            marks=needs_no_gpu,
        ),
    ],
)
def test_another_device_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        find_device(name)
    assert str(raised.value) == message
