"""Exporting with batch, height and width open."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, export

from zoo_core import ChannelSchedule
from zoo_smp.model import SmpDecoder
from zoo_smp.pooling import Averages

from .conftest import DECODERS, narrow, schedule_of

SIDES = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
FIRST = ("unet", "unetplusplus", "deeplabv3plus", "segformer", "upernet", "dpt")
"""Those that are tried at once; the others take a minute between them."""
SIZES = ((75, 110), (64, 96), (33, 64), (200, 257))


class _Model(nn.Module):
    """A decoder on maps that are the picture itself, made small."""

    def __init__(self, decoder: SmpDecoder, schedule: ChannelSchedule) -> None:
        super().__init__()
        self.decoder = decoder
        self.schedule = schedule

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        maps = [
            F.interpolate(
                x[:, :channels],
                size=[(side + stride - 1) // stride for side in (height, width)],
                mode="bilinear",
            )
            for channels, stride in zip(self.schedule, self.schedule.strides, strict=True)
        ]
        logits: Tensor = self.decoder(maps, output_size=(height, width))
        return logits


def _model(name: str, schedule: str) -> _Model:
    torch.manual_seed(0)
    return _Model(narrow(name, schedule).eval(), schedule_of(schedule)).eval()


@pytest.mark.parametrize(
    "schedule",
    [
        "cnn",
        pytest.param("dilated to 8", marks=pytest.mark.long),
        pytest.param("vit 14", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FIRST else pytest.mark.long) for name in DECODERS],
)
def test_it_exports_for_all_sizes_at_once(name: str, schedule: str) -> None:
    model = _model(name, schedule)
    # PAN halves its last map thrice, and torch ties what has a single pixel then.
    is_tied = name == "pan" and schedule == "dilated to 8"
    example, sizes = ((160, 200), ((128, 201),)) if is_tied else ((96, 128), SIZES)
    program = export(model, (torch.randn(2, 48, *example),), dynamic_shapes=(SIDES,))
    with torch.no_grad():
        for size in sizes:
            picture = torch.randn(3, 48, *size)
            torch.testing.assert_close(program.module()(picture), model(picture))


@pytest.mark.parametrize("name", [pytest.param("pspnet", marks=pytest.mark.long), "upernet"])
def test_pooling_exports_to_onnx_for_all_sizes_at_once(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = _model(name, "cnn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            model, (torch.randn(2, 48, 96, 128),), dynamo=True, verbose=False,
            dynamic_shapes=(SIDES,), input_names=["picture"],
        )  # fmt: skip
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    for size in SIZES:
        picture = torch.randn(3, 48, *size)
        (logits,) = session.run(None, {"picture": picture.numpy()})
        with torch.no_grad():
            expected = model(picture)
        off = (torch.from_numpy(logits) - expected).abs().max() / expected.abs().max()
        assert off < 1e-4  # what zoo.export allows


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 10), (31, 4)])
@pytest.mark.parametrize("bins", [2, 3, 6])
def test_averages_are_those_of_adaptive_pooling(bins: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 5, *size)
    torch.testing.assert_close(Averages(bins)(x), F.adaptive_avg_pool2d(x, bins))
