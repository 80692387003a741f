"""``config.json`` of a saved model: whatever is wrong with it is one error that says where."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo_core as zoo
from zoo_core import MultitaskModel
from zoo_core.catalogue import registry
from zoo_core.errors import SavedModelError
from zoo_core.saved.config import check_config, read_config

FORMAT_1 = Path(__file__).parent / "fixtures" / "saved-format-1"
Config = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("saved")
    MultitaskModel.from_pretrained(FORMAT_1).save_pretrained(folder)
    return folder


@pytest.fixture
def config(saved: Path) -> Config:
    read: Config = json.loads((saved / "config.json").read_text())
    return read


@pytest.fixture
def refusal(saved: Path, tmp_path: Path) -> Callable[[object], str]:
    """Put a configuration, or a text, into a folder; give the refusal of loading it."""

    def refuse(content: object) -> str:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        shutil.copy(saved / "model.safetensors", folder)
        file = folder / "config.json"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(SavedModelError) as caught:
            MultitaskModel.from_pretrained(folder)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 700
        return message.replace(str(file), "FILE").replace(str(folder), "FOLDER")

    return refuse


def put(config: Config, place: str, value: object) -> Config:
    """Change one value of a configuration, whose place is told by keys with dots between."""
    changed = copy.deepcopy(config)
    *above, last = place.split(".")
    inner: Any = changed
    for key in above:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    if isinstance(inner, list):
        inner[int(last)] = value
    else:
        inner[last] = value
    return changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "FILE: is no JSON: Expecting property name"),
        ("[]", "FILE: is not the configuration of a zoo model: no 'recipe' in it"),
        ("{}", "FILE: is not the configuration of a zoo model: no 'recipe' in it"),
        (b"\xff\xfe", "FILE: is no JSON: 'utf-8' codec can't decode"),
        ('{"recipe": 1, "recipe": 2}', "FILE: key 'recipe' stands there twice"),
        ('{"recipe": NaN}', "FILE: NaN is no value of JSON"),
        ("[" * 200_000, "FILE: has too many values in one another"),
        ('{"recipe": ' + "1" * 5000 + "}", "FILE: is no JSON: Exceeds the limit"),
        (" " * 1_000_001, "FILE: has more than 1,000,000 bytes, the most that are read"),
    ],
)
def test_a_text_that_is_no_configuration(
    refusal: Callable[[object], str], text: str | bytes, message: str
) -> None:
    assert refusal(text).startswith(message)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("auto_map", {"AutoModel": "evil.Evil"}, "FILE: unknown key 'auto_map'; known are format"),
        ("options.target", "os:system", "FILE: options: unknown key 'target'; known are back"),
        ("format", 3, "FILE: is of format 3, written by zoo-core 0.1.0; zoo-core 0.1.0 r"),
        ("format", True, "FILE: is of format True"),
        ("format", 1, "FILE: unknown key 'sha256'; known are"),
        ("zoo_core", "1 2", "FILE: zoo_core: a version is expected here, not '1 2'"),
        ("recipe", "resnet18", "FILE: recipe: 'resnet18' is no part with its distribution"),
        ("recipe", "zoo-timm:timm/test_efficientnet.r160_in1k", "FILE: recipe: 'zoo-timm:timm/"),
        ("recipe", "zoo-timm:os.system", "FILE: recipe: 'zoo-timm:os.system' is no part"),
        ("recipe", "zoo-timm:timm/gone", "FOLDER: unknown backbone 'zoo-timm:timm/gone'"),
        ("recipe", "zoo-cbam:cbam", "FOLDER: 'zoo-cbam:cbam' at character 1 of 'zoo-cbam:cbam' is "
         "of kind attention; the first part is a backbone (saved with zoo-core 0.1.0;"),
        ("options.attention", [], "options of 0 attentions, but 'zoo-timm:"),
        ("options.attention.0", 3, "FILE: options.attention[0]: a mapping is expected here, not 3"),
        ("options.attention.0.reduction", 1e400, "FILE: Infinity is no value of JSON"),
        ("options.attention.0.reduction", 0, "FOLDER: attention zoo-cbam:cbam: reduction"),
        ("options.attention.0.reduction", 10**30, "FILE: options.attention[0].reduction: a number"),
        ("options.attention.0.cut", 3, "FOLDER: attention 'cbam' has no option 'cut'; it has"),
        ("options.backbone.pretrained", True, "'pretrained' is set for the whole"),
        ("options.backbone.model_name", "resnet18", "'model_name' is what makes it"),
        ("options.decoder.decoder_channels", [12, 8, 8, 5],
         "FOLDER/model.safetensors: does not fit the model: decoder."),
        ("picture.channels", "three", "FILE: picture.channels: a whole number from 1 to 65,536"),
        ("picture.channels", 0, "FILE: picture.channels: a whole number from 1"),
        ("picture.channels", True, "FILE: picture.channels: a whole number from 1"),
        ("picture.size", [1, 2, 3], "FILE: picture.size: a list of height and width"),
        ("picture.size", -1, "FILE: picture.size: a whole number from 1 to 65,536"),
        ("classes.classification", 5, "FILE: labels.classification: 4 names for 5 classes"),
        ("classes.segmentation", 0, "FILE: labels.segmentation: 3 names for 0 classes"),
        ("classes.detection", 5, "FILE: classes: unknown key 'detection'; known are"),
        ("classes", {"classification": 4}, "FILE: classes: key 'segmentation' is missing"),
        ("labels.classification", ["a"], "FILE: labels.classification: 1 names for 4 classes"),
        ("labels.classification.2", None, "FILE: labels.classification[2]: text is expected here"),
        ("preprocessing.interpolation", "area", "FILE: preprocessing.interpolation: 'area' is none "
         "of nearest, bilinear, bicubic"),
        ("preprocessing.std", [1, 0, 1], "FILE: preprocessing.std[1]: a number from 1e-06 to "),
        ("preprocessing.std", [1, 1], "FILE: preprocessing.std: 2 numbers for 3 channels"),
        ("preprocessing.size", [1], "FILE: preprocessing.size: a list of height and width"),
        ("licence", "a\nb", "FILE: licence: 'a\\nb' has characters that are not for"),
        ("licence", "\ud800", "FILE: licence: '\\ud800' has characters"),
        ("weights", "w" * 3000, "FILE: weights: 3,000 characters; at most 2,000 are read"),
        ("plugins", {"zoo-timm; rm -rf ~": "1"}, "FILE: plugins: the name of a distribution"),
        ("plugins.zoo-gone", "1.2", "FOLDER needs the plugin zoo-gone 1.2, which is not installed: "
         "pip install zoo-gone"),
        ("sha256", "0" * 63, "FILE: sha256: a hash of 64 hexadecimal digits is expected here"),
        ("sha256", "0" * 64, "though no tensor was changed: it was written by other means"),
        ("checksums", "00000000", "tensors, and its configuration 1 checksums"),
        ("checksums", "0", "FILE: checksums: a row of checksums of eight hexadecimal"),
    ],
)  # fmt: skip
def test_a_value_that_is_wrong_is_told_with_its_place(
    config: Config, refusal: Callable[[object], str], place: str, value: object, message: str
) -> None:
    text = json.dumps(put(config, place, value))
    assert message in refusal(text)


def test_options_in_one_another_have_a_limit(
    config: Config, refusal: Callable[[object], str]
) -> None:
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    message = refusal(put(config, "options.decoder.atrous", deep))
    assert "more than 16 lists and mappings in one another" in message


def places(value: object, above: str = "") -> Iterator[str]:
    """Give the place of each value of a configuration."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in inner:
        place = f"{above}.{key}" if above else str(key)
        yield place
        yield from places(item, place)


