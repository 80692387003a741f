"""Registry files beside plugins: who wins, where it says so, and named models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import PARTS, Dist, Install, Installed, remedy

CODE = """
@hookimpl
def zoo_specs():
    return [
        Spec(kind="backbone", name="net", target="zoo_reg.parts:Net", channels=(8, 16),
             strides=(4, 8), options={"width": "channels of the first map"}),
        Spec(kind="backbone", name="bare", target="zoo_reg.parts:Net"),
    ]

@hookimpl
def zoo_sources():
    def spec(name):
        return Spec(kind="backbone", name=f"park/{name}", target="zoo_reg.parts:Net")
    return [Source(kind="backbone", prefix="park/", names=lambda: ["lion"], spec=spec,
                   target="zoo_reg.parts:Net", weights="zoo_reg.park:entry",
                   tags=lambda name: ["wild"])]

@hookimpl
def zoo_weights():
    for tag, repository in (("v1", "reg/net1"), ("v2", "reg/net2"), ("v3", "reg/net3")):
        yield WeightsEntry(component="net", tag=tag, repository=repository, source="a test")
    yield WeightsEntry(component="zoo-absent:ghost", tag="v1", repository="reg/g", source="a test")
    yield WeightsEntry(component="zoo-b:twin", tag="v1", repository="reg/b", source="a test")
    yield WeightsEntry(component="zoo-c:twin", tag="v1", repository="reg/c", source="a test")
"""
PARK = """
from zoo_core import WeightsEntry
def entry(name, tag):
    return WeightsEntry(component="park/" + name, tag=tag or "wild", repository="reg/lion",
                        source="the park")
"""
BAD = """
@hookimpl
def zoo_weights():
    return [WeightsEntry(component="net", tag="v1", repository="a/..", source="a test")]
"""


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    files = {"parts.py": PARTS, "park.py": PARK}
    return install(Dist(name="zoo-reg", code=CODE, version="1.2", files=files))


def entry(component: str, tag: str, repository: str, more: str = "") -> str:
    given = f"component: {component}, tag: {tag}, repository: {repository}, source: me"
    return f"- {{{given}{more}}}\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A file that ZOO_REGISTRY names and one in the configuration directory."""
    named = tmp_path / "named.yaml"
    own = tmp_path / "config" / "zoo" / "registry.yaml"
    own.parent.mkdir(parents=True)
    named.write_text(
        "weights:\n"
        + entry("net", "v1", "named/net1")
        + entry("zoo-resnet:resnet18", "tv_in1k", "named/resnet18")
        + "models:\n- {name: small, recipe: net, summary: named}\n"
    )
    own.write_text(
        "weights:\n"
        + entry("Zoo_Reg:net", "v2", "own/net2")
        + entry("net", "v1", "own/net1")
        + entry("resnet18", "a1_in1k", "own/resnet18")
        + "models:\n- {name: small, recipe: net, summary: own}\n"
        + "- {name: multitask-small, recipe: bare}\n"
    )
    return {"ZOO_REGISTRY": str(named), "XDG_CONFIG_HOME": str(tmp_path / "config")}


SHIPPED = "registry.yaml of zoo-core"
PLUGIN = "plugin zoo-reg 1.2"


def paths(files: dict[str, str]) -> tuple[str, str]:
    return files["ZOO_REGISTRY"], f"{files['XDG_CONFIG_HOME']}/zoo/registry.yaml"


def test_the_first_file_wins_and_info_says_so(installed: Installed, files: dict[str, str]) -> None:
    named, own = paths(files)
    net = json.loads(installed.says("info", "net", "--json", **files))
    found = {tag: (e["repository"], e["origin"]) for tag, e in net["weights"].items()}
    assert found == {
        "v1": ("named/net1", named),
        "v2": ("own/net2", own),
        "v3": ("reg/net3", PLUGIN),
    }
    assert net["overridden"] == [
        {"name": "net.v1", "origin": own, "by": named},
        {"name": "net.v1", "origin": PLUGIN, "by": named},
        {"name": "net.v2", "origin": PLUGIN, "by": own},
    ]
    text = installed.says("info", "resnet18", **files)
    _, table, overridden = text.split("\n\n")
    header, first, second = (line.split("  ") for line in table.splitlines())
    assert header[-1].strip() == "from"
    assert (first[0], first[-1].strip()) == ("tv_in1k", named)
    assert (second[0], second[-1].strip()) == ("a1_in1k", own)
    assert overridden.splitlines() == [
        f"resnet18.tv_in1k of {SHIPPED} is overridden by {named}",
        f"resnet18.a1_in1k of {SHIPPED} is overridden by {own}",
    ]


