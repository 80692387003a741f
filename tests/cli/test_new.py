"""``zoo new``: what it writes is a plugin that works, or nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from zoo_core import __version__
from zoo_core._version import PLUGIN_API
from zoo_core.cli import cli
from zoo_core.spec import KINDS

Invoke = Callable[..., Result]
Finished = subprocess.CompletedProcess[str]
Zoo = Callable[..., Finished]

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = ROOT / "zoo_core" / "templates"
NAMES = {
    "backbone": "Their_Net",
    "attention": "ab",
    "decoder": "a-decoder-with-a-long-name",
    "explainer": "their.map",
}
# Rules that take seconds each and start processes; they are applied to one kind here.
SLOW = ("compiles", "devices", "exports", "imports", "torch_free")

# Composes the plugins as the command line does, and explains what came of it.
USE = """
import sys, torch
from zoo_core.cli import cli
import zoo_core as zoo
recipe, explainer, folder = sys.argv[1:]
cli(["build", recipe, "--set", "ab.reduction=4", "--image-size", "64", "--save", folder],
    standalone_mode=False)
model = zoo.MultitaskModel.from_pretrained(folder)
from zoo_core.explainability import Explainer
explained = Explainer(model, [explainer]).explain(torch.randn(2, 3, 64, 64), target_class=3)
assert explained[explainer].shape == (2, 64, 64)
assert (explained[explainer] >= 0).all()
"""

LIGHT = """
import sys
from zoo_core.cli import cli
cli(["new", "backbone", "light", "--dir", sys.argv[1]], standalone_mode=False)
print({"torch", "numpy", "PIL", "huggingface_hub"} & sys.modules.keys() or "light")
"""


def run(*command: object, cwd: Path | None = None, **environment: str) -> Finished:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A plugin of each kind: what the command tells of it, with its folder."""
    folder = tmp_path_factory.mktemp("written")
    found = {}
    for kind, name in NAMES.items():
        arguments = ["new", kind, name, "--dir", str(folder / "below"), "--json"]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        found[kind] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="session")
