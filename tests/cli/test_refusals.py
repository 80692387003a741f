"""What ``zoo build`` refuses, and how it says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Zoo = Callable[..., CompletedProcess[str]]
Invoke = Callable[..., Any]
OneError = Callable[..., str]
UsageError = Callable[[CompletedProcess[str]], str]

FORM = "a part is [distribution:]name[.tag][@levels], levels being last, all or numbers such as 1,3"
LEVELS = "the backbone has levels 1 (shallow) to 4 (deep)"
LAST_ONLY = "without a decoder only the last level is read; add a decoder or leave"
CANONICAL = "zoo-resnet:resnet18+zoo-cbam:cbam+zoo-unet:unet"


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("", "the recipe is empty; write one such as 'resnet50+cbam+unet'"),
        (" ", "the recipe is empty; write one such as 'resnet50+cbam+unet'"),
        ("resnet50+", f"at character 10 of 'resnet50+' is no part of a recipe; {FORM}"),
        ("+unet", f"at character 1 of '+unet' is no part of a recipe; {FORM}"),
        ("resnet50++unet", f"at character 10 of 'resnet50++unet' is no part of a recipe; {FORM}"),
        ("resnet50@", f"'resnet50@' at character 1 of 'resnet50@' is no part of a recipe; {FORM}"),
        ("./mine", f"'./mine' at character 1 of './mine' is no part of a recipe; {FORM}"),
        (
            "resnt50",
            "unknown backbone 'resnt50' at character 1 of 'resnt50'; did you mean resnet50",
        ),
        (
            "resnet50+cbm+unet",
            "unknown attention or decoder 'cbm' at character 10 of 'resnet50+cbm+unet'; did you "
            "mean cbam or bam?",
        ),
        (
            "resnet50 + nosuch",
            "unknown attention or decoder 'nosuch' at character 12 of 'resnet50 + nosuch'; 'zoo "
            "list' shows what there is",
        ),
        ("timm/convnext_ato", "unknown backbone 'timm/convnext_ato' at character 1 of "),
        (
            "cbam",
            "'cbam' at character 1 of 'cbam' is of kind attention; the first part is a backbone",
        ),
        (
            "resnet50+resnet18",
            "'resnet18' at character 10 of 'resnet50+resnet18' is of kind backbone; only the first "
            "part is a backbone, and attentions and a decoder follow",
        ),
        (
            "resnet50+unet+cbam",
            "attention 'cbam' at character 15 of 'resnet50+unet+cbam' stands after the decoder "
            "'unet'; the order is backbone+attention+decoder, one decoder last",
        ),
        (
            "resnet50+unet+unet",
            "decoder 'unet' at character 15 of 'resnet50+unet+unet' stands after the decoder "
            "'unet'; the order is backbone+attention+decoder, one decoder last",
        ),
        (
            "resnet50@2",
            "'@2' at character 1 of 'resnet50@2': only an attention has levels, and 'resnet50' is "
            "a backbone",
        ),
        ("resnet50+cbam@9+unet", f"cbam@9: there is no level 9; {LEVELS}"),
        ("resnet50+cbam@0+unet", f"cbam@0: there is no level 0; {LEVELS}"),
        ("resnet50+cbam@1", f"cbam@1: {LAST_ONLY} '@1' away"),
        ("resnet50+cbam@all", f"cbam@all: {LAST_ONLY} '@all' away"),
        (
            "resnet50.nosuch",
            "'resnet50' at character 1 of 'resnet50.nosuch' has no weights 'nosuch'; it has "
            "a1_in1k, tv_in1k, a1h_in1k, tv2_in1k",
        ),
        (
            "resnet50+cbam.a1",
            "'.a1' at character 10 of 'resnet50+cbam.a1': attention 'cbam' has no pretrained ",
        ),
        ("resnet18\nx", "'resnet18\\nx' at character 1 of 'resnet18\\nx' is no part of a recipe; "),
    ],
)
def test_wrong_recipes(recipe: str, expected: str, zoo: Zoo, one_error: OneError) -> None:
    assert expected in one_error(zoo("build", recipe))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("cbam.reduction", "--set 'cbam.reduction' is not of the form PART.OPTION=VALUE, such as"),
        ("reduction=8", "--set 'reduction=8' is not of the form PART.OPTION=VALUE, such as"),
        ("=8", "--set '=8' is not of the form PART.OPTION=VALUE, such as cbam.reduction=8"),
        ("cbam.=8", "--set 'cbam.=8' is not of the form PART.OPTION=VALUE, such as"),
        (
            "cbam.reduction=[",
            "--set 'cbam.reduction=[': '[' is no value; write one as YAML does, such as 8, 0.5, "
            "true, word or [64, 32]",
        ),
        ("cbam.reductin=8", "attention 'cbam' has no option 'reductin'; did you mean 'reduction'?"),
        ("unet.nosuch=8", "decoder 'unet' has no option 'nosuch'; it has decoder_channels, "),
        ("attention.0.nosuch=8", "attention 'cbam' has no option 'nosuch'; it has reduction"),
        ("nosuch.x=8", f"options for 'nosuch' in '{CANONICAL}': it has resnet18, cbam, unet"),
        ("attention.3.reduction=8", f"options for 4 attentions, but '{CANONICAL}' has 1"),
        ("attention.x.reduction=8", "--set attention.x.…: attentions are numbered from 0: "),
        (
            "backbone.depth=9",
            "'depth' is what makes it 'resnet18' (depth=18) and cannot be changed",
        ),
        (
            "backbone.in_channels=4",
            "backbone 'resnet18': 'in_channels' is set for the whole model, with in_channels=… or "
            "--in-channels",
        ),
        (
            "unet.output_channels=4",
            "decoder 'unet': 'output_channels' follows from the composition",
        ),
    ],
)
def test_wrong_settings(setting: str, expected: str, zoo: Zoo, one_error: OneError) -> None:
    assert expected in one_error(zoo("build", "resnet18+cbam+unet", "--set", setting))


def test_settings_by_role_and_by_position_do_not_mix(zoo: Zoo, one_error: OneError) -> None:
    settings = ["--set", "attention.reduction=8", "--set", "attention.0.reduction=8"]
    error = one_error(zoo("build", "resnet18+cbam", *settings))
    assert error == "--set attention.… and --set attention.0.… do not go together"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "cbam.reduction=zz",
            "attention zoo-cbam:cbam: reduction of CBAM must be a positive whole number, not 'zz'",
        ),
        (
            "backbone.output_stride=7",
            "backbone zoo-resnet:resnet18: output_stride must be 8, 16 or 32, not 7",
        ),
    ],
)
def test_values_that_a_part_cannot_take(setting: str, expected: str, invoke: Invoke) -> None:
    result = invoke("build", "resnet18+cbam+unet", "--set", setting, code=2)
    assert result.output == f"Error: {expected}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("resnet18+unet --classes 0 --seg-classes 0", "(--seg-classes) is 0 too"),
        ("resnet18 --classes 0", "(--classes) is 0, and it has no decoder"),
        ("resnet18 --seg-classes 4", "(--seg-classes) is 4, but there is no decoder in "),
    ],
)
def test_heads_that_cannot_be(arguments: str, expected: str, zoo: Zoo, one_error: OneError) -> None:
    assert expected in one_error(zoo("build", *arguments.split()))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--nosuch", "No such option '--nosuch'."),
        ("--clases 3", "No such option '--clases'. (Did you mean one of: '--classes', "),
        ("--classes -1", "Invalid value for '--classes': -1 is not in the range x>=0."),
        ("--classes many", "Invalid value for '--classes': 'many' is not a valid whole number."),
        ("--in-channels 0", "Invalid value for '--in-channels': 0 is not in the range x>=1."),
        ("--seed x", "Invalid value for '--seed': 'x' is not a valid integer."),
        ("second", "Got unexpected extra argument (second)"),
        *(
            (
                f"--image-size {size}",
                f"'{size}' is no size; write 224, or 224x320 for height x width",
            )
            for size in ("0", "64x", "1x2x3", "-64", "64.5", "big")
        ),
    ],
)
def test_wrong_options(options: str, expected: str, zoo: Zoo, usage_error: UsageError) -> None:
    assert expected in usage_error(zoo("build", "resnet18", *options.split()))


def test_a_missing_recipe_and_a_missing_value(zoo: Zoo, usage_error: UsageError) -> None:
    assert usage_error(zoo("build")) == "Missing argument 'RECIPE'."
    finished = zoo("build", "resnet18", "--classes")
    assert finished.returncode == 2
    assert finished.stderr == "Error: Option '--classes' requires an argument.\n"


def test_an_unknown_command_names_near_ones(zoo: Zoo, usage_error: UsageError) -> None:
    assert usage_error(zoo("biuld")).startswith("No such command 'biuld'. Did you mean 'build'")


@pytest.mark.parametrize(
    ("arrange", "expected"),
    [
        (lambda at: at.write_text("mine"), "{at} is a file; --save takes a folder"),
        (
            lambda at: (at.mkdir(), (at / "thesis.tex").write_text("mine")),
            "{at} holds other files; --save takes a new or empty folder, or one with a saved model",
        ),
        (lambda at: at.parent.rmdir() or at.parent.write_text(""), "{at.parent} is a file; --save"),
    ],
)
def test_saving_harms_no_files(
    arrange: Callable[[Path], object], expected: str, tmp_path: Path, zoo: Zoo, one_error: OneError
) -> None:
    at = tmp_path / "folder" / "model"
    at.parent.mkdir()
    arrange(at)
    before = {path: path.is_dir() or path.read_text() for path in tmp_path.rglob("*")}
    error = one_error(zoo("build", "resnet18", "--save", at), code=1)
    assert error.startswith(expected.format(at=at))
    after = {path: path.is_dir() or path.read_text() for path in tmp_path.rglob("*")}
    assert after == before


def test_missing_weights(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "none.safetensors"
    result = invoke("build", "resnet18", "--weights", file, code=1)
    assert result.output == f"Error: {file}: there is no such file\n"