def test_named_models_follow_the_same_order(installed: Installed, files: dict[str, str]) -> None:
    named, own = paths(files)
    models = json.loads(installed.says("list", "model", "--json", **files))
    assert [(m["name"], m["summary"] or m["recipe"], m["origin"]) for m in models[:3]] == [
        ("small", "named", named),
        ("multitask-small", "bare", own),
        ("multitask-base", models[2]["summary"], SHIPPED),
    ]
    shown = installed.says("info", "multitask-small", **files)
    assert shown.endswith(f"\n\nmultitask-small of {SHIPPED} is overridden by {own}\n")
    told = json.loads(installed.says("info", "small", "--json", **files))
    assert told["overridden"] == [{"name": "small", "origin": own, "by": named}]


def test_a_file_that_is_named_must_be_there(installed: Installed, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    line = installed.refusal("list", ZOO_REGISTRY=str(path))
    assert line == f"Error: {path}: cannot be read: No such file or directory"


def test_a_wrong_entry_of_a_plugin_costs_one_line(install: Install) -> None:
    done = install(Dist(name="zoo-bad", code=BAD)).zoo("list")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "zoo: plugin zoo-bad: zoo_weights: RegistryError: weights 'net.v1': repository: 'a/..' is "
        f"not a repository 'owner/name' {remedy('zoo-bad')}"
    ]


FIND = """
import sys
from zoo_core.errors import ZooError
told = {}
for name in NAMES:
    try:
        entry = zoo.registry.find_weights(name)
        told[name] = [entry.name, entry.repository, entry.origin]
    except ZooError as error:
        told[name] = [type(error).__name__, str(error)]
    told[name].append("torch" in sys.modules)
print(json.dumps(told))
"""


