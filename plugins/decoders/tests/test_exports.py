"""Every decoder through torch.export, ONNX, torch.compile, autocast and other layouts."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from zoo_core import ChannelSchedule

from .conftest import DECODERS, make, maps_of, schedule_of

every_decoder = pytest.mark.parametrize("decoder", DECODERS)
both_kinds = pytest.mark.parametrize("name", ["from stride 2", "vit 14"])

SIZES = [(224, 280), (97, 65), (70, 98)]  # no size of the first is a number of channels


class Model(nn.Module):
    """A decoder behind one convolution a map, whose sizes follow from the picture's."""

    def __init__(self, decoder: str, schedule: ChannelSchedule) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            nn.Conv2d(3, channels, 3, stride=stride, padding=1)
            for channels, stride in zip(schedule, schedule.strides, strict=True)
        )
        self.decoder = make(decoder, schedule)

    def forward(self, images: Tensor) -> Tensor:
        maps = [layer(images) for layer in self.maps]
        logits: Tensor = self.decoder(maps, output_size=(images.shape[-2], images.shape[-1]))
        return logits


@every_decoder
@pytest.mark.parametrize(("name", "least"), [("from stride 2", 33), ("vit 14", 57)])
def test_a_model_exports_with_open_batch_and_size(
    decoder: str, name: str, least: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Model(decoder, schedule_of(name)).eval()
    sides = [Dim(side, min=least, max=2048) for side in ("height", "width")]
    program = torch.export.export(
        model,
        (torch.randn(2, 3, 96, 160),),
        dynamic_shapes=({0: Dim("batch", min=1, max=64), 2: sides[0], 3: sides[1]},),
    )
    exported = program.module()
    onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    assert onnx is not None
    onnx.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,) = session.get_inputs()
    for batch, size in enumerate(SIZES, start=1):
        images = torch.randn(batch, 3, *size)
        with torch.no_grad():
            expected = model(images)
            assert expected.shape == (batch, 3, *size)
            torch.testing.assert_close(exported(images), expected, atol=1e-5, rtol=1e-5)
        (told,) = session.run(None, {given.name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(told), expected, atol=1e-4, rtol=1e-4)


@every_decoder
@pytest.mark.parametrize(
    ("name", "training"),
    [pytest.param("from stride 2", False, marks=pytest.mark.long), ("vit 14", True)],
)
def test_it_compiles_whole_and_once(decoder: str, name: str, training: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = make(decoder, schedule_of(name)).train(training)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for size in SIZES:
            maps = maps_of(schedule_of(name), size)
            torch.testing.assert_close(compiled(maps, size), model(maps, size))


@every_decoder
@both_kinds
def test_it_runs_in_bfloat16_and_in_channels_last(decoder: str, name: str) -> None:
    torch.manual_seed(0)
    model = make(decoder, schedule_of(name)).eval()
    maps = maps_of(schedule_of(name), (97, 65))
    with torch.no_grad():
        expected = model(maps)
        last = [m.to(memory_format=torch.channels_last) for m in maps]
        found = model.to(memory_format=torch.channels_last)(last)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(maps)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), expected, atol=0.05, rtol=0.05)


@every_decoder
@both_kinds
def test_it_is_made_on_the_meta_device(decoder: str, name: str) -> None:
    with torch.device("meta"):
        model = make(decoder, schedule_of(name))
        logits = model(maps_of(schedule_of(name), (97, 65)), output_size=(97, 65))
    assert logits.is_meta
    assert logits.shape == (2, 3, 97, 65)
