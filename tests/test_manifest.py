"""Registry files are read strictly: every rule broken is told with its place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo_core.errors import RegistryError
from zoo_core.manifest import (
    NamedModel,
    Preprocessing,
    WeightsEntry,
    config_directory,
    read_manifest,
    shipped_manifest,
    user_manifests,
)

ENTRY = """weights:
- component: net
  tag: a1
  repository: me/net
  source: measured
"""
MODEL = """models:
- name: parking
  recipe: net+unet
"""

Refuse = Callable[[str | bytes], str]


@pytest.fixture(params=["libyaml", "python"])
def refusal(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Refuse:
    """Read a file that must be refused, in one line; give that line after the path."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)

    def refuse(text: str | bytes) -> str:
        path = tmp_path / "registry.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(RegistryError) as caught:
            read_manifest(path)
        message = str(caught.value).removeprefix(f"{path}")
        assert "\n" not in message
        assert len(message) < 300
        return message

    return refuse


def test_defaults_and_values(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(
        f"{ENTRY}  revision: {'0a' * 20}\n  sha256: {'1b' * 32}\n  size: 12\n"
        "  preprocessing: {size: [224, 320], crop: 1, mean: [0.5], std: [0.25]}\n"
        "  activation: quick_gelu\n  eps: 1e-5\n  labels: imagenet-1k\n"
        "pins: {net: my-dist}\n"
    )
    manifest = read_manifest(path)
    [entry] = manifest.weights
    assert entry.pinned
    assert entry.preprocessing == Preprocessing(size=(224, 320), crop=1.0, mean=(0.5,), std=(0.25,))
    assert (entry.activation, entry.eps, entry.labels) == ("quick_gelu", 1e-5, "imagenet-1k")
    assert manifest.pins == {"net": "my-dist"}
    for nothing in ("", "# nothing", "weights: []\nmodels: []\npins: {}"):
        path.write_text(nothing)
        assert read_manifest(path) == type(manifest)()


def test_what_is_read_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ENTRY + MODEL)
    manifest = read_manifest(path)
    origins = {item.origin for item in (*manifest.weights, *manifest.models)}
    assert origins == {str(path)}
    shipped = read_manifest(shipped_manifest())
    origins = {item.origin for item in (*shipped.weights, *shipped.models)}
    assert origins == {"registry.yaml of zoo-core"}


def test_a_hash_without_letters_is_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(f"{ENTRY}  revision: {'1' * 40}\n  sha256: {'12e4' * 16}\n")
    [entry] = read_manifest(path).weights
    assert (entry.revision, entry.sha256) == ("1" * 40, "12e4" * 16)


