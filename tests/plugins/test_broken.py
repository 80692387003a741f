"""Plugins that cannot be loaded: each costs one line, and nothing else stops working."""

from __future__ import annotations

import json
import re
from subprocess import CompletedProcess

import pytest

from .conftest import FIRST_PARTY, HEADER, Dist, Install, Installed, one_spec, warning

# Leaves a file behind when its code is run.
TRACE = "from pathlib import Path; Path(__file__).with_name('imported').touch()\n"
COMMAND = """
import click
@hookimpl
def zoo_register_commands(cli):
    @cli.command("leaked")
    def leaked(): ...
"""


def api(value: str) -> str:
    return HEADER.replace("(1, 0)", value)


def spec(arguments: str) -> str:
    return f"@hookimpl\ndef zoo_specs():\n    return [Spec({arguments})]\n"


BAD_CODE = [
    (
        Dist(name="bad-import", code="import surely_absent"),
        "ModuleNotFoundError: No module named 'surely_absent'",
    ),
    (Dist(name="bad-exit", code="raise SystemExit(3)"), "SystemExit: 3"),
    (Dist(name="bad-quiet-exit", code="import sys; sys.exit()"), "SystemExit"),
    (Dist(name="bad-division", code="1 / 0"), "ZeroDivisionError: division by zero"),
    (
        Dist(name="bad-lines", code="raise ValueError('first\\n   second\\n')"),
        "ValueError: first second",
    ),
    (
        Dist(name="bad-panic", code="class Panic(BaseException): ...\nraise Panic('unwrap')"),
        "Panic: unwrap",
    ),
    (
        Dist(
            name="bad-mute",
            code="class Mute(Exception):\n    def __str__(self): raise OSError\nraise Mute",
        ),
        "Mute",
    ),
    (
        Dist(name="bad-group", code="raise ExceptionGroup('many', [ValueError()])"),
        "ExceptionGroup: many (1 sub-exception)",
    ),
    (
        Dist(name="bad-module", entry_points={"net": "nowhere_at_all"}),
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
    ),
    (
        Dist(name="bad-two", entry_points={"a": "bad_two", "b": "bad_two.more"}),
        "gives 2 entry points (bad_two, bad_two.more); one is allowed",
    ),
]

BAD_HOOKS = [
    (
        Dist(
            name="bad-halfway",
            code=f"""{COMMAND}
@hookimpl
def zoo_sources():
    return [Source(kind="backbone", prefix="half/", names=lambda: ["way"], spec=None, target="a:B")]
@hookimpl
def zoo_specs():
    yield Spec(kind="backbone", name="halfway1", target="a:B")
    yield Spec(kind="backbone", name="halfway2", target="a:B")
    raise RuntimeError("out of names")
""",
        ),
        "RuntimeError: out of names",
    ),
    (
        Dist(
            name="bad-sources",
            code=f"{one_spec('beforehand')}\n@hookimpl\ndef zoo_sources():\n    return ['timm/']\n",
        ),
        "zoo_sources gave 'timm/'; it must give Source objects",
    ),
    (
        Dist(name="bad-none", code="@hookimpl\ndef zoo_specs(): ...\n"),
        "zoo_specs gave None; it must give an iterable",
    ),
    (
        Dist(name="bad-text", code="@hookimpl\ndef zoo_specs(): return 'net'\n"),
        "zoo_specs gave 'net'; it must give an iterable",
    ),
    (
        Dist(name="bad-items", code="@hookimpl\ndef zoo_specs(): return ['net']\n"),
        "zoo_specs gave 'net'; it must give Spec objects",
    ),
    (
        Dist(name="bad-leave", code="@hookimpl\ndef zoo_specs(): raise SystemExit(0)\n"),
        "SystemExit: 0",
    ),
    (
        Dist(name="bad-spelling", code="@hookimpl\ndef zoo_spec(): return []\n"),
        "zoo_spec is no hook of the zoo; did you mean zoo_specs?",
    ),
    (
        Dist(
            name="bad-alias",
            code="@hookimpl(specname='zoo_weight')\ndef anything(): return []\n",
        ),
        "zoo_weight is no hook of the zoo; did you mean zoo_weights?",
    ),
    (
        Dist(name="bad-hook", code="@hookimpl\ndef qqq(): return []\n"),
        "qqq is no hook of the zoo; known: zoo_specs, zoo_sources, zoo_weights, "
        "zoo_fetch_weights, zoo_register_commands, zoo_model_built",
    ),
]

