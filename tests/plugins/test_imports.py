"""Classes of plugins, imported by name from the core."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from .conftest import PARTS, Dist, Install, Installed

CODE = """
@hookimpl
def zoo_specs():
    return [
        Spec(kind="backbone", name="PLACE-net", target="zoo_PLACE.parts:TheirNet"),
        Spec(kind="backbone", name="PLACE-wide", target="zoo_PLACE.parts:TheirNet"),
        Spec(kind="backbone", name="PLACE-own", target="zoo_PLACE.parts:OwnNet_PLACE"),
        Spec(kind="backbone", name="PLACE-gone", target="zoo_PLACE.parts:Gone_PLACE"),
    ]
"""
CLASSES = PARTS + "class TheirNet(Net): ...\nclass OwnNet_PLACE(Net): ...\n"


def theirs(name: str) -> Dist:
    return Dist(
        name=f"zoo-{name}",
        code=CODE.replace("PLACE", name),
        files={"parts.py": CLASSES.replace("PLACE", name)},
    )


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    return install(theirs("red"), theirs("blue"))


# Imports each name of a module of the core, and tells what it got.
IMPORT_ALL = """
told = {}
for module, name in WANTED:
    try:
        exec(f"from zoo_core.models.{module} import {name} as found")
        told[name] = f"{found.__module__}:{found.__qualname__}"
    except Exception as error:
        told[name] = [type(error).__name__, isinstance(error, ImportError), str(error)]
import zoo_core.models.backbones as backbones
told["dir"] = dir(backbones)
print(json.dumps(told))
"""


def importing(*wanted: tuple[str, str]) -> str:
    return f"WANTED = {wanted!r}\n{IMPORT_ALL}"


def test_classes_are_found_by_name(installed: Installed) -> None:
    names = ("OwnNet_red", "OwnNet_blue", "TheirNet", "CNNBackbone", "Gone_red", "Nothing")
    told = installed.evaluate(importing(*(("backbones", name) for name in names)))
    assert told["OwnNet_red"] == "zoo_red.parts:OwnNet_red"
    assert told["OwnNet_blue"] == "zoo_blue.parts:OwnNet_blue"
    assert told["CNNBackbone"] == "zoo_resnet.model:CNNBackbone"
    assert told["TheirNet"] == [
        "AmbiguousComponentError",
        False,
        "zoo_core.models.backbones.TheirNet is given by zoo-blue (zoo_blue.parts:TheirNet) and "
        "zoo-red (zoo_red.parts:TheirNet); import it from one of these modules",
    ]
    assert told["Gone_red"] == [
        "PluginError",
        False,
        "backbone class Gone_red of zoo-red: its target 'zoo_red.parts:Gone_red' cannot be "
        "imported: AttributeError: module 'zoo_red.parts' has no attribute 'Gone_red'",
    ]
    kind, is_import_error, text = told["Nothing"]
    assert (kind, is_import_error) == ("ImportError", True)
    assert "cannot import name 'Nothing'" in text
    assert {"CNNBackbone", "OwnNet_red", "OwnNet_blue", "TheirNet"} <= set(told["dir"])


def test_a_blocked_distribution_is_named(installed: Installed) -> None:
    wanted = (("backbones", "CNNBackbone"), ("attention", "CBAM"), ("backbones", "TheirNet"))
    told = installed.evaluate(importing(*wanted), ZOO_BLOCK_PLUGINS="zoo-resnet,zoo-red")
    assert told["CNNBackbone"] == [
        "MissingDistributionError",
        True,
        "zoo_core.models.backbones.CNNBackbone is not available; plugin zoo-resnet blocked: named "
        "in ZOO_BLOCK_PLUGINS",
    ]
    assert told["CBAM"] == "zoo_cbam.model:CBAM"
    assert told["TheirNet"] == "zoo_blue.parts:TheirNet"
    assert "CNNBackbone" not in told["dir"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """All that is installed here except plugins, and the core from its source."""
    core, torch = (Path(str(find_spec(name).origin)).parent for name in ("zoo_core", "torch"))
    folder = tmp_path_factory.mktemp("bare") / "installed"
    folder.mkdir()
    for path in torch.parent.iterdir():
        if not path.name.startswith(("zoo_", "_zoo", "_editable")) and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    (folder / "zoo_core").symlink_to(core)
    (folder / "registry.yaml").symlink_to(core.parent / "registry.yaml")
    return Installed(folder=folder, flags=("-S",))


def test_a_missing_distribution_is_named(bare: Installed) -> None:
    missing = {
        ("backbones", "CNNBackbone"): "zoo-resnet",
        ("attention", "CBAM"): "zoo-cbam",
        ("encoder_decoder", "UNetDecoder"): "zoo-unet",
    }
    told = bare.evaluate(importing(*missing))
    assert told.pop("dir") == []
    assert told == {
        name: [
            "MissingDistributionError",
            True,
            f"zoo_core.models.{module}.{name} is not available; it comes with {distribution}: "
            f"'pip install {distribution}'",
        ]
        for (module, name), distribution in missing.items()
    }


def test_without_any_plugin_commands_work(bare: Installed) -> None:
    assert bare.says("plugins", "--json") == "[]\n"
    assert bare.refusal("build", "resnet18", code=2) == (
        "Error: unknown backbone 'resnet18' at character 1 of 'resnet18'; 'zoo list' shows what "
        "there is"
    )
