"""``zoo list``, ``zoo info`` and ``zoo plugins``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Zoo = Callable[..., CompletedProcess[str]]
Table = Callable[[str], list[list[str]]]
OneError = Callable[..., str]

HEADER = ["name", "kind", "what it is", "channels", "weights", "provider"]
KINDS = "kinds are backbone, attention, decoder, explainer, model"

SHIPPED = "registry.yaml of zoo-core"


def printed(finished: CompletedProcess[str]) -> str:
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_list_shows_every_component_with_what_is_known(zoo: Zoo, table: Table) -> None:
    header, *rows = table(printed(zoo("list")))
    assert header == HEADER
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["resnet50"] == [
        "backbone",
        "ResNet of 50 layers",
        "256-512-1024-2048",
        "a1_in1k, tv_in1k, a1h_in1k, tv2_in1k",
        "zoo-resnet",
    ]
    assert by_name["resnet18"][2] == "64-128-256-512"
    assert by_name["cbam"][0] == "attention"
    assert by_name["unet"][0] == "decoder"
    names = [row[0] for row in rows if row[-1] == "zoo-resnet"]
    assert names == ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def test_list_counts_the_names_of_a_source_and_lists_them_when_asked(
    zoo: Zoo, table: Table
) -> None:
    _, *rows = table(printed(zoo("list")))
    (source,) = [row for row in rows if row[-1] == "zoo-timm" and row[1] == "backbone"]
    assert source[0] == "timm/*"
    counted = re.search(r"([\d,]+) names, zoo list (\w+) '(.+)'", source[2])
    assert counted
    _, *listed = table(printed(zoo("list", counted[2], counted[3])))
    assert len(listed) == int(counted[1].replace(",", "")) > 1000
    assert all(row[0].startswith("timm/") and row[1] == "backbone" for row in listed)
    assert len({row[0] for row in listed}) == len(listed)


@pytest.mark.parametrize(
    ("arguments", "expected", "absent"),
    [
        (["decoder"], {"unet"}, {"cbam", "resnet50", "timm/*", "multitask-base"}),
        (["decoders"], {"unet"}, {"cbam", "resnet50", "timm/*"}),
        (["attention"], {"cbam", "timm/*"}, {"unet", "resnet50"}),
        (["model"], {"multitask-small", "multitask-base"}, {"unet", "resnet50", "timm/*"}),
        (["models"], {"multitask-small", "multitask-base"}, {"unet", "resnet50", "timm/*"}),
        (["model", "*small"], {"multitask-small"}, {"multitask-base", "timm/*small"}),
        (["multi*"], {"multitask-small", "multitask-base"}, {"unet"}),
        (["backbone"], {"resnet50", "timm/*"}, {"cbam", "unet"}),
        (["resnet*"], {"resnet18", "resnet152", "timm/resnet*"}, {"cbam", "unet", "timm/resnet50"}),
        (["backbone", "resnet1[08]*"], {"resnet18", "resnet101"}, {"resnet152", "resnet50"}),
        (["timm/resnet50"], {"timm/resnet50"}, {"resnet50", "timm/resnet50d"}),
        (["backbone", "timm/convnext_at*"], {"timm/convnext_atto"}, {"timm/convnext_tiny"}),
        (["*net"], {"unet", "timm/*net"}, {"resnet50", "cbam"}),
    ],
)
def test_kinds_and_patterns_choose(
    arguments: list[str], expected: set[str], absent: set[str], zoo: Zoo, table: Table
) -> None:
    names = {row[0] for row in table(printed(zoo("list", *arguments)))[1:]}
    assert expected <= names
    assert not absent & names


def test_list_prints_json(zoo: Zoo) -> None:
    told = json.loads(printed(zoo("list", "--json")))
    components = {item["name"]: item for item in told if item["kind"] != "attention"}
    assert components["resnet50"] == {
        "name": "resnet50",
        "kind": "backbone",
        "summary": "ResNet of 50 layers",
        "channels": [256, 512, 1024, 2048],
        "strides": [4, 8, 16, 32],
        "weights": ["a1_in1k", "tv_in1k", "a1h_in1k", "tv2_in1k"],
        "tags": ["cnn"],
        "aliases": [],
        "provider": "zoo-resnet",
        "qualified_name": "zoo-resnet:resnet50",
    }
    assert [name for name in components if name.startswith("timm/")] == ["timm/*"]
    counted = components["timm/*"]
    assert counted["count"] > 1000
    assert counted.keys() - {"count"} == components["resnet50"].keys()
    model = components["multitask-small"]
    assert model["recipe"] == "zoo-resnet:resnet18.a1_in1k+zoo-cbam:cbam+zoo-unet:unet"
    assert (model["kind"], model["provider"], model["origin"]) == ("model", SHIPPED, SHIPPED)
    assert components["resnet50"].keys() <= model.keys()
    asked_for = json.loads(printed(zoo("list", "timm/convnext_atto*", "--json")))
    assert [item["kind"] for item in asked_for] == ["backbone"] * len(asked_for)
    assert "timm/convnext_atto" in {item["name"] for item in asked_for}
    assert json.loads(printed(zoo("list", "nosuch*", "--json"))) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["nosuch"],
            f"unknown kind 'nosuch'; {KINDS}; 'zoo list \"*nosuch*\"' lists names with it",
        ),
        ([""], f"unknown kind ''; {KINDS}"),
        (["nosuch", "resnet*", "--json"], f"unknown kind 'nosuch'; {KINDS}"),
        (["nosuch*"], "no component matches 'nosuch*'; 'zoo list' shows what there is"),
        (["decoder", "res*"], "no component matches 'res*'; 'zoo list' shows what there is"),
        (["timm/nosuch*"], "no component matches 'timm/nosuch*'; 'zoo list' shows what there is"),
    ],
)
def test_list_refuses(arguments: list[str], expected: str, zoo: Zoo, one_error: OneError) -> None:
    assert one_error(zoo("list", *arguments)) == expected


def test_list_says_that_no_plugin_gives_a_kind(zoo: Zoo) -> None:
    done = zoo("list", "decoder", ZOO_PLUGINS="zoo-resnet")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "zoo: no installed plugin gives components of kind decoder\n"


def test_info_shows_a_component_and_its_weights(zoo: Zoo) -> None:
    facts, weights = printed(zoo("info", "resnet50")).split("\n\n")
    assert dict(re.split(r"\s{2,}", line) for line in facts.splitlines()) == {
        "name": "zoo-resnet:resnet50",
        "kind": "backbone",
        "what it is": "ResNet of 50 layers",
        "class": "zoo_resnet.model:CNNBackbone",
        "arguments": "depth=50",
        "maps": "256 at stride 4, 512 at stride 8, 1024 at stride 16, 2048 at stride 32",
        "tags": "cnn",
        "option output_stride": "stride of the deepest map: 32, or 16 or 8 by dilation",
    }
    header, first, *rest = (re.split(r"\s{2,}", line) for line in weights.splitlines())
    assert header == ["weights", "licence", "classes", "input", "repository", "revision", "from"]
    assert first[:5] == ["a1_in1k", "apache-2.0", "1000", "224×224", "timm/resnet50.a1_in1k"]
    assert {row[-1] for row in (first, *rest)} == {SHIPPED}
    assert [row[0] for row in rest] == ["tv_in1k", "a1h_in1k", "tv2_in1k"]


def test_info_shows_a_name_of_a_source_and_only_options_that_one_may_set(zoo: Zoo) -> None:
    shown = printed(zoo("info", "timm/resnet50"))
    assert shown.startswith("name ")
    assert "zoo-timm:timm/resnet50" in shown
    assert "weights known to zoo-timm: a1_in1k, a1h_in1k" in shown
    assert "in_channels" not in shown
    assert "pooled" not in shown


def test_info_shows_a_named_model(zoo: Zoo) -> None:
    shown = printed(zoo("info", "multitask-base"))
    assert dict(re.split(r"\s{2,}", line) for line in shown.splitlines()) == {
        "name": "multitask-base",
        "kind": "model",
        "what it is": "ResNet-50 with its weights, CBAM and U-Net",
        "recipe": "zoo-resnet:resnet50.a1_in1k+zoo-cbam:cbam+zoo-unet:unet",
        "from": SHIPPED,
    }
    told = json.loads(printed(zoo("info", "multitask-base", "--json")))
    assert (told["recipe"], told["overridden"]) == (
        "zoo-resnet:resnet50.a1_in1k+zoo-cbam:cbam+zoo-unet:unet",
        [],
    )


@pytest.mark.parametrize("name", ["resnet50", "zoo-resnet:resnet50", "cbam", "timm/resnet50"])
def test_info_prints_json(name: str, zoo: Zoo) -> None:
    told = json.loads(printed(zoo("info", name, "--json")))
    assert told["qualified_name"] == f"{told['provider']}:{told['name']}"
    assert told["qualified_name"].endswith(name.rpartition(":")[2])
    if told["name"] == "resnet50":
        assert told["kwargs"] == {"depth": 50}
        assert told["weights"]["a1_in1k"]["repository"] == "timm/resnet50.a1_in1k"
        assert told["weights"]["a1_in1k"]["preprocessing"]["interpolation"] == "bicubic"
        assert told["weights"]["a1_in1k"]["origin"] == SHIPPED
        assert told["overridden"] == []
    if told["name"] == "cbam":
        assert list(told["options"]) == ["reduction"]
        assert told["weights"] == {}
    if told["name"] == "timm/resnet50":
        assert "tv_in1k" in told["other_weights"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnt50", "resnet50"),
        ("UNet", "unet"),
        ("timm/convnext_ato", "timm/convnext_atto"),
        ("efficientnet_lite0", "timm/efficientnet_lite0"),
        ("no-such-dist:resnet50", "resnet50"),
        ("multitask-smal", "multitask-small"),
    ],
)
def test_info_names_near_misses(name: str, near: str, zoo: Zoo, one_error: OneError) -> None:
    problem, _, hint = one_error(zoo("info", name)).partition("; ")
    assert problem == f"unknown component {name!r}"
    assert hint.startswith("did you mean ")
    assert near in hint.removesuffix("?").split()


@pytest.mark.parametrize("name", ["", "quite-another-thing"])
def test_info_without_a_near_miss_says_where_to_look(
    name: str, zoo: Zoo, one_error: OneError
) -> None:
    expected = f"unknown component {name!r}; 'zoo list' shows what there is"
    assert one_error(zoo("info", name)) == expected


def test_plugins_shows_each_distribution(zoo: Zoo, table: Table) -> None:
    header, *rows = table(printed(zoo("plugins")))
    assert header == ["distribution", "version", "api", "status", "ms", "gives, or why not"]
    told = {row[0]: row[1:] for row in rows}
    assert told["zoo-resnet"][1:3] == ["1.0", "ok"]
    assert told["zoo-resnet"][4] == "resnet18, resnet34, resnet50, resnet101, resnet152"
    assert told["zoo-timm"][4] == "timm/*"


def test_plugins_prints_json(zoo: Zoo) -> None:
    told = {item["distribution"]: item for item in json.loads(printed(zoo("plugins", "--json")))}
    resnet = told["zoo-resnet"]
    assert (resnet["status"], resnet["reason"], resnet["heavy"]) == ("ok", "", [])
    assert (resnet["api"], resnet["hooks"]) == ("1.0", ["zoo_specs"])
    assert told["zoo-timm"]["hooks"] == ["zoo_sources"]
    assert resnet["components"][0] == "backbone:resnet18"
    assert told["zoo-timm"]["sources"] == ["backbone:timm/", "attention:timm/"]
    assert 0 < resnet["load_ms"] < 1000


def test_plugins_shows_blocked_ones(zoo: Zoo, table: Table) -> None:
    rows = table(printed(zoo("plugins", ZOO_BLOCK_PLUGINS="zoo-timm")))
    (blocked,) = [row for row in rows if row[0] == "zoo-timm"]
    assert blocked[2:4] == ["–", "blocked"]
    names = printed(zoo("list", ZOO_BLOCK_PLUGINS="zoo-timm"))
    assert "timm/*" not in names
