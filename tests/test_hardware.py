"""Which devices there are, and what becomes of the memory of tensors."""

from __future__ import annotations

import platform
import subprocess
import sys

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


FAULTS = """
import resource, sys, torch
from zoo_core.hardware import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(keep_freed_memory() if sys.argv[1] == "keep" else None)
for _ in range(5):
    torch.ones(10 << 20)
before = faults()
for _ in range(100):
    torch.ones(10 << 20)
print((faults() - before) * resource.getpagesize() / (10 << 22))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_memory_of_tensors_is_used_again() -> None:
    shares = {}
    for how in ("as usual", "keep"):
        ran = subprocess.run(
            [sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True
        )
        told, shares[how] = ran.stdout.split()
        assert told == {"as usual": "None", "keep": "True"}[how]
    assert float(shares["as usual"]) > 90  # each of a hundred is asked for anew
    assert float(shares["keep"]) < 10  # one may be, where something small lies in its place
