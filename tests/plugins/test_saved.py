"""Saved models of plugins that go away or change."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import PARTS, Dist, Install, Installed

CODE = """
@hookimpl
def zoo_specs():
    return [Spec(kind="backbone", name="parts", target="zoo_parts.net:Net")]
"""
SAVE = """
zoo.build("parts+zoo-cbam:cbam", seed=0, num_classes_classification=2).save_pretrained({folder!r})
print("true")
"""
LOAD = """
try:
    zoo.MultitaskModel.from_pretrained({folder!r})
    print(json.dumps("loaded"))
except zoo.ZooError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def parts(install: Install) -> Installed:
    return install(Dist(name="zoo-parts", code=CODE, version="2.1", files={"net.py": PARTS}))


@pytest.fixture(scope="module")
def saved(parts: Installed, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("saved"))
    assert parts.evaluate(SAVE.format(folder=folder))
    return folder


def test_a_plugin_that_is_missing_is_named(parts: Installed, saved: str, install: Install) -> None:
    assert parts.evaluate(LOAD.format(folder=saved)) == "loaded"
    code = LOAD.format(folder=saved)
    assert parts.evaluate(code, PYTHONPATH="") == (
        f"{saved} needs the plugin zoo-parts 2.1, which is not installed: pip install zoo-parts"
    )
    assert parts.evaluate(code, ZOO_BLOCK_PLUGINS="zoo-parts") == (
        f"{saved} needs the plugin zoo-parts 2.1, which is blocked: it is named in "
        f"ZOO_BLOCK_PLUGINS"
    )


def test_a_plugin_that_changed_is_told(saved: str, install: Install) -> None:
    wider = PARTS.replace("width=8", "width=16")
    older = install(Dist(name="zoo-parts", code=CODE, version="2.0", files={"net.py": wider}))
    assert older.evaluate(LOAD.format(folder=saved)) == "loaded"  # every option is written out
    other = PARTS.replace("self.first = nn.Conv2d(in_channels, width, 3,", "self.first = nn.Conv2d("
                          "in_channels, width, 5,")  # fmt: skip
    changed = install(Dist(name="zoo-parts", code=CODE, version="2.0", files={"net.py": other}))
    message = changed.evaluate(LOAD.format(folder=saved))
    assert message.startswith(
        f"{Path(saved, 'model.safetensors')}: does not fit the model: backbone.first.weight is "
        f"[8, 3, 3, 3] in the file and [8, 3, 5, 5] in the model (saved with zoo-core 0.1.0; "
    )
    assert "zoo-parts 2.1, here 2.0" in message