BAD_SPECS = [
    (
        "bad-target",
        "kind='backbone', name='net', target='nowhere'",
        "Spec 'net': target 'nowhere' is not of the form 'package.module:Class'",
    ),
    (
        "bad-kind",
        "kind='backbones', name='net', target='a:B'",
        "Spec 'net': kind 'backbones' is none of backbone, attention, decoder, explainer",
    ),
    (
        "bad-name",
        "kind='backbone', name='my net', target='a:B'",
        "Spec 'my net': 'my net' is no component name; use letters, digits, '_', '-' and '/'",
    ),
    (
        "bad-strides",
        "kind='backbone', name='net', target='a:B', channels=(8, 16), strides=(4,)",
        "Spec 'net': 2 channels but 1 strides",
    ),
    (
        "bad-repeat",
        "kind='backbone', name='net', target='a:B', aliases=('net',)",
        "gives the backbone 'net' twice",
    ),
]

BAD_API = [
    ("bad-api-major", "(2, 0)", "is written for plugin API 2.0; this is 1.0"),
    ("bad-api-older", "(0, 9)", "is written for plugin API 0.9; this is 1.0"),
    ("bad-api-minor", "(1, 1)", "is written for plugin API 1.1; this is 1.0"),
    ("bad-api-absent", "None", "does not say its plugin API; put ZOO_API = (1, 0) in it"),
    ("bad-api-text", "'1.0'", "ZOO_API is '1.0'; it must be two numbers such as (1, 0)"),
    ("bad-api-float", "1.0", "ZOO_API is 1.0; it must be two numbers such as (1, 0)"),
    ("bad-api-long", "(1, 0, 0)", "ZOO_API is (1, 0, 0); it must be two numbers such as (1, 0)"),
]

BAD_NEEDS = [
    ("bad-newer", "zoo-core>=99"),
    ("bad-patch", "zoo-core>=0.1.0.1"),
    ("bad-older", "zoo-core<0.1"),
    ("bad-exact", "zoo-core==9.*"),
    ("bad-range", "zoo-core<99,>=9"),
    ("bad-extra", "zoo-core[test]>=99"),
]

BROKEN = [
    *BAD_CODE,
    *BAD_HOOKS,
    *((Dist(name=name, code=spec(given)), reason) for name, given, reason in BAD_SPECS),
    *((Dist(name=name, header=api(v), code=COMMAND), reason) for name, v, reason in BAD_API),
    *(
        (
            Dist(name=name, requires=(needs,), code=TRACE),
            f"needs {needs}, and zoo-core 0.1.0 is installed",
        )
        for name, needs in BAD_NEEDS
    ),
]

# These differ from broken ones by little, and work.
GOOD_NEEDS = {
    "good-needs": ("zoo-core>=0.1",),
    "good-zeros": ("zoo-core>=0.1.0.0",),
    "good-any": ("zoo-core",),
    "good-range": ("zoo-core!=0.2,<1,>=0.1",),
    "good-marker": ('zoo-core>=99; python_version < "3"',),
    "good-other": ("zoo-core-extras>=99", "numpy"),
    "good-none": (),
}
GOOD = [
    *(Dist(name=name, requires=needs, code=TRACE) for name, needs in GOOD_NEEDS.items()),
    Dist(name="good-extra", extras={"more": ("zoo-core>=99",)}, code=TRACE),
    Dist(name="good-alias", code=TRACE + "@hookimpl(specname='zoo_specs')\ndef f(): return []\n"),
    Dist(name="good-list", header=api("[1, 0]"), code=TRACE),
]


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    return install(*(distribution for distribution, _ in BROKEN), *GOOD)


