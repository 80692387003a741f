"""Which plugins are loaded: ``ZOO_PLUGINS`` and ``ZOO_BLOCK_PLUGINS``; heavy ones are told of."""

from __future__ import annotations

import json
from subprocess import CompletedProcess

import pytest

from .conftest import FIRST_PARTY, Dist, Install, Installed, one_spec, warning


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    return install(
        Dist(name="zoo-one", code=one_spec("one")),
        Dist(name="Zoo_Two.Net", code=one_spec("two")),
        Dist(name="zoo-broken", code="1 / 0"),
    )


def loaded(installed: Installed, **environment: str) -> set[str]:
    """Give the plugins that are ok; each of the others says that it is not in ``ZOO_PLUGINS``."""
    status = installed.status(**environment)
    others = {(p["status"], p["reason"]) for p in status.values() if p["status"] != "ok"}
    assert others == {("blocked", "not named in ZOO_PLUGINS")}
    return {name for name, plugin in status.items() if plugin["status"] == "ok"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", set()),
        (" , ", set()),
        ("zoo-one", {"zoo-one"}),
        (" ZOO_One , zoo.cbam", {"zoo-one", "zoo-cbam"}),
        ("zoo-two-net", {"zoo-two-net"}),
        ("zoo_TWO.net", {"zoo-two-net"}),
    ],
)
def test_zoo_plugins_allows_only_those(
    installed: Installed, value: str, expected: set[str]
) -> None:
    assert loaded(installed, ZOO_PLUGINS=value) == expected


def test_plugins_that_are_not_allowed_are_not_imported(installed: Installed) -> None:
    done = installed.python(
        "-c",
        "import sys, zoo_core as zoo; print(len(zoo.registry), 'zoo_one' in sys.modules)",
        ZOO_PLUGINS="",
    )
    assert (done.stdout, done.stderr) == ("0 False\n", "")


def test_zoo_block_plugins_blocks(installed: Installed) -> None:
    status = installed.status(ZOO_BLOCK_PLUGINS="Zoo_One,zoo-broken,zoo-timm")
    for name in ("zoo-one", "zoo-broken", "zoo-timm"):
        assert status[name]["status"] == "blocked"
        assert status[name]["reason"] == "named in ZOO_BLOCK_PLUGINS"
    for name in ("zoo-two-net", "zoo-cbam", "zoo-resnet", "zoo-unet"):
        assert status[name]["status"] == "ok"


def test_blocking_wins_over_allowing(installed: Installed) -> None:
    status = installed.status(ZOO_PLUGINS="zoo-one,zoo-cbam", ZOO_BLOCK_PLUGINS="zoo-one")
    assert [n for n, p in status.items() if p["status"] == "ok"] == ["zoo-cbam"]


def test_blocking_is_a_way_out_of_a_failure(installed: Installed) -> None:
    assert installed.zoo("list").stderr != ""
    assert "resnet50" in installed.says("list", ZOO_BLOCK_PLUGINS="zoo-broken")


@pytest.mark.parametrize("variable", ["ZOO_PLUGINS", "ZOO_BLOCK_PLUGINS"])
def test_a_name_that_is_not_installed_is_warned_of(installed: Installed, variable: str) -> None:
    done = installed.zoo("plugins", **{variable: "zoo-broken-typo,zoo-cbam"})
    lines = [line for line in done.stderr.splitlines() if "failed to load" not in line]
    assert lines == [f"zoo: {variable} names zoo-broken-typo, which is not installed"]
    assert done.returncode == 0


def test_the_table_shows_each_state_and_its_reason(installed: Installed) -> None:
    done = installed.zoo("plugins", ZOO_BLOCK_PLUGINS="zoo-two-net")
    rows = [line.split(maxsplit=5) for line in done.stdout.splitlines()]
    shown = {name: (version, api, state, told) for name, version, api, state, _, told in rows}
    assert shown["distribution"] == ("version", "api", "status", "gives, or why not")
    assert shown["zoo-one"] == ("1.0", "1.0", "ok", "one")
    assert shown["zoo-two-net"] == ("1.0", "–", "blocked", "named in ZOO_BLOCK_PLUGINS")
    reason = "ZeroDivisionError: division by zero"
    assert shown["zoo-broken"] == ("1.0", "–", "failed", reason)
    assert set(FIRST_PARTY) <= {name for name, (*_, state, _) in shown.items() if state == "ok"}
    assert done.stderr == warning("zoo-broken", reason) + "\n"


@pytest.fixture(scope="module")
def heavy(install: Install) -> CompletedProcess[str]:
    return install(
        Dist(name="aaa-numpy", code="import numpy\n" + one_spec("ndnet")),
        Dist(name="bbb-torch", code="import torch\n" + one_spec("fastnet")),
    ).zoo("plugins", "--json")


@pytest.mark.parametrize(
    ("name", "module", "component"),
    [
        ("aaa-numpy", "numpy", "backbone:ndnet"),
        ("bbb-torch", "torch", "backbone:fastnet"),
    ],
)
def test_a_plugin_that_imports_a_heavy_module_is_told_of_and_works(
    heavy: CompletedProcess[str], name: str, module: str, component: str
) -> None:
    [plugin] = [p for p in json.loads(heavy.stdout) if p["distribution"] == name]
    assert (plugin["status"], plugin["heavy"]) == ("ok", [module])
    assert plugin["components"] == [component]
    assert (
        f"zoo: plugin {name} 1.0 imports {module} in its catalogue, which slows every command "
        f"down; its author should import it in the target module"
    ) in heavy.stderr.splitlines()


def test_only_heavy_plugins_are_told_of(heavy: CompletedProcess[str]) -> None:
    assert len(heavy.stderr.splitlines()) == 2
    others = [p for p in json.loads(heavy.stdout) if p["distribution"] in FIRST_PARTY]
    assert [plugin["heavy"] for plugin in others] == [[]] * len(FIRST_PARTY)