def test_models_are_read_with_values_that_all_versions_of_yaml_agree_on(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(
        f"{MODEL}  classes: {{classification: 0, segmentation: 3}}\n"
        "  options:\n"
        "    decoder: {widths: [64, [32]], deep: true, flat: false, nothing: null, rate: -1.5e-3}\n"
        "    net: {word: relu, quoted: 'no', number: '8', tiny: 1e-3, sentence: a b, zero: -0}\n"
        "  in_channels: 4\n  image_size: 64\n  summary: cars\n"
        "- {name: team/other_2, recipe: 'net', image_size: [32, 48]}\n"
    )
    first, second = read_manifest(path).models
    assert first == NamedModel(
        name="parking",
        recipe="net+unet",
        classes={"classification": 0, "segmentation": 3},
        options={
            "decoder": {
                "widths": [64, [32]], "deep": True, "flat": False,
                "nothing": None, "rate": -1.5e-3,
            },
            "net": {
                "word": "relu", "quoted": "no", "number": "8", "tiny": 1e-3, "sentence": "a b",
                "zero": 0,
            },
        },
        in_channels=4,
        image_size=(64, 64),
        summary="cars",
    )  # fmt: skip
    assert second == NamedModel(name="team/other_2", recipe="net", image_size=(32, 48))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights: 3", ":1:10: a list is expected here, not '3'"),
        ("weights:", ":1:9: a list is expected here, not nothing"),
        ("weights: {a: 1}", ":1:10: a list is expected here, not a mapping"),
        ("- 1", ":1:1: a mapping is expected here, not a list"),
        ("weihgts: []", ":1:10: unknown key 'weihgts'; known: models, pins, weights"),
        ("pins: {}\npins: {}", ":2:1: key 'pins' stands here twice"),
        ("pins: {a: 3}", ":1:11: quoted text is expected here, not '3'"),
        ("pins: {a: no}", ":1:11: quoted text is expected here, not 'no'"),
        ("pins: {a: [b]}", ":1:11: text is expected here, not a list"),
        ("weights:\n- {component: net}", ":2:3: key 'tag' is missing"),
        (f"{ENTRY}  size: big", ":6:9: a whole number is expected here, not 'big'"),
        (f"{ENTRY}  size: true", ":6:9: a whole number is expected here, not 'true'"),
        (f"{ENTRY}  size: -1", ":6:9: -1 is too small; at least 1 is expected here"),
        (f"{ENTRY}  size: 1.5", ":6:9: a whole number is expected here, not '1.5'"),
        (
            f"{ENTRY}  sha256: abc",
            ":6:11: 'abc' is not a hash of 64 lower-case hexadecimal digits",
        ),
        (
            f"{ENTRY}  revision: main",
            ":6:13: 'main' is not a commit of 40 lower-case hexadecimal digits",
        ),
        (f"{ENTRY}  revision: {'A' * 40}", f":6:13: '{'A' * 40}' is not a commit of 40 lower-case"),
        (f"{ENTRY}  filename: model.pth", ":6:13: 'model.pth' is not the name of a safetensors"),
        (f"{ENTRY}  filename: ../x.safetensors", ":6:13: '../x.safetensors' is not the name of a"),
        (f"{ENTRY}  filename: a/x.safetensors", ":6:13: 'a/x.safetensors' is not the name of a"),
        (f"{ENTRY}  layout: tf", ":6:11: 'tf' is none of timm, torchvision, hf-vit"),
        (f"{ENTRY}  activation: relu", ":6:15: 'relu' is none of gelu, quick_gelu"),
        (f"{ENTRY}  eps: 0", ":6:8: 0.0 is not a positive number"),
        (f"{ENTRY}  colour: red", ":6:11: unknown key 'colour'; known: activation, classes, comp"),
        (f"{ENTRY}  origin: me", ":6:11: unknown key 'origin'; known: "),
        (f"{ENTRY}  provider: me", ":6:13: unknown key 'provider'; known: "),
        (f"{ENTRY}  preprocessing: {{size: [1, 2, 3]}}", ":6:25: a size is one side, or height"),
        (f"{ENTRY}  preprocessing: {{std: [0]}}", ":6:25: a positive number is expected here, not"),
        (ENTRY.replace("me/net", "../net"), ":4:15: '../net' is not a repository 'owner/name'"),
        (ENTRY.replace("me/net", "me/a--b"), ":4:15: 'me/a--b' is not a repository 'owner/name'"),
        (ENTRY.replace("a1", "a.1"), ":3:8: 'a.1' is not a tag of letters, digits, '_' and '-'"),
        (ENTRY.replace(" net", " a b"), ":2:14: 'a b' is not a component, 'name' or 'distribution"),
        (ENTRY + ENTRY.removeprefix("weights:\n"), ":6:3: 'net.a1' stands under weights twice"),
        (MODEL + MODEL.removeprefix("models:\n"), ":4:3: 'parking' stands under models twice"),
        ("models:\n- {name: a}", ":2:3: key 'recipe' is missing"),
        (
            "models:\n- {name: a+b, recipe: net}",
            ":2:10: 'a+b' is no name of letters, digits, '_', '-' and '/'",
        ),
        (f"{MODEL}  weights: x", ":4:12: unknown key 'weights'; known: classes, image_size"),
        (f"{MODEL}  classes: {{pose: 3}}", ":4:19: unknown key 'pose'; known: classification, seg"),
        (f"{MODEL}  classes: {{segmentation: -1}}", ":4:27: -1 is too small; at least 0 is"),
        (f"{MODEL}  in_channels: 0", ":4:16: 0 is too small; at least 1 is expected here"),
        (f"{MODEL}  options: {{net: 3}}", ":4:18: a mapping is expected here, not '3'"),
        (
            f"{MODEL}  options: {{net: {{a: {{b: 3}}}}}}",
            ":4:22: true, false, null, a decimal number, text or a list is expected here, not a "
            "mapping",
        ),
        (f"{MODEL}  options: {{net: {{a: 1, a: 2}}}}", ":4:25: key 'a' stands here twice"),
    ],
)
def test_a_broken_rule_is_told_with_line_and_column(
    text: str, message: str, refusal: Refuse
) -> None:
    assert refusal(text).startswith(message)