@pytest.fixture(scope="module")
def run(installed: Installed) -> CompletedProcess[str]:
    return installed.zoo("plugins", "--json")


@pytest.mark.parametrize(
    ("distribution", "reason"), BROKEN, ids=[distribution.name for distribution, _ in BROKEN]
)
def test_a_broken_plugin_costs_one_line(
    run: CompletedProcess[str], distribution: Dist, reason: str
) -> None:
    lines = [line for line in run.stderr.splitlines() if f"plugin {distribution.name} " in line]
    assert lines == [warning(distribution.name, reason)]
    told = {plugin["distribution"]: plugin for plugin in json.loads(run.stdout)}
    plugin = told[distribution.name]
    assert (plugin["status"], plugin["reason"]) == ("failed", reason)
    assert (plugin["components"], plugin["sources"]) == ([], [])


def test_nothing_else_is_on_stderr(run: CompletedProcess[str]) -> None:
    assert run.returncode == 0
    assert len(run.stderr.splitlines()) == len(BROKEN)


@pytest.mark.parametrize("name", [distribution.name for distribution in GOOD])
def test_what_looks_alike_and_is_right_works(
    installed: Installed, run: CompletedProcess[str], name: str
) -> None:
    told = {plugin["distribution"]: plugin["status"] for plugin in json.loads(run.stdout)}
    assert told[name] == "ok"
    assert (installed.folder / name.replace("-", "_") / "imported").exists()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("name", [name for name, _ in BAD_NEEDS])
def test_requirements_are_read_before_the_code_is_run(installed: Installed, name: str) -> None:
    package = installed.folder / name.replace("-", "_")
    assert (package / "__init__.py").exists()
    assert not (package / "imported").exists()


def test_a_syntax_error_is_told_with_its_line(install: Install) -> None:
    done = install(Dist(name="bad-syntax", code="def (:")).zoo("plugins")
    assert done.returncode == 0
    reason = r"SyntaxError: .+ \(__init__\.py, line 4\)"
    line = re.escape(warning("bad-syntax", "@")).replace("@", reason)
    assert re.fullmatch(f"{line}\n", done.stderr)


def test_a_hook_with_an_unknown_argument_registers_nothing(install: Install) -> None:
    code = f"{COMMAND}\n@hookimpl\ndef zoo_specs(whatever): return []\n"
    installed = install(Dist(name="bad-argument", code=code))
    done = installed.zoo("--help")
    assert "leaked" not in done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith("zoo: plugin bad-argument 1.0 failed to load: PluginValidationError: ")
    assert "'whatever'" in line


def test_a_half_removed_plugin_is_named_and_skipped(install: Install) -> None:
    installed = install(Dist(name="bad-remains", entry_points={"remains": "bad_remains"}))
    (installed.folder / "bad_remains-1.0.dist-info" / "METADATA").unlink()
    status = installed.status()
    assert status["remains"]["reason"] == "its metadata is damaged; install it again"
    assert {status[name]["status"] for name in FIRST_PARTY} == {"ok"}


def test_metadata_that_are_no_text_stop_nothing_else(install: Install) -> None:
    installed = install(
        Dist(name="bad-metadata", entry_points={"blurred": "bad_metadata"}),
        Dist(name="bad-points"),
        Dist(name="good-net", code=one_spec("goodnet")),
    )
    (installed.folder / "bad_metadata-1.0.dist-info" / "METADATA").write_bytes(b"Name: \xff\n")
    points = installed.folder / "bad_points-1.0.dist-info" / "entry_points.txt"
    points.write_bytes(b"[zoo.plugins]\nx = \xff\n")
    done = installed.zoo("plugins", "--json")
    status = {plugin["distribution"]: plugin for plugin in json.loads(done.stdout)}
    assert status["blurred"]["reason"] == "its metadata is damaged; install it again"
    assert {status[name]["status"] for name in (*FIRST_PARTY, "good-net")} == {"ok"}
    assert "bad-points" not in status
    told = f"zoo: the entry points in {points.parent} cannot be read: UnicodeDecodeError: "
    assert [line for line in done.stderr.splitlines() if line.startswith(told)]
    examined = json.loads(installed.zoo("doctor", "--json", HF_HUB_OFFLINE="1").stdout)
    problems = [one["found"] for one in examined if one["level"] == "problem"]
    assert [found for found in problems if found.startswith(told.removeprefix("zoo: "))]
    assert not [found for found in problems if found.startswith("cannot be looked at")]