def installed(
    told: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of processes that have these plugins installed."""
    target = tmp_path_factory.mktemp("target")
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", target)
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--no-compile")
    folders = [one["folder"] for one in told.values()]
    done = run(*pip, *offline, *folders)
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": str(target)}


def test_names_follow_from_the_distributions(told: dict[str, dict[str, Any]]) -> None:
    keys = ("distribution", "package", "component", "class")
    assert [told["backbone"][key] for key in keys] == [
        "their-net",
        "their_net",
        "their_net",
        "TheirNet",
    ]
    assert [told["explainer"][key] for key in keys] == [
        "their-map",
        "their_map",
        "their_map",
        "TheirMap",
    ]
    assert Path(told["backbone"]["folder"]).name == "Their_Net"


def test_all_files_are_told_and_whole(told: dict[str, dict[str, Any]]) -> None:
    for kind, one in told.items():
        folder, package = Path(one["folder"]), one["package"]
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert (
            files
            >= set(one["files"])
            == {
                ".github/workflows/test.yml",
                ".gitignore",
                "README.md",
                "pyproject.toml",
                f"src/{package}/__init__.py",
                f"src/{package}/model.py",
                f"src/{package}/py.typed",
                f"tests/test_{package}.py",
            }
        )
        for name in one["files"]:
            text = (folder / name).read_text(encoding="utf-8")
            assert not re.search(rf"my[-_]?(plugin|{kind})", text, re.IGNORECASE), name
        siblings = {Path(other["folder"]).name for other in told.values()}
        assert {path.name for path in folder.parent.iterdir()} == siblings


def test_they_show_in_the_list_without_an_edit(
    told: dict[str, dict[str, Any]], installed: dict[str, str], zoo: Zoo
) -> None:
    done = zoo("list", "--json", **installed)
    assert (done.returncode, done.stderr) == (0, "")
    shown = {spec["qualified_name"]: spec for spec in json.loads(done.stdout)}
    for kind, one in told.items():
        spec = shown[f"{one['distribution']}:{one['component']}"]
        assert spec["kind"] == kind
        # As it was typed, it is found too.
        assert spec["aliases"] == ([] if kind == "attention" else [one["distribution"]])
    assert shown["their-net:their_net"]["channels"] == [32, 64, 128, 256]


def test_they_compose_save_and_explain(
    told: dict[str, dict[str, Any]], installed: dict[str, str], tmp_path: Path
) -> None:
    recipe = "their-net+ab@all+a_decoder_with_a_long_name"
    done = run("-c", USE, recipe, "their_map", tmp_path / "model", cwd=tmp_path, **installed)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^attention +ab@4 +1×256×2×2 ", done.stdout, re.MULTILINE)


def test_a_plugins_tests_pass_as_they_are(
    told: dict[str, dict[str, Any]], installed: dict[str, str]
) -> None:
    done = run("-m", "pytest", "-q", cwd=Path(told["attention"]["folder"]), **installed)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20, done.stdout  # type: ignore[index]


def test_the_other_kinds_tests_pass_but_for_slow_rules(
    told: dict[str, dict[str, Any]], installed: dict[str, str], tmp_path: Path
) -> None:
    folders = [told[kind]["folder"] for kind in KINDS if kind != "attention"]
    quick = " and ".join(f"not test_{name}" for name in SLOW)
    options = ("-q", "--import-mode=importlib", "-k", quick)
    done = run("-m", "pytest", *options, *folders, cwd=tmp_path, **installed)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 60, done.stdout  # type: ignore[index]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_tests_of_every_kind_pass_as_they_are(
    kind: str, told: dict[str, dict[str, Any]], installed: dict[str, str]
) -> None:
    done = run("-m", "pytest", "-q", cwd=Path(told[kind]["folder"]), **installed)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_types_are_right_in_mypys_strict_mode(
    told: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for one in told.values():
        done = run("-m", "mypy", "--cache-dir", tmp_path, cwd=Path(one["folder"]))
        assert done.returncode == 0, done.stdout
        assert "no issues found in 3 source files" in done.stdout


def test_linters_have_nothing_to_say_whatever_the_names(tmp_path: Path, invoke: Invoke) -> None:
    for kind in KINDS:
        for name in ("q", f"rather-a-long-name-{kind}"):
            invoke("new", kind, f"{name}{kind[0]}", "--dir", tmp_path)
    assert len(list(tmp_path.glob("*/pyproject.toml"))) == 8
    for command in (("check",), ("format", "--check")):
        done = run("-m", "ruff", *command, "--no-cache", ".", cwd=tmp_path)
        assert done.returncode == 0, done.stdout


def test_the_next_steps_are_shown(tmp_path: Path, invoke: Invoke) -> None:
    folder = tmp_path / "with space"
    result = invoke("new", "decoder", "My_Head", "--dir", folder)
    assert result.stdout.splitlines() == [
        f"distribution  my-head, in {folder}/My_Head",
        "decoder       my_head, of class my_head.model:MyHead",
        "",
        "next",
        f"  cd '{folder}/My_Head'",
        '  pip install -e ".[test]"',
        "  pytest",
        "  zoo build resnet18+my_head",
    ]


def test_an_empty_folder_is_filled_and_has_the_usual_mode(tmp_path: Path, invoke: Invoke) -> None:
    target, plain = tmp_path / "net", tmp_path / "plain"
    target.mkdir()
    plain.mkdir()
    invoke("new", "backbone", "net", "--dir", tmp_path)
    assert (target / "pyproject.toml").is_file()
    assert target.stat().st_mode == plain.stat().st_mode


def test_a_class_is_not_called_like_another_one(tmp_path: Path, invoke: Invoke) -> None:
    for kind, name, expected in (
        ("backbone", "block", "BlockBackbone"),
        ("decoder", "f", "FDecoder"),
        ("attention", "exception", "ExceptionAttention"),
        ("explainer", "inquiry", "InquiryExplainer"),
    ):
        shown = invoke("new", kind, name, "--dir", tmp_path, "--json").stdout
        assert json.loads(shown)["class"] == expected


LETTERS = "use letters, digits, '-', '_' and '.', first a letter, last a letter or digit"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my net", f"'my net' cannot name a distribution: {LETTERS}; 'my-net' is one"),
        ("3d-net", f"'3d-net' cannot name a distribution: {LETTERS}; 'd-net' is one"),
        ("net-", f"'net-' cannot name a distribution: {LETTERS}; 'net' is one"),
        ("", f"'' cannot name a distribution: {LETTERS}"),
        ("né", f"'né' cannot name a distribution: {LETTERS}; 'n' is one"),
        (
            "here/net",
            f"'here/net' cannot name a distribution: {LETTERS}; the folder to write into is --dir",
        ),
        ("class", "'class' is a word of Python's own; write 'my-class'"),
        ("Decoder", "'Decoder' means something else already; write 'my-decoder'"),
        ("tests", "'tests' means something else already; write 'my-tests'"),
        ("Zoo_CBAM", "the distribution zoo-cbam 0.1.0 is installed; choose another name"),
        (
            "zoo-core",
            f"the distribution zoo-core {__version__} is installed; choose another name",
        ),
        ("ResNet18", "'resnet18' is the backbone zoo-resnet:resnet18; choose another name"),
        (
            "multitask-small",
            "'multitask-small' is a named model of registry.yaml of zoo-core; choose another name",
        ),
        (
            "json",
            f"there is a Python package 'json' already ({json.__file__}); choose another name",
        ),
        ("time", "there is a Python package 'time' already (built-in); choose another name"),
    ],
)
def test_names_that_cannot_be_are_refused(
    name: str, told: str, tmp_path: Path, invoke: Invoke
) -> None:
    result = invoke("new", "attention", name, "--dir", tmp_path, code=2)
    assert (result.stdout, result.stderr) == ("", f"Error: {told}\n")
    assert list(tmp_path.iterdir()) == []


def test_what_an_installed_plugin_has_is_refused(
    installed: dict[str, str], tmp_path: Path, zoo: Zoo, one_error: Callable[..., str]
) -> None:
    done = zoo("new", "decoder", "THEIR-NET", "--dir", tmp_path, **installed)
    assert one_error(done) == "the distribution their-net 0.1.0 is installed; choose another name"


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, invoke: Invoke) -> None:
    target = tmp_path / "net"
    target.mkdir()
    (target / "mine").write_text("mine")
    result = invoke("new", "backbone", "net", "--dir", tmp_path, code=2)
    expected = f"{target} is there already; choose another name, or another folder with --dir"
    assert result.stderr == f"Error: {expected}\n"
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("new", "backbone", "net", "--dir", tmp_path / "file", code=2)
    assert f"Invalid value for '--dir': Directory '{tmp_path}/file' is a file." in result.stderr
    result = invoke("new", "backbone", "net", "--dir", tmp_path / "file" / "below", code=2)
    assert result.stderr == (
        f"Error: cannot write {tmp_path}/file/below/net: Not a directory; give another folder "
        f"with --dir\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_told(tmp_path: Path, invoke: Invoke) -> None:
    tmp_path.chmod(0o555)
    result = invoke("new", "backbone", "net", "--dir", tmp_path, code=2)
    assert "net: Permission denied; give another folder with --dir" in result.stderr


def test_nothing_is_left_of_what_cannot_be_finished(tmp_path: Path) -> None:
    command = 'ulimit -f 1; exec "$0" -m zoo_core new backbone net --dir "$1"'  # 1 KiB a file
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: cannot write {tmp_path}/net: File too large; give another folder with --dir\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused(invoke: Invoke) -> None:
    result = invoke("new", "head", "net", code=2)
    assert "'head' is not one of 'backbone', 'attention', 'decoder', 'explainer'" in result.stderr


def test_it_imports_nothing_heavy(tmp_path: Path) -> None:
    done = run("-c", LIGHT, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "light"), done.stderr


def test_the_wheel_has_every_template(tmp_path: Path) -> None:
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("zoo_core/templates/")}
    files = {path.relative_to(ROOT).as_posix() for path in TEMPLATES.rglob("*") if path.is_file()}
    assert packed == {name for name in files if not re.search(r"/(\.|__pycache__/)", name)}
    assert len(packed) > 20


def test_templates_are_of_this_version() -> None:
    text = (TEMPLATES / "common" / "pyproject.toml").read_text(encoding="utf-8")
    [required] = re.findall(r'"(zoo-core[^"]*)"', text)
    assert Requirement(required).specifier.contains(__version__)
    ours = re.search(r"^requires-python = (.*)$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert ours is not None
    assert ours[0] in text
    for catalogue in TEMPLATES.glob("*/src/*/__init__.py"):
        assert f"\nZOO_API = {PLUGIN_API} " in catalogue.read_text(encoding="utf-8")