def find(installed: Installed, names: list[str], **environment: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = installed.evaluate(
        FIND.replace("NAMES", repr(names)), **environment
    )
    return found


def test_weights_are_found_by_name_without_their_component(installed: Installed) -> None:
    found = {
        "net": ["net.v1", "reg/net1", PLUGIN],
        "zoo-reg:net.v3": ["net.v3", "reg/net3", PLUGIN],
        "Zoo_Reg:net.v3": ["net.v3", "reg/net3", PLUGIN],
        "ghost": ["zoo-absent:ghost.v1", "reg/g", PLUGIN],
        "zoo-absent:ghost.v1": ["zoo-absent:ghost.v1", "reg/g", PLUGIN],
        "zoo-c:twin": ["zoo-c:twin.v1", "reg/c", PLUGIN],
        "resnet50.tv_in1k": ["zoo-resnet:resnet50.tv_in1k", "timm/resnet50.tv_in1k", SHIPPED],
    }
    refused = {
        "twin": "there are weights of zoo-b:twin and zoo-c:twin; write one of these names instead "
        "of 'twin'",
        "zoo-b:ghost": "unknown weights 'zoo-b:ghost'; did you mean ghost or ghost.v1?",
        "ghots.v1": "unknown weights 'ghots.v1'; did you mean ghost.v1 or ghost?",
        "park/lino": "unknown weights 'park/lino'; did you mean park/lion?",
        "quite another": "unknown weights 'quite another'; 'zoo weights list' shows what there is",
        "": "unknown weights ''; 'zoo weights list' shows what there is",
        "net.v4": "'net' has no weights 'v4'; it has v1, v2, v3",
        "ghost.v4": "'ghost' has no weights 'v4'; it has v1",
        "bare": "'bare' has no pretrained weights",
        "cbam": "'cbam' has no pretrained weights",
    }
    told = find(installed, [*found, *refused])
    assert {name: told[name] for name in found} == {n: [*f, False] for n, f in found.items()}
    assert {name: told[name][1:] for name in refused} == {n: [r, False] for n, r in refused.items()}
    kinds = [told[name][0] for name in refused]
    assert kinds[0] == "AmbiguousComponentError"
    assert set(kinds[1:6]) == {"UnknownComponentError"}
    assert set(kinds[6:]) == {"WeightsError"}


def test_a_pin_decides_between_absent_components(installed: Installed, tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("pins: {twin: zoo-c}")
    assert find(installed, ["twin"], ZOO_REGISTRY=str(path))["twin"][1] == "reg/c"


@pytest.mark.parametrize("name", ["park/lion", "park/lion.wild", "zoo-reg:park/lion.wild"])
def test_a_source_is_asked_for_what_no_registry_lists(installed: Installed, name: str) -> None:
    assert find(installed, [name])[name][:3] == ["park/lion.wild", "reg/lion", PLUGIN]


def test_a_source_has_the_pins_of_an_entry_for_the_same_file(
    installed: Installed, tmp_path: Path
) -> None:
    pins = f", revision: {'0a' * 20}, sha256: {'1b' * 32}, size: 12"
    path = tmp_path / "registry.yaml"
    code = """
entry = zoo.registry.find_weights("park/lion")
print(json.dumps([entry.component, entry.revision, entry.sha256, entry.size, entry.source]))
"""
    other = entry("mine", "a", "reg/lion", f", filename: other.safetensors{pins}")
    path.write_text(f"weights:\n{entry('mine', 'u', 'reg/lion')}{other}")
    told = installed.evaluate(code, ZOO_REGISTRY=str(path))
    assert told == ["park/lion", None, None, None, "the park"]
    path.write_text(f"weights:\n{other}{entry('mine', 'b', 'reg/lion', pins)}")
    told = installed.evaluate(code, ZOO_REGISTRY=str(path))
    assert told == ["park/lion", "0a" * 20, "1b" * 32, 12, "the park"]


MODELS = """models:
- name: small
  recipe: net+cbam+unet
  classes: {classification: 5, segmentation: 2}
  options:
    net: {width: 12}
    attention: {reduction: 4}
    unet: {atrous: false, skip_attention: null}
  in_channels: 4
  image_size: [32, 48]
- {name: headless, recipe: bare, classes: {classification: 0}}
- {name: gone, recipe: net+absent}
- {name: wrong, recipe: net, options: {net: {widht: 3}}}
- {name: nested, recipe: small}
- {name: net, recipe: bare}
- {name: cbam, recipe: bare}
"""
BUILD = """
told = []
for recipe, options in CASES:
    try:
        model = zoo.build(recipe, **options)
        told.append([model.recipe.canonical, model.num_classes_classification,
                     model.num_classes_segmentation, model.backbone.first.in_channels,
                     model.backbone.first.out_channels, list(model.preprocessing.size),
                     [dict(part.options) for part in model.recipe.parts[1:]]])
    except zoo.ZooError as error:
        told.append([type(error).__name__, str(error)])
print(json.dumps(told))
"""


def built(installed: Installed, path: Path, cases: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    path.write_text(MODELS)
    told: list[Any] = installed.evaluate(
        BUILD.replace("CASES", repr(cases)), ZOO_REGISTRY=str(path)
    )
    return told


def test_a_named_model_builds_and_what_is_said_in_the_call_wins(
    installed: Installed, tmp_path: Path
) -> None:
    recipe = "zoo-reg:net+zoo-cbam:cbam+zoo-unet:unet"
    more = {
        "num_classes_classification": 3,
        "num_classes_segmentation": 0,
        "in_channels": 3,
        "image_size": 64,
        "backbone": {"width": 8},
        "cbam": {"reduction": 2},
        "decoder": {"atrous": True},
    }
    cases = [(" small ", {}), ("small", more), ("small", more | {"num_classes_segmentation": 7})]
    plain, changed, segmenting = built(installed, tmp_path / "r.yaml", cases)
    first = [{"reduction": 4}, {"atrous": False, "skip_attention": None}]
    second = [{"reduction": 2}, {"atrous": True, "skip_attention": None}]
    assert plain == [recipe, 5, 2, 4, 12, [32, 48], first]
    assert changed == [recipe, 3, None, 3, 8, [64, 64], second]
    assert segmenting[2] == 7


def test_what_is_wrong_with_a_named_model_names_it(installed: Installed, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    cases = {
        "headless": "OptionError: the model has no head: in 'zoo-reg:bare' "
        "num_classes_classification (--classes) is 0, and it has no decoder",
        "gone": "UnknownComponentError: unknown attention or decoder 'absent' at character 5 of "
        "'net+absent'; 'zoo list' shows what there is",
        "wrong": "OptionError: backbone 'net' has no option 'widht'; did you mean 'width'?",
        "nested": "UnknownComponentError: unknown backbone 'small' at character 1 of 'small'; it "
        "is a named model, and stands alone",
    }
    told = built(installed, path, [(name, {}) for name in cases])
    for [kind, message], (name, expected) in zip(told, cases.items(), strict=True):
        reason = f"named model {name!r} of {path}: "
        assert message.startswith(reason)
        assert f"{kind}: {message.removeprefix(reason)}" == expected


def test_what_is_wrong_with_a_call_does_not(installed: Installed, tmp_path: Path) -> None:
    cases = [("small", {"unet": {"zzz": 1}}), ("small+unet", {}), ("smal", {})]
    [[_, option], [_, longer], [_, near]] = built(installed, tmp_path / "r.yaml", cases)
    assert option.startswith("decoder 'unet' has no option 'zzz'; ")
    assert longer == (
        "unknown backbone 'small' at character 1 of 'small+unet'; it is a named model, and stands "
        "alone"
    )
    assert near.startswith("unknown backbone 'smal' at character 1 of 'smal'; did you mean small")


@pytest.mark.parametrize(
    ("name", "component"), [("net", "backbone zoo-reg:net"), ("cbam", "attention zoo-cbam:cbam")]
)
@pytest.mark.parametrize("command", ["build", "info"])
def test_a_name_of_a_model_and_a_component_is_never_settled_silently(
    installed: Installed, tmp_path: Path, command: str, name: str, component: str
) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(MODELS)
    line = installed.refusal(command, name, code=2, ZOO_REGISTRY=str(path))
    qualified = component.partition(" ")[2]
    assert line == (
        f"Error: {name!r} is a named model of {path} and the {component}; write {qualified!r} for "
        "the component, or give the model another name"
    )
    shown = json.loads(installed.says("info", qualified, "--json", ZOO_REGISTRY=str(path)))
    assert shown["qualified_name"] == qualified


def test_a_part_of_a_recipe_is_never_a_model(installed: Installed, tmp_path: Path) -> None:
    [told] = built(installed, tmp_path / "r.yaml", [("net+cbam", {"seed": 1})])
    assert told[0] == "zoo-reg:net+zoo-cbam:cbam"


def test_completion_offers_models(installed: Installed, tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(MODELS)
    cases = {
        "zoo build sm": "plain,small",
        "zoo info hea": "plain,headless",
        "zoo build net+small": "",
        "zoo list mod": "plain,model",
    }
    for words, expected in cases.items():
        request = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
        done = installed.zoo(ZOO_REGISTRY=str(path), **request)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, expected, "")


def test_a_broken_registry_file_leaves_components_to_complete(
    installed: Installed, tmp_path: Path
) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("models: 3")
    request = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": "zoo build bar", "COMP_CWORD": "2"}
    done = installed.zoo(ZOO_REGISTRY=str(path), **request)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,bare\n", "")


def test_entries_of_absent_components_lie_idle(installed: Installed) -> None:
    names = [item["name"] for item in json.loads(installed.says("list", "--json"))]
    assert "net" in names
    assert not {"ghost", "twin"} & set(names)