WRONG: list[object] = [
    None, True, -1, 0, 3, 10**12, 10**40, 0.5, -1e300, "", "x", "x" * 20_000, "\x00", [], [[]],
    [None], ["x"], {}, {"x": 1}, {"classification": "x"}, [1, 2], [10**9] * 3,
]  # fmt: skip


def test_no_value_raises_anything_else(config: Config, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    refused = total = 0
    some = [place for place in places(config) if not place.startswith("labels.")]
    for number, place in enumerate(some):
        # Building is slow: what gets past the rules is built for a part of the wrong values.
        for value in WRONG[number % 3 :: 3]:
            file.write_text(json.dumps(put(config, place, value)))
            total += 1
            try:
                MultitaskModel.from_pretrained(file.parent)
            except SavedModelError:
                refused += 1
    assert refused > total * 0.9


def test_no_missing_or_added_key_raises_anything_else(config: Config) -> None:
    for place in ["", *places(config)]:
        for change in ("drop", "add"):
            changed = copy.deepcopy(config)
            inner: Any = changed
            *above, last = place.split(".") if place else [""]
            for key in above:
                inner = inner[int(key)] if isinstance(inner, list) else inner[key]
            if not isinstance(inner, dict):
                continue
            if change == "drop" and place:
                del inner[last]
            else:
                inner["added"] = 1
            try:
                check_config(changed, "it")
            except SavedModelError:
                continue
            assert place.startswith(("options.", "labels.", "plugins.")), place


def test_what_is_saved_is_what_is_read(saved: Path) -> None:
    config = read_config(saved / "config.json")
    assert config.format == 2
    assert config.distributions == {"zoo-timm": "0.1.0", "zoo-cbam": "0.1.0", "zoo-unet": "0.1.0"}
    assert config.options.decoder["skip_attention"] == "zoo-cbam:cbam"
    assert config.picture.size == (48, 64)


def test_a_newer_plugin_is_mentioned(config: Config, refusal: Callable[[object], str]) -> None:
    changed = put(config, "plugins.zoo-unet", "9.1")
    message = refusal(put(changed, "options.decoder.brand_new", 3))
    assert "decoder 'unet' has no option 'brand_new'" in message
    assert "zoo-unet 9.1, here 0.1.0)" in message


def test_a_configuration_imports_nothing(config: Config, refusal: Callable[[object], str]) -> None:
    import sys

    assert "turtle" not in sys.modules
    for place in ("recipe", "options.decoder.skip_attention", "options.attention.0"):
        for text in ("turtle:Turtle", "zoo-unet:turtle", "turtle"):
            refusal(put(config, place, text))
    assert "turtle" not in sys.modules


def test_a_plugin_that_is_blocked_or_failed_is_told(
    config: Config, refusal: Callable[[object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    for status, reason, end in (
        ("blocked", "named in X", "which is blocked: it is named in X"),
        ("failed", "ImportError: no", "which failed to load: ImportError: no"),
    ):  # fmt: skip
        plugins = tuple(
            replace(plugin, status=status, reason=reason)
            if plugin.distribution == "zoo-cbam"
            else plugin
            for plugin in registry.plugins
        )
        monkeypatch.setattr(registry.loader, "plugins", plugins)
        assert refusal(config) == f"FOLDER needs the plugin zoo-cbam 0.1.0, {end}"
        monkeypatch.undo()


def test_the_version_is_that_of_the_package(saved: Path) -> None:
    assert read_config(saved / "config.json").zoo_core == zoo.__version__