def test_two_distributions_with_one_module_fail_but_once(install: Install) -> None:
    """The second of them cannot be told from the first, and says so."""
    status = install(
        Dist(name="twin-a", code=one_spec("twin")),
        Dist(name="twin-b", entry_points={"twin": "twin_a"}),
    ).status()
    assert status["twin-a"]["status"] == "ok"
    assert status["twin-b"]["status"] == "failed"
    assert status["twin-b"]["reason"] == "its module twin_a is the plugin of twin-a already"


def test_first_party_plugins_still_work(installed: Installed, run: CompletedProcess[str]) -> None:
    told = {plugin["distribution"]: plugin["status"] for plugin in json.loads(run.stdout)}
    assert {told[name] for name in FIRST_PARTY} == {"ok"}
    built = installed.zoo("build", "resnet18+cbam+unet", "--json")
    assert built.returncode == 0
    assert json.loads(built.stdout)["recipe"] == "zoo-resnet:resnet18+zoo-cbam:cbam+zoo-unet:unet"
    assert "Traceback" not in built.stderr


def test_nothing_of_a_broken_plugin_is_in_the_catalogue(installed: Installed) -> None:
    listed = installed.zoo("list")
    assert listed.returncode == 0
    assert "resnet50" in listed.stdout
    assert not re.search("halfway|half/|beforehand|leaked", listed.stdout)
    helped = installed.zoo("--help")
    assert helped.returncode == 0
    assert "leaked" not in helped.stdout
    assert installed.zoo("leaked").returncode == 2


def test_an_unknown_name_tells_near_misses_and_the_plugins_that_failed(
    installed: Installed,
) -> None:
    done = installed.zoo("build", "resnet51+cbam")
    assert done.returncode == 2
    failed = ", ".join(sorted(distribution.name for distribution, _ in BROKEN))
    line = done.stderr.splitlines()[-1]
    start = "Error: unknown backbone 'resnet51' at character 1 of 'resnet51+cbam'; did you mean "
    assert line.startswith(f"{start}resnet50 or ")
    assert line.endswith(f"? (plugins that failed to load: {failed})")


def test_completion_keeps_quiet(installed: Installed) -> None:
    words = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": "zoo build resnet5", "COMP_CWORD": "2"}
    done = installed.zoo(**words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,resnet50\n", "")


@pytest.mark.parametrize(("distribution", "reason"), BAD_CODE[:2], ids=["import", "exit"])
def test_strict_raises(installed: Installed, distribution: Dist, reason: str) -> None:
    only = {"ZOO_STRICT": "1", "ZOO_PLUGINS": distribution.name}
    line = installed.refusal("list", **only)
    assert line == f"Error: plugin {distribution.name} 1.0 failed: {reason}"
    done = installed.python("-c", "import zoo_core; zoo_core.registry.plugins", **only)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"zoo_core.errors.PluginError: plugin {distribution.name} 1.0 failed: {reason}\n"
    )


def test_in_python_a_failed_plugin_is_a_warning(installed: Installed) -> None:
    code = """
import json, warnings, zoo_core as zoo
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    names = list(zoo.registry.attention)
print(json.dumps([names, [(w.category.__name__, str(w.message)) for w in caught]]))
"""
    done = installed.python("-c", code, ZOO_PLUGINS="zoo-cbam,bad-import")
    expected = warning("bad-import", BAD_CODE[0][1]).removeprefix("zoo: ")
    assert json.loads(done.stdout) == [["cbam"], [["PluginWarning", expected]]]
    assert done.stderr == ""
