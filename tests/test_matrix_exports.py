"""Every native backbone with every native decoder, exported and compiled."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
import torch

import zoo_core as zoo
from matrix.trying import native

# One of each structure; the others take hours between them.
FEW = ("resnet18", "dinov2_small")
FIRST = {("resnet18", "unet")}
"""What is tried at once; zoo-decoders' own tests export and compile every decoder."""
PAIRS = [
    pytest.param(
        backbone,
        decoder,
        marks=() if (backbone, decoder) in FIRST else pytest.mark.long,
    )
    for backbone in native("backbone")
    for decoder in native("decoder")
]
SIZES = ((64, 64), (75, 110))


@lru_cache(1)
def pair(backbone: str, decoder: str) -> zoo.MultitaskModel:
    return zoo.build(
        f"{backbone}+{decoder}",
        num_classes_classification=5,
        num_classes_segmentation=3,
        image_size=70 if "dinov2" in backbone else 64,
        seed=0,
    ).eval()


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize(("backbone", "decoder"), PAIRS)
def test_every_pair_exports_with_open_batch_and_size(
    backbone: str, decoder: str, suffix: str, tmp_path: Path
) -> None:
    """What is exported is run beside the model, at two sizes and on a photograph."""
    exported = zoo.export(pair(backbone, decoder), tmp_path / f"model{suffix}")
    assert exported.input == ("batch", 3, "height", "width")
    assert exported.outputs == {
        "classification": ("batch", 5),
        "segmentation": ("batch", 3, "height", "width"),
    }
    assert [check.pictures for check in exported.checks] == ["random", "random", "photograph"]


def check_compiled(backbone: str, decoder: str, backend: str) -> None:
    model = pair(backbone, decoder)
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for size in SIZES:
        pictures = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected, found = model(pictures), compiled(pictures)
        for head, values in expected.items():
            off = (found[head] - values).abs().max() / values.abs().max()
            assert off < 1e-5, (head, size)


@pytest.mark.parametrize(("backbone", "decoder"), PAIRS)
def test_every_pair_compiles_without_a_break(backbone: str, decoder: str) -> None:
    check_compiled(backbone, decoder, "aot_eager")


@pytest.mark.long
@pytest.mark.parametrize("decoder", native("decoder"))
@pytest.mark.parametrize("backbone", FEW)
def test_compiled_code_gives_the_same(backbone: str, decoder: str) -> None:
    check_compiled(backbone, decoder, "inductor")
