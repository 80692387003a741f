"""Several distributions with the same names: never a silent winner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Dist, Install, Installed, one_spec

SOURCE = """
@hookimpl
def zoo_sources():
    def spec(name):
        return Spec(kind="backbone", name=f"park/{name}", target="absent.module:Absent")
    names = lambda: ["lion", "PLACE"]
    return [Source(kind="backbone", prefix="park/", names=names, spec=spec, target="absent:Absent")]
"""


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    return install(
        Dist(
            name="zoo-a",
            code=one_spec("net", more="aliases=('nickname',), summary='of a'")
            + SOURCE.replace("PLACE", "ape"),
            entry_points={"same": "zoo_a"},
        ),
        Dist(
            name="zoo-b",
            code=one_spec("net", more="summary='of b'") + SOURCE.replace("PLACE", "bear"),
            entry_points={"same": "zoo_b"},
        ),
        Dist(name="zoo-c", code=one_spec("nickname"), entry_points={"zoo-cbam": "zoo_c"}),
        Dist(name="zoo-d", code=one_spec("cbam")),
        Dist(name="zoo-e", code=one_spec("resnet50"), entry_points={"resnet": "zoo_e"}),
    )


def test_entry_points_of_one_name_are_all_loaded(installed: Installed) -> None:
    """Even one that is called like a distribution: identity is the distribution's name."""
    status = installed.status()
    names = ("zoo-a", "zoo-b", "zoo-c", "zoo-cbam", "zoo-e", "zoo-resnet")
    assert {status[name]["status"] for name in names} == {"ok"}


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("net", "zoo-a:net", "zoo-b:net"),
        ("nickname", "zoo-a:net", "zoo-c:nickname"),
        ("park/lion", "zoo-a:park/lion", "zoo-b:park/lion"),
        ("resnet50", "zoo-e:resnet50", "zoo-resnet:resnet50"),
    ],
)
@pytest.mark.parametrize("command", ["info", "build"])
def test_a_plain_name_is_refused(
    installed: Installed, command: str, name: str, first: str, second: str
) -> None:
    line = installed.refusal(command, name, code=2)
    provider = first.partition(":")[0]
    assert line == (
        f"Error: {name!r} is given by {first} and {second}; write one of these names, or pin the "
        f"distribution in a registry file: 'pins: {{{name}: {provider}}}'"
    )


@pytest.mark.parametrize("provider", ["zoo-a", "zoo-b"])
def test_a_qualified_name_decides(installed: Installed, provider: str) -> None:
    shown = json.loads(installed.says("info", f"{provider}:net", "--json"))
    assert (shown["provider"], shown["summary"]) == (provider, f"of {provider[-1]}")


@pytest.mark.parametrize(
    ("pins", "name", "expected"),
    [
        ("net: zoo-b", "net", "zoo-b:net"),
        ("net: Zoo_A", "net", "zoo-a:net"),
        ("nickname: zoo-a", "nickname", "zoo-a:net"),
        ("park/lion: zoo-b", "park/lion", "zoo-b:park/lion"),
        ("resnet50: zoo-resnet", "resnet50", "zoo-resnet:resnet50"),
        ("net: zoo-b", "zoo-a:net", "zoo-a:net"),
    ],
)
def test_a_pin_decides(
    installed: Installed, tmp_path: Path, pins: str, name: str, expected: str
) -> None:
    registry = tmp_path / "registry.yaml"
    registry.write_text(f"pins: {{{pins}}}")
    shown = json.loads(installed.says("info", name, "--json", ZOO_REGISTRY=str(registry)))
    assert shown["qualified_name"] == expected


def test_a_pin_to_what_does_not_give_the_name_decides_nothing(
    installed: Installed, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.yaml"
    registry.write_text("pins: {net: zoo-c}")
    line = installed.refusal("info", "net", code=2, ZOO_REGISTRY=str(registry))
    assert line.startswith("Error: 'net' is given by zoo-a:net and zoo-b:net;")


def test_the_list_shows_qualified_names_where_it_must(installed: Installed) -> None:
    names = [line.split()[0] for line in installed.says("list", "backbone").splitlines()]
    assert {"zoo-a:net", "zoo-b:net", "zoo-c:nickname", "zoo-e:resnet50"} <= set(names)
    assert {"zoo-resnet:resnet50", "resnet18"} <= set(names)
    assert not {"net", "nickname", "resnet50"} & set(names)


def test_one_name_of_two_kinds_is_told_by_its_place(installed: Installed) -> None:
    """A recipe's first part is a backbone, so that this is not ambiguous there."""
    line = installed.refusal("info", "cbam", code=2)
    assert line == (
        "Error: 'cbam' is given by backbone zoo-d:cbam and attention zoo-cbam:cbam; "
        "say of which kind"
    )
    assert (
        installed.evaluate(
            """
from zoo_core.grammar import parse
print(json.dumps(parse("cbam+cbam", zoo.registry).canonical))
"""
        )
        == "zoo-d:cbam+zoo-cbam:cbam"
    )


def test_the_registry_is_a_mapping(installed: Installed) -> None:
    """Every name it gives is one it takes, and means one component."""
    seen = installed.evaluate(
        """
from zoo_core.errors import AmbiguousComponentError, UnknownComponentError
backbones = zoo.registry.backbones
names = list(backbones)
def raised(name):
    try:
        backbones[name]
    except Exception as error:
        return [type(error).__name__, isinstance(error, KeyError)]
print(json.dumps({
    "each": all(name in backbones for name in names),
    "own": [n for n in names if "timm/" not in n and n != backbones[n].name] ,
    "unique": len(set(names)) == len(names),
    "len": len(backbones) == len(names) == len(dict(zip(names, names))),
    "items": len([1 for name in names if "timm/" not in name and backbones[name]]),
    "plain": sum("timm/" not in name for name in names),
    "in": [name in backbones for name in
           ("resnet18", "zoo-resnet:resnet18", "Zoo_Resnet:resnet18", "zoo-a:nickname", "net",
            "park/ape", "zoo-a:park/ape", "zoo-b:park/ape", "resnet19", "zoo-a:resnet18", "cbam",
            "unet", "", ":", "park/", 5, None)],
    "alias": backbones["zoo-a:nickname"].qualified_name,
    "source": backbones["park/ape"].qualified_name,
    "raised": [raised("resnet19"), raised("zoo-a:resnet18"), raised("net")],
    "get": [backbones.get("resnet19"), backbones.get("resnet19", 3),
            backbones.get("resnet18").provider],
    "all": ["unet" in zoo.registry, zoo.registry["unet"].kind],
    "keys": list(zoo.registry.decoders.keys()) == list(zoo.registry.decoders),
}))
"""
    )
    assert seen["each"]
    assert seen["unique"]
    assert seen["len"]
    assert seen["keys"]
    assert seen["items"] == seen["plain"]
    expected = [True] * 7 + [False] * 3 + [True] + [False] * 6
    assert seen["in"] == expected
    assert set(seen["own"]) >= {"zoo-a:net", "zoo-b:net", "zoo-a:park/lion", "zoo-b:park/lion"}
    assert seen["alias"] == "zoo-a:net"
    assert seen["source"] == "zoo-a:park/ape"
    assert seen["raised"] == [
        ["UnknownComponentError", True],
        ["UnknownComponentError", True],
        ["AmbiguousComponentError", False],
    ]
    assert seen["get"] == [None, 3, "zoo-resnet"]
    assert seen["all"] == [True, "decoder"]
