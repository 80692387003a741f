"""``zoo export`` and ``zoo.export``: files that do what the model does, or no files."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import zoo_core
from zoo_core import Backbone, ChannelSchedule, MultitaskModel
from zoo_core.errors import ExportError, InputError, ZooError
from zoo_core.exporting import Exported, torch_file
from zoo_core.exporting.quiet import at_most, quiet
from zoo_core.manifest import Preprocessing
from zoo_core.pictures import prepare

Zoo = Callable[..., CompletedProcess[str]]
Invoke = Callable[..., Any]
OneError = Callable[..., str]
Run = Callable[[Tensor], dict[str, Tensor]]

RANDOM = (
    "zoo: the weights are random, so the answers mean nothing; add --pretrained or --weights FILE\n"
)
SMALL = ("--image-size", 64, "--seed", 0, "--classes", 5)
SUFFIXES = [".onnx", ".pt2"]


class Simple(Backbone):
    """One convolution, and what a subclass makes of its map."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 8, 3, 2, 1)

    def get_channel_schedule(self) -> ChannelSchedule:
        return ChannelSchedule([8], [2])

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.change(self.stem(x))]

    def change(self, x: Tensor) -> Tensor:
        return x


class Padded(Simple):
    """Pads to multiples of sixteen, as whoever divides sizes upwards does it."""

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = (-(-side // 16) * 16 for side in x.shape[-2:])
        x = F.pad(x, [0, width - x.shape[-1], 0, height - x.shape[-2]])
        return super().forward(x)


class Differing(Simple):
    def change(self, x: Tensor) -> Tensor:
        return x * 1.01 if torch.compiler.is_exporting() else x


class Square(Simple):
    """Takes pictures of 64 × 64 only."""

    def change(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (32, 32):
            raise ValueError("not 64 × 64")
        return x


class Tied(Simple):
    """Takes any size, but ties what is traced to one height."""

    def change(self, x: Tensor) -> Tensor:
        return x + torch.arange(int(x.shape[-2]), dtype=x.dtype)[:, None] / 100


class TiedBatch(Simple):
    def change(self, x: Tensor) -> Tensor:
        return x + torch.arange(int(x.shape[0]), dtype=x.dtype)[:, None, None, None] / 100


class Bessel(Simple):
    def change(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Deciding(Simple):
    def change(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Infinite(Simple):
    def change(self, x: Tensor) -> Tensor:
        return x / 0


class Tagged(Tensor):
    def __deepcopy__(self, memo: dict[int, Any]) -> Tagged:
        return self


class Subclassed(Simple):
    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(in_channels)
        self.register_buffer("tagged", torch.ones(8, 1, 1).as_subclass(Tagged))

    def change(self, x: Tensor) -> Tensor:
        return x + self.tagged


def simple(backbone: type[Simple], channels: int = 3) -> MultitaskModel:
    torch.manual_seed(0)
    model = MultitaskModel(backbone(channels), num_classes_classification=5)
    spread = (0.5,) * channels
    model.preprocessing = Preprocessing(size=(64, 64), mean=spread, std=spread)
    return model


def opened(path: Path) -> Run:
    """Run a file as somebody without the zoo would."""
    if path.suffix == ".pt2":
        program = torch.export.load(path).module()

        def run_program(images: Tensor) -> dict[str, Tensor]:
            found = program(images)
            return found if isinstance(found, dict) else {"only": found}

        return run_program
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> dict[str, Tensor]:
        found = session.run(names, {"image": images.numpy()})
        return dict(zip(names, map(torch.from_numpy, found), strict=True))

    return run


def check_agrees(path: Path, model: MultitaskModel, *shapes: tuple[int, ...]) -> None:
    model.eval()
    run = opened(path)
    for shape in shapes:
        images = torch.randn(shape)
        with torch.no_grad():
            expected = model(images)
        found = run(images)
        if isinstance(expected, Tensor):
            expected, found = {"only": expected}, {"only": next(iter(found.values()))}
        assert found.keys() == expected.keys()
        for head, values in expected.items():
            torch.testing.assert_close(found[head], values, atol=1e-5, rtol=1e-4)


def test_an_onnx_file_runs_at_other_sizes_and_batches(zoo: Zoo, tmp_path: Path) -> None:
    finished = zoo(
        "export", "resnet18+unet", *SMALL, "--seg-classes", 4, "--json", cwd=tmp_path
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, RANDOM)
    report = json.loads(finished.stdout)
    assert {key: report[key] for key in ("path", "format", "inputs", "outputs", "tolerance")} == {
        "path": "resnet18-unet.onnx",
        "format": "onnx",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, "height", "width"]}],
        "outputs": [
            {"name": "classification", "dtype": "float32", "shape": ["batch", 5]},
            {
                "name": "segmentation",
                "dtype": "float32",
                "shape": ["batch", 4, "height", "width"],
            },
        ],
        "tolerance": 1e-4,
    }
    assert {name: axis["fixed"] for name, axis in report["axes"].items()} == {
        "batch": None,
        "height": None,
        "width": None,
    }
    random, other, photograph = report["checks"]
    assert [check["pictures"] for check in report["checks"]] == ["random", "random", "photograph"]
    least = report["axes"]["height"]["least"]
    assert random["shape"] == [1, 3, least, report["axes"]["width"]["least"]]
    assert other["shape"] == [3, 3, 85, 117]
    assert photograph["shape"] == [1, 3, 64, 64]
    for check in report["checks"]:
        assert set(check["differences"]) == {"classification", "segmentation"}
        for difference in check["differences"].values():
            assert set(difference) == {"largest", "relative"}
            assert 0 <= difference["relative"] <= 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["resnet18-unet.onnx"]
    path = tmp_path / "resnet18-unet.onnx"
    assert report["bytes"] == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    model = zoo_core.build(
        "resnet18+unet",
        num_classes_classification=5,
        num_classes_segmentation=4,
        image_size=64,
        seed=0,
    )
    check_agrees(path, model, (4, 3, 64, 96), (1, 3, 33, 131), (2, 3, least, least))


def umask() -> int:
    done = subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True, check=True)
    return int(done.stdout, 8)


def test_the_text_tells_what_was_written_and_checked(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "small.pt2"
    result = invoke("export", "resnet18", *SMALL, "-o", path)
    assert result.stderr == RANDOM
    table, _, rest = result.stdout.partition("\n\n")
    header, *rows = (re.split(r"\s{2,}", line) for line in table.splitlines())
    assert header == ["checked on", "shape", "output", "difference", "relative"]
    assert [row[:3] for row in rows] == [
        ["random", "1×3×2×2", "classification"],
        ["random", "3×3×85×117", "classification"],
        ["photograph", "1×3×64×64", "classification"],
    ]
    assert all(float(number) <= 1e-4 for row in rows for number in row[3:])
    assert rest.splitlines() == [
        f"file     {path}, {path.stat().st_size / 1e6:.1f} MB, torch-export",
        "input    image batch×3×height×width",
        "output   classification batch×5",
        "batch    open, from 1",
        "height   open, from 2",
        "width    open, from 2",
    ]
    model = zoo_core.build("resnet18", num_classes_classification=5, image_size=64, seed=0)
    check_agrees(path, model, (4, 3, 64, 96), (1, 3, 33, 131))


@pytest.mark.long
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("recipe", "heads"),
    [
        ("resnet18+cbam@all+unet", ["classification", "segmentation"]),
        ("timm/vit_tiny_patch16_224+unet", ["classification", "segmentation"]),
        ("timm/efficientnet_lite0", ["classification"]),
    ],
)
def test_recipes_export(recipe: str, heads: list[str], suffix: str, tmp_path: Path) -> None:
    model = zoo_core.build(recipe, seed=0)
    exported = zoo_core.export(model, tmp_path / f"model{suffix}")
    assert list(exported.outputs) == heads
    assert exported.input == ("batch", 3, "height", "width")
    check_agrees(exported.path, model, (2, 3, 64, 97), (3, 3, 131, 65), (1, 3, 300, 224))


@pytest.mark.long
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_fixed_size_exports_what_open_sizes_do_not(suffix: str, tmp_path: Path) -> None:
    model = zoo_core.build("timm/swin_tiny_patch4_window7_224+unet", seed=0)
    exported = zoo_core.export(model, tmp_path / f"model{suffix}", fixed_size=True)
    assert exported.input == ("batch", 3, 224, 224)
    check_agrees(exported.path, model, (1, 3, 224, 224), (3, 3, 224, 224))


@pytest.mark.long
def test_what_takes_too_long_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo_core.exporting.writing._SECONDS", 20)
    model = zoo_core.build("timm/swin_tiny_patch4_window7_224", seed=0)
    with pytest.raises(ExportError, match=r"--fixed-size \(fixed_size=True\) fixes them$"):
        zoo_core.export(model, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sizes_divided_upwards_stay_so(suffix: str, tmp_path: Path) -> None:
    model = simple(Padded)
    exported = zoo_core.export(model, tmp_path / f"model{suffix}")
    check_agrees(exported.path, model, (2, 3, 65, 31), (1, 3, 48, 17), (3, 3, 64, 81))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("backbone", [Square, Tied])
def test_sizes_that_a_model_ties_down_are_told(
    backbone: type[Simple], suffix: str, tmp_path: Path
) -> None:
    model = simple(backbone)
    exported = zoo_core.export(model, tmp_path / f"model{suffix}")
    assert exported.input == ("batch", 3, 64, 64)
    assert [exported.axes[name].fixed for name in ("batch", "height", "width")] == [None, 64, 64]
    assert {check.shape for check in exported.checks} == {(1, 3, 64, 64), (3, 3, 64, 64)}
    check_agrees(exported.path, model, (1, 3, 64, 64), (5, 3, 64, 64))
    with pytest.raises(Exception, match="64"):
        opened(exported.path)(torch.randn(1, 3, 96, 64))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_batch_that_a_model_ties_down_is_told(suffix: str, tmp_path: Path) -> None:
    model = simple(TiedBatch)
    exported = zoo_core.export(model, tmp_path / f"model{suffix}")
    assert exported.input == (1, 3, "height", "width")
    assert exported.outputs == {"classification": (1, 5)}
    assert exported.axes["batch"].fixed == 1
    check_agrees(exported.path, model, (1, 3, 64, 64), (1, 3, 33, 97))


def test_a_fixed_size_is_the_models_own(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    arguments = ["--image-size", "64x96", "--fixed-size", "-o", path]
    shown = invoke("export", "resnet18", "--classes", 3, *arguments).stdout
    assert shown.splitlines()[-4:] == [
        "output   classification batch×3",
        "batch    open, from 1",
        "height   fixed, 64",
        "width    fixed, 96",
    ]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "mine"
    model = zoo_core.build("resnet18", num_classes_classification=3, image_size=64, seed=1)
    model.labels = {"classification": ("cat", "espresso", "missile")}
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_model_tells_the_file_what_it_knows(
    suffix: str, saved: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    form = {".onnx": "onnx", ".pt2": "torch-export"}[suffix]
    result = invoke("export", saved, "--format", form)
    assert result.stderr == ""
    path = tmp_path / f"mine{suffix}"
    assert list(tmp_path.iterdir()) == [path]
    model = MultitaskModel.from_pretrained(saved)
    check_agrees(path, model, (2, 3, 64, 64), (1, 3, 97, 65))
    if suffix == ".onnx":
        import onnx

        told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    else:
        told = dict.fromkeys(("recipe", "preprocessing", "labels"), "")
        torch.export.load(path, extra_files=told)
    assert told["recipe"] == "zoo-resnet:resnet18"
    assert json.loads(told["labels"]) == {"classification": ["cat", "espresso", "missile"]}
    assert json.loads(told["preprocessing"])["size"] == [64, 64]


def test_options_are_refused_with_a_saved_model(
    saved: Path, invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("export", saved, "--classes", 3, "-o", tmp_path / "model.pt2", code=2)
    assert result.output == ("Error: --classes: a saved model is used as it is; leave this away\n")


def test_the_given_picture_is_what_is_checked(
    invoke_json: Invoke, cat: Image.Image, tmp_path: Path
) -> None:
    cat.convert("RGBA").save(tmp_path / "cat.png")
    arguments = ["--in-channels", 1, "--image", tmp_path / "cat.png"]
    report = invoke_json("export", "resnet18", *SMALL, *arguments, "-o", tmp_path / "model.pt2")
    [check] = [check for check in report["checks"] if check["pictures"] != "random"]
    assert check["pictures"] == "given"
    assert check["shape"] == [1, 1, 64, 64]


def test_a_real_photograph_is_what_is_checked(tmp_path: Path, cat: Image.Image) -> None:
    """A file that is wrong on it alone is not kept."""

    class OnlyDark(Simple):
        def forward(self, x: Tensor) -> list[Tensor]:
            seen = prepare(cat, preprocessing)[:, :4, :4]
            is_cat = ((x[:, :, :4, :4] - seen).abs().amax((1, 2, 3), keepdim=True) < 1e-5).float()
            return super().forward(x + is_cat if torch.compiler.is_exporting() else x)

    model = simple(OnlyDark)
    assert model.preprocessing is not None
    preprocessing = model.preprocessing
    with pytest.raises(ExportError, match=r"classification on a photograph, 1×3×64×64 by up to"):
        zoo_core.export(model, tmp_path / "model.pt2")
    grey = Image.new("RGB", (80, 60), "grey")
    zoo_core.export(model, tmp_path / "model.pt2", picture=grey)


def test_a_model_of_five_channels_is_checked_on_random_pictures(tmp_path: Path) -> None:
    model = simple(Simple, channels=5)
    exported = zoo_core.export(model, tmp_path / "model.pt2")
    assert [check.pictures for check in exported.checks] == ["random", "random"]
    with pytest.raises(InputError, match="the model takes 5 channels; pictures give 1 or 3"):
        zoo_core.export(model, tmp_path / "other.pt2", picture=Image.new("RGB", (64, 64)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_differs_is_not_kept(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_text("before")
    with pytest.raises(ExportError) as failed:
        zoo_core.export(simple(Differing), path, force=True)
    assert re.fullmatch(
        r"the exported file differs from the model: classification on random pictures, "
        r"3×3×85×117 by up to 0\.00\d+, 0\.00\d+ of the largest value; the tolerance is 0\.0001, "
        r"so nothing is written",
        str(failed.value),
    )
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["before"]
    exported = zoo_core.export(simple(Differing), path, tolerance=0.05, force=True)
    assert max(check.differences["classification"].relative for check in exported.checks) > 1e-4


def test_nothing_is_kept_at_a_tolerance_of_nothing(invoke: Invoke, tmp_path: Path) -> None:
    arguments = ["--tolerance", 0, "-o", tmp_path / "model.onnx"]
    result = invoke("export", "resnet18", *SMALL, *arguments, code=1)
    *_, error = result.output.splitlines()
    assert error.startswith("Error: the exported file differs from the model: classification on ")
    assert error.endswith("the tolerance is 0, so nothing is written")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("backbone", "suffix", "message"),
    [
        (
            Bessel,
            ".onnx",
            "torch cannot write the model as onnx: DispatchError: No ONNX function found for "
            "<OpOverload(op='prims.bessel_j0', overload='default')>",
        ),
        (
            Deciding,
            ".pt2",
            "torch cannot export the model: GuardOnDataDependentSymNode: Could not guard on "
            "data-dependent expression ",
        ),
        (
            Infinite,
            ".pt2",
            "the model's classification on random pictures, 3×3×85×117 has values that are not "
            "finite",
        ),
        (
            Subclassed,
            ".pt2",
            "torch can only pickle backbone.tagged, which is no plain tensor",
        ),
    ],
)
def test_models_that_cannot_be_exported_say_why(
    backbone: type[Simple], suffix: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as failed:
        zoo_core.export(simple(backbone), tmp_path / f"model{suffix}")
    assert str(failed.value).startswith(message)
    assert "\n" not in str(failed.value)
    assert not list(tmp_path.iterdir())


def test_a_file_of_torch_export_holds_nothing_pickled(tmp_path: Path) -> None:
    model = simple(Simple)
    exported = zoo_core.export(model, tmp_path / "model.pt2")
    loaded = torch.export.load(exported.path)
    assert loaded.example_inputs is None
    # As the docstring says, they can be given back.
    loaded.example_inputs = ((torch.randn(2, 3, 64, 64),), {})
    torch.export.save(loaded, tmp_path / "pickled.pt2")
    with pytest.raises(ExportError, match=r"^torch pickled the model's model\.pt$"):
        torch_file.reader(tmp_path / "pickled.pt2")


def test_one_file_holds_all_of_a_model_or_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.onnx._internal.exporter import _onnx_program

    monkeypatch.setattr(_onnx_program, "_LARGE_MODEL_THRESHOLD", 100)
    with pytest.raises(ExportError, match="the model has more values than one ONNX file holds"):
        zoo_core.export(simple(Simple), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_users_model_stays_as_it_is(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = simple(Simple).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    handlers, filters = list(logging.root.handlers), list(warnings.filters)
    exported = zoo_core.export(model, tmp_path / f"model{suffix}")
    assert isinstance(exported, Exported)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor)
    assert capfd.readouterr() == ("", "")
    assert (logging.root.handlers, list(warnings.filters)) == (handlers, filters)
    assert logging.root.manager.disable == 0


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("model.txt", {}, InputError, "the name of the file ends in .onnx for onnx, .pt2 for "),
        ("model", {"format": "onnx"}, InputError, "the name of the file ends in .onnx for onnx"),
        ("model.pt2", {"format": "onnx"}, InputError, "the name of the file ends in .onnx for "),
        ("model.onnx", {"format": "tflite"}, InputError, "format is onnx or torch-export, not 't"),
        ("model.onnx", {"tolerance": -1}, InputError, "tolerance must be a number from 0, not -1"),
        ("model.onnx", {"tolerance": "x"}, InputError, "tolerance must be a number from 0, not "),
        ("none/model.onnx", {}, ExportError, "there is no folder "),
        ("folder.onnx", {}, ExportError, "folder.onnx is a folder"),
        ("there.pt2", {}, ExportError, "is there already; --force (force=True) replaces it"),
    ],
)
def test_what_cannot_be_written_is_refused(
    name: str, options: dict[str, Any], error: type[ZooError], message: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "there.pt2").write_text("mine")
    with pytest.raises(error) as refused:
        zoo_core.export(simple(Simple), tmp_path / name, **options)
    assert message in str(refused.value)
    assert (tmp_path / "there.pt2").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"folder.onnx", "there.pt2"}


def test_models_without_values_or_of_other_precision_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match=r"backbone\.stem\.weight is torch\.bfloat16$"):
        zoo_core.export(simple(Simple).bfloat16(), path)
    with pytest.raises(InputError, match=r"no values: backbone\.stem\.weight is on the meta"):
        zoo_core.export(simple(Simple).to("meta"), path)
    with pytest.raises(InputError, match=r"takes a zoo_core\.MultitaskModel, not Linear"):
        zoo_core.export(nn.Linear(1, 1), path)  # type: ignore[arg-type]


# The command refuses without importing a library of the heavy half; so much is told in one line.
LIGHT = """
import sys
from zoo_core.cli import main
try:
    main()
finally:
    assert not {"torch", "numpy", "onnx", "PIL"} & set(sys.modules), "heavy"
"""


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ("resnet18+nosuch", 2, "unknown attention or decoder 'nosuch' at character 10 of "),
        ("nosuch/model", 2, "and there is no folder of a saved model there"),
        ("./nosuch", 1, "./nosuch is no folder with a saved model: no config.json in it"),
        ("resnet18 -o model.txt", 1, "model.txt: the name of the file ends in .onnx for onnx, "),
        ("resnet18 -o none/x.onnx", 1, "none/x.onnx: there is no folder none"),
        ("resnet18 -o there.onnx", 1, "there.onnx is there already; --force (force=True) "),
        ("resnet18 --format onnx -o x.pt2", 1, "x.pt2: the name of the file ends in .onnx for "),
        ("resnet18 --format tflite", 2, "'tflite' is not one of 'onnx', 'torch-export'."),
        ("resnet18 --tolerance -1", 2, "-1.0 is not in the range x>=0."),
        ("resnet18 --image none.png", 2, "File 'none.png' does not exist."),
    ],
)
def test_refusals_of_the_command_are_light(
    arguments: str, code: int, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "there.onnx").touch()
    finished = subprocess.run(
        [sys.executable, "-c", LIGHT, "export", *arguments.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == code, finished
    assert finished.stdout == ""
    assert expected in finished.stderr
    assert "Traceback" not in finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


@pytest.mark.parametrize(
    ("blocked", "missing"),
    [("onnxruntime", "onnxruntime"), ("onnx,onnxscript", "onnx and onnxscript")],
)
def test_missing_libraries_are_named(
    blocked: str, missing: str, zoo: Zoo, one_error: OneError, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {blocked.split(',')}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    finished = zoo("export", "resnet18", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert one_error(finished, code=1) == (
        f'export to ONNX needs {missing}; pip install "zoo-core[onnx]"'
    )


def test_a_picture_that_cannot_be_read_is_named(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    arguments = ["--image", tmp_path / "text.png", "-o", tmp_path / "model.pt2"]
    result = invoke("export", "resnet18", *SMALL, *arguments, code=1)
    error = f"Error: {tmp_path}/text.png: this is no picture that can be read"
    assert result.output.splitlines()[-1] == error


def test_debug_shows_where_an_error_came_from(zoo: Zoo, saved: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(saved, damaged)
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    finished = zoo("export", damaged, "-o", tmp_path / "model.pt2", "--debug")
    assert finished.returncode == 1
    assert finished.stderr.startswith("Traceback")
    assert "Error: " in finished.stderr.splitlines()[-1]


def test_what_takes_longer_is_broken_off() -> None:
    def slow() -> None:
        while time.thread_time() - start < 5:
            try:
                sum(range(1000))
            except Exception:  # what is broken off may try to go on
                continue

    before = signal.getsignal(signal.SIGALRM)
    start = time.thread_time()
    with pytest.raises(ExportError, match=r"^too long$"), at_most(0.1, "too long"):
        slow()
    assert 0.1 <= time.thread_time() - start < 3
    with at_most(0.1, "too long"):
        time.sleep(0.5)  # as if others had the cores
    time.sleep(0.2)
    assert signal.getsignal(signal.SIGALRM) is before


def test_quiet_keeps_back_all_and_then_no_more(capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logger = logging.getLogger("zoo-tests")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        with quiet():
            print("kept back")
            print("kept back", file=sys.stderr)
            warnings.warn("kept back", stacklevel=1)
            logger.error("kept back")
        logger.error("told")
        print("told")
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue() == "told\n"
    assert capfd.readouterr() == ("told\n", "")
    with pytest.warns(UserWarning, match="told"):
        warnings.warn("told", stacklevel=1)


def test_the_help_is_light() -> None:
    command = [sys.executable, "-c", LIGHT, "export", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "zoo export my-model --output my-model.pt2" in finished.stdout
    assert finished.stderr == ""


def test_an_onnx_file_needs_numpy_alone(tmp_path: Path) -> None:
    import onnxruntime

    model = simple(Simple).eval()
    exported = zoo_core.export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(exported.path)
    images = np.random.default_rng(0).random((2, 3, 40, 50), np.float32)
    [logits] = session.run(["classification"], {"image": images})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(torch.from_numpy(images)), atol=1e-6)