def test_an_empty_value_is_none(refusal: Refuse) -> None:
    """Where it stands depends on the parser: behind its colon, or where the next thing begins."""
    assert refusal("pins: {a: }").endswith(": text is expected here, not nothing")
    assert refusal(f"{MODEL}  in_channels:").endswith(
        ": a whole number is expected here, not nothing"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pins: &a {}", ":1:7: anchors and aliases are not allowed"),
        ("pins: *a", ":1:7: anchors and aliases are not allowed"),
        ("pins: {a: &x !!str b}", ":1:11: anchors and aliases are not allowed"),
        ("[" * 999_999, ":1:17: more than 16 lists and mappings in one another"),
        ("{a: " * 200_000, ":1:65: more than 16 lists and mappings in one another"),
        ("- " * 400_000, ":1:33: more than 16 lists and mappings in one another"),
        (f"pins: {{a: {'b' * 900_000}}}", ":1:11: 900000 characters; at most 1000 are read"),
        (f"{'b' * 900_000}: 1", ":1:"),
        (f"{ENTRY}  size: {'9' * 5000}", ":6:9: 5000 characters; at most 1000 are read"),
        (f"{ENTRY}  eps: 1{'0' * 900}", ":6:8: a number is expected here, not '1000"),
        ("!!python/object:os.system {}", ":1:1: tags such as 'tag:yaml.org,2002:python/object:os"),
        ("pins: {a: !!str b}", ":1:11: tags such as 'tag:yaml.org,2002:str' are not allowed"),
        ("pins: {a: ! b}", ":1:11: tags such as '!' are not allowed"),
        ("pins: {a: !!null }", ":1:11: tags such as 'tag:yaml.org,2002:null' are not allowed"),
        ("<<: {pins: {}}", ":1:1: quoted text is expected here, not '<<'"),
        (f"{ENTRY}  <<: {{size: 3}}", ":6:3: quoted text is expected here, not '<<'"),
        ("pins: {}\n---\npins: {}", ":2:1: a second document begins; one is read"),
        (b"pins: {\xff: b}", ":1:8: byte 0xff is not UTF-8"),
        ("# é\npins: {é: ".encode() + b"\xe9}", ":2:11: byte 0xe9 is not UTF-8"),
        ("pins: {}".encode("utf-16"), ":1:1: byte 0xff is not UTF-8"),
        ("pins: {a: b\0}", ":1:12: character U+0000 is not allowed"),
        ("pins:\n  a: b\x1b[31m", ":2:7: character U+001B is not allowed"),
        ("\ufeffpins: {}", ":1:1: a byte order mark (U+FEFF) is not allowed; save the file"),
        ("pins: {}\n\ufeff", ":2:1: a byte order mark (U+FEFF) is not allowed; save the file"),
        ("{1: {}}", ":1:2: quoted text is expected here, not '1'"),
        ("{no: {}}", ":1:2: quoted text is expected here, not 'no'"),
        ("{: {}}", ":1:2: "),
        ("{? [a] : {}}", ":1:4: text is expected here, not a list"),
        ("{? {a: b} : {}}", ":1:4: text is expected here, not a mapping"),
        ("pins: {", ":"),
        ("pins: {]", ":1:8: "),
        ("pins: 'a", ":"),
        ("pins: {}\n\t- a", ":"),
        ("%YAML 3.0\n---\npins: {}", ":1:1: "),
        ("pins: {a: \"\\x\"}", ":1:1"),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_nothing_that_yaml_can_do_comes_through(
    text: str | bytes, message: str, refusal: Refuse
) -> None:
    assert refusal(text).startswith(message)


DIFFERENT = ["no", "Yes", "ON", "off", "True", "TRUE", "null", "~", "1_000", "0o17", "017", "08"]
DIFFERENT += ["0x1F", "0b11", "+3", "1:30", ".5", "5.", ".inf", "-.inf", ".nan", "1e999", "="]
DIFFERENT += ["2024-01-01"]


@pytest.mark.parametrize("word", DIFFERENT)
def test_words_that_are_read_differently_are_refused(word: str, refusal: Refuse) -> None:
    for key in ("size", "eps", "licence"):
        assert f"is expected here, not {word!r}" in refusal(f"{ENTRY}  {key}: {word}")
    if word != "null":
        option = f"{MODEL}  options: {{net: {{a: {word}}}}}"
        assert refusal(option) == (
            ":4:22: true, false, null, a decimal number, text or a list is expected here, "
            f"not {word!r}"
        )


def test_files_that_are_too_large_or_missing_are_refused(tmp_path: Path, refusal: Refuse) -> None:
    assert refusal("#" * 1_000_001) == ": has more than 1000000 bytes, the most read"
    with pytest.raises(RegistryError, match="cannot be read: No such file or directory"):
        read_manifest(tmp_path / "none.yaml")
    with pytest.raises(RegistryError, match="cannot be read: it is no file"):
        read_manifest(tmp_path)


GIVEN: dict[str, Any] = {"component": "net", "tag": "a1", "repository": "me/net", "source": "me"}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("component", "a:b:c", "a component, 'name' or 'distribution:name'"),
        ("component", "net.a1", "a component, 'name' or 'distribution:name'"),
        ("tag", "", "a tag of letters, digits, '_' and '-'"),
        ("tag", "../..", "a tag of letters, digits, '_' and '-'"),
        ("repository", "net", "a repository 'owner/name'"),
        ("repository", "a/b/c", "a repository 'owner/name'"),
        ("repository", "a/..", "a repository 'owner/name'"),
        ("repository", "https://x/y", "a repository 'owner/name'"),
        ("repository", "me/net@main", "a repository 'owner/name'"),
        ("repository", "me/nét", "a repository 'owner/name'"),
        ("repository", "me/net\n", "a repository 'owner/name'"),
        ("repository", None, "a repository 'owner/name'"),
        (
            "filename",
            "pytorch_model.bin",
            "the name of a safetensors file, such as 'model.safetensors'",
        ),
        (
            "filename",
            "..safetensors",
            "the name of a safetensors file, such as 'model.safetensors'",
        ),
        ("revision", "../main", "a commit of 40 lower-case hexadecimal digits"),
        ("revision", 40, "a commit of 40 lower-case hexadecimal digits"),
        ("sha256", "0" * 63, "a hash of 64 lower-case hexadecimal digits"),
        ("size", 0, "a positive number of bytes"),
        ("size", True, "a positive number of bytes"),
        ("size", 1.0, "a positive number of bytes"),
        ("eps", float("inf"), "a positive number"),
        ("classes", 0, "a positive number of classes"),
    ],
)
def test_entries_of_code_keep_the_same_rules(field: str, value: object, expected: str) -> None:
    given = GIVEN | {field: value}
    with pytest.raises(RegistryError) as caught:
        WeightsEntry(**given)
    name = f"{given['component']}.{given['tag']}"
    assert str(caught.value) == f"weights {name!r}: {field}: {value!r} is not {expected}"


def test_an_activation_of_code_is_one_of_a_few() -> None:
    with pytest.raises(RegistryError) as caught:
        WeightsEntry(**GIVEN, activation="relu")
    assert str(caught.value) == "weights 'net.a1': activation: 'relu' is none of gelu, quick_gelu"


@pytest.mark.parametrize("component", ["net", "timm/net_2", "zoo-a:net", "Zoo.A:park/lion"])
def test_components_are_plain_or_qualified(component: str) -> None:
    entry = WeightsEntry(**GIVEN | {"component": component}, sha256="0" * 64, eps=1, size=1)
    assert entry.name == f"{component}.a1"
    assert not entry.pinned


def test_users_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)
    own = tmp_path / "config" / "zoo" / "registry.yaml"
    assert config_directory() == own.parent
    assert user_manifests() == []
    named = tmp_path / "named.yaml"
    monkeypatch.setenv("ZOO_REGISTRY", str(named))
    assert user_manifests() == [named]  # though it does not exist: reading it says so
    own.parent.mkdir(parents=True)
    own.touch()
    assert user_manifests() == [named, own]
    monkeypatch.setenv("ZOO_REGISTRY", str(own))
    assert user_manifests() == [own]
    monkeypatch.setenv("ZOO_REGISTRY", "")
    assert user_manifests() == [own]


@pytest.mark.parametrize("value", ["", "relative"])
def test_a_relative_configuration_directory_is_none(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the file of whatever folder one stands in would be read."""
    monkeypatch.setenv("XDG_CONFIG_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_directory() == tmp_path / ".config" / "zoo"


def test_a_pipe_is_no_registry(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "registry.yaml")
    with pytest.raises(RegistryError, match="cannot be read: it is no file"):
        read_manifest(tmp_path / "registry.yaml")
