"""What plugins do beside giving components: commands, sources, weights, watching models."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import PARTS, Dist, Install, Installed, remedy

COMMANDS = """
import click
@hookimpl
def zoo_register_commands(cli):
    @cli.command("{name}")
    @click.argument("whom", default="world")
    def command(whom):
        \"\"\"Say hello.\"\"\"
        click.echo(f"hello {{whom}} from {dist}")
"""
ANGRY = "    raise RuntimeError('no\\n   more')\n"


@pytest.fixture(scope="module")
def commands(install: Install) -> Installed:
    def dist(name: str, command: str, more: str = "") -> Dist:
        return Dist(name=name, code=COMMANDS.format(name=command, dist=name) + more)

    return install(
        dist("zoo-greeter", "greet"),
        dist("zoo-usurper", "list"),
        dist("zoo-angry", "half-added", ANGRY),
    )


GRUDGE = "zoo: plugin zoo-angry: zoo_register_commands: RuntimeError: no more"


def test_a_plugin_adds_a_command(commands: Installed) -> None:
    done = commands.zoo("greet", "Ada")
    assert (done.returncode, done.stdout) == (0, "hello Ada from zoo-greeter\n")
    helped = commands.zoo("--help")
    assert re.search(r"^  greet +Say hello\.$", helped.stdout, re.MULTILINE)


def test_a_built_in_command_stays(commands: Installed) -> None:
    assert "resnet50" in commands.says("list")
    assert "Say hello" not in commands.says("list", "--help")


def test_each_plugin_that_fails_to_add_commands_costs_one_line(commands: Installed) -> None:
    for arguments in (("--help",), ("greet",), ("greet", "--help")):
        done = commands.zoo(*arguments)
        assert done.returncode == 0
        assert done.stderr.splitlines() == [
            f"{GRUDGE} {remedy('zoo-angry')}",
            "zoo: plugin zoo-usurper: zoo_register_commands: 'list' is a command of zoo-core "
            f"already {remedy('zoo-usurper')}",
        ]


def test_nothing_of_it_is_added(commands: Installed) -> None:
    assert "half-added" not in commands.zoo("--help").stdout
    assert commands.zoo("half-added").returncode == 2


def test_completing_commands_keeps_quiet(commands: Installed) -> None:
    words = {"_ZOO_COMPLETE": "bash_complete", "COMP_CWORD": "1", "COMP_WORDS": "zoo gre"}
    done = commands.zoo(**words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,greet\n", "")


def test_strict_raises_for_commands(commands: Installed) -> None:
    line = commands.refusal("greet", ZOO_STRICT="1")
    assert line == GRUDGE.replace("zoo: ", "Error: ", 1)


def test_commands_of_one_name_are_never_settled_silently(install: Install) -> None:
    rivals = install(
        *(
            Dist(name=name, code=COMMANDS.format(name="greet", dist=name))
            for name in ("zoo-rival-a", "zoo-rival-b")
        )
    )
    done = rivals.zoo("greet")
    assert "zoo-rival-a" in done.stderr
    assert "zoo-rival-b" in done.stderr


WATCHER = """
SEEN = []
@hookimpl
def zoo_model_built(model, recipe):
    SEEN.append([type(model).__name__, recipe.canonical, model.recipe is recipe])
"""
GLANCER = """
SEEN = []
@hookimpl
def zoo_model_built(recipe):
    SEEN.append(recipe.canonical)
"""
SULKER = """
@hookimpl
def zoo_model_built(model):
    raise SystemExit("never")
"""
MODEL = """
@hookimpl
def zoo_specs():
    return [Spec(kind="backbone", name="net", target="zoo_sulker.parts:Net")]
"""


def test_plugins_are_told_of_models(install: Install) -> None:
    installed = install(
        Dist(name="zoo-glancer", code=GLANCER),
        Dist(name="zoo-sulker", code=SULKER + MODEL, files={"parts.py": PARTS}),
        Dist(name="zoo-watcher", code=WATCHER),
    )
    told = installed.evaluate("""
import os, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    zoo.build("net+cbam", seed=1)
import zoo_glancer, zoo_watcher
os.environ["ZOO_STRICT"] = "1"
try:
    zoo.build("net", seed=1)
except zoo.ZooError as error:
    raised = [type(error).__name__, str(error)]
caught = [[w.category.__name__, str(w.message)] for w in caught]
print(json.dumps([zoo_watcher.SEEN[0], zoo_glancer.SEEN[0], caught, raised]))
""")
    recipe = "zoo-sulker:net+zoo-cbam:cbam"
    seen, glanced, [[category, message]], raised = told
    assert seen == ["MultitaskModel", recipe, True]
    assert glanced == recipe
    problem = "plugin zoo-sulker: zoo_model_built: SystemExit: never"
    assert category == "PluginWarning"
    assert message.startswith(problem)
    assert raised == ["PluginError", problem]


STORED = """
@hookimpl
def zoo_specs():
    return [Spec(kind="backbone", name="stored", target="zoo_stored.parts:Net")]
@hookimpl
def zoo_weights():
    for tag in ("v1", "v2", "lost"):
        yield WeightsEntry(component="stored", tag=tag, repository="x/y", source="a test")
"""
STORE = """
from pathlib import Path
ASKED = []
@hookimpl(PLACE)
def zoo_fetch_weights(entry):
    ASKED.append(entry.name)
    if entry.tag == "lost":
        raise OSError("the store is closed")
    return Path(__file__).with_name("FILE") if entry.tag in TAGS else None
"""


def store(tags: str, file: str, place: str = "") -> str:
    return STORE.replace("TAGS", repr(tags)).replace("FILE", file).replace("PLACE", place)


@pytest.fixture(scope="module")
def stores(install: Install) -> Installed:
    return install(
        Dist(name="zoo-store-a", code=store("", "none.safetensors")),
        Dist(name="zoo-store-b", code=store("v1 v2", "b.safetensors")),
        Dist(name="zoo-store-c", code=store("v1 v2", "c.safetensors")),
        Dist(name="zoo-store-z", code=store("v2", "z.safetensors", "tryfirst=True")),
        Dist(name="zoo-stored", code=STORED, files={"parts.py": PARTS}),
    )


def test_the_first_store_that_has_a_file_gives_it(stores: Installed) -> None:
    """In the order of their names, those that ask to be first before the others."""
    told = stores.evaluate("""
import torch
from pathlib import Path
from safetensors.torch import save_file
import zoo_store_a, zoo_store_b, zoo_store_c, zoo_store_z
from zoo_stored.parts import Net
for value, store in enumerate((zoo_store_b, zoo_store_c, zoo_store_z)):
    state = {name: torch.full_like(t, value) for name, t in Net().state_dict().items()}
    letter = store.__name__[-1]
    save_file(state, str(Path(store.__file__).with_name(f"{letter}.safetensors")))
built = [zoo.build(r, num_classes_classification=2, pretrained=p)
         for r, p in (("stored", True), ("stored.v1", False), ("stored.v2", False))]
try:
    zoo.build("stored.lost")
except zoo.ZooError as error:
    raised = [type(error).__name__, str(error)]
asked = [s.ASKED for s in (zoo_store_z, zoo_store_a, zoo_store_b, zoo_store_c)]
values = [float(model.backbone.first.weight.detach().unique()) for model in built]
print(json.dumps([values, asked, raised]))
""")
    values, asked, raised = told
    assert values == [0, 0, 2]
    v1 = ["stored.v1", "stored.v1"]
    assert asked == [[*v1, "stored.v2", "stored.lost"], v1, v1, []]
    assert raised == [
        "WeightsError",
        "plugin zoo-store-z cannot fetch stored.lost: OSError: the store is closed",
    ]


def test_weights_of_plugins_are_listed(stores: Installed) -> None:
    shown = json.loads(stores.says("info", "stored", "--json"))
    assert list(shown["weights"]) == ["v1", "v2", "lost"]
    assert {entry["provider"] for entry in shown["weights"].values()} == {"zoo-stored"}


LOST = [
    ("zoo-lost-a", "raise OSError('gone')", "OSError: gone"),
    (
        "zoo-lost-b",
        "return ['net.v1']",
        "zoo_weights gave 'net.v1'; it must give WeightsEntry objects",
    ),
    ("zoo-lost-c", "return None", "zoo_weights gave None; it must give an iterable"),
]


def test_a_plugin_without_its_weights_stops_no_other(install: Install) -> None:
    code = "@hookimpl\ndef zoo_weights():\n    "
    installed = install(*(Dist(name=name, code=code + body) for name, body, _ in LOST))
    problems = [f"plugin {name}: zoo_weights: {reason}" for name, _, reason in LOST]
    done = installed.zoo("list")
    assert done.returncode == 0
    assert "a1_in1k" in done.stdout
    assert done.stderr.splitlines() == [
        f"zoo: {problem} {remedy(name)}"
        for (name, _, _), problem in zip(LOST, problems, strict=True)
    ]
    assert installed.refusal("list", ZOO_STRICT="1") == f"Error: {problems[0]}"


SOURCE = """
def spec(name):
    if name == "ghost":
        raise LookupError("no ghost")
    right = "other/" if name == "other" else "park/"
    return "lion" if name == "text" else Spec(
        kind="backbone", name=right + name, target="zoo_park.parts:Net", kwargs={"width": 4})

def names():
    BODY

@hookimpl
def zoo_sources():
    return [Source(kind="backbone", prefix="PREFIX/", names=names, spec=spec, summary="the park",
                   target="zoo_park.parts:Net", tags=lambda name: ["wild"])]
"""


@pytest.fixture(scope="module")
def park(install: Install) -> Installed:
    def dist(prefix: str, body: str) -> Dist:
        code = SOURCE.replace("PREFIX", prefix).replace("BODY", body)
        return Dist(name=f"zoo-{prefix}", code=code, files={"parts.py": PARTS})

    return install(
        dist("park", "return ['lion', 'ghost', 'other', 'text']"),
        *(dist(prefix, body) for prefix, body, _ in CLOSED),
    )


CLOSED = [
    ("closed", "import absent", "ModuleNotFoundError: No module named 'absent'"),
    ("numbers", "return [1, 2]", "names gave something that is no text"),
    ("text", "return 'lion'", "names gave 'lion'; it must give an iterable"),
]


PARK = "zoo-park,zoo-cbam"


def test_a_source_is_counted_and_one_that_fails_is_named_and_skipped(park: Installed) -> None:
    done = park.zoo("list")
    assert done.returncode == 0
    row = r"^park/\*  +backbone  +the park: 4 names, zoo list backbone 'park/\*'  .* zoo-park$"
    assert re.search(row, done.stdout, re.MULTILINE)
    assert "closed/" not in done.stdout
    assert done.stderr.splitlines() == [
        f"zoo: {prefix}/… of zoo-{prefix} cannot be listed: {reason} {remedy(f'zoo-{prefix}')}"
        for prefix, _, reason in CLOSED
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ghost", "LookupError: no ghost"),
        ("other", "it gave the backbone 'other/other'"),
        ("text", "it gave 'lion', which is no Spec"),
    ],
)
def test_a_name_that_its_source_cannot_describe(park: Installed, name: str, reason: str) -> None:
    done = park.zoo("info", f"park/{name}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"Error: zoo-park cannot describe park/{name}: {reason}"


def test_a_name_of_a_source_is_described(park: Installed) -> None:
    shown = json.loads(park.says("info", "park/lion", "--json", ZOO_PLUGINS="zoo-park"))
    assert (shown["qualified_name"], shown["kwargs"]) == ("zoo-park:park/lion", {"width": 4})
    assert shown["other_weights"] == ["wild"]
    _, row = park.says("list", "park/l*", ZOO_PLUGINS="zoo-park").splitlines()
    assert row.startswith("park/lion ")


def test_a_name_of_a_source_builds(park: Installed) -> None:
    built = json.loads(park.says("build", "park/lion+cbam", "--json", ZOO_PLUGINS=PARK))
    assert built["recipe"] == "zoo-park:park/lion+zoo-cbam:cbam"


def test_an_unknown_name_of_a_source(park: Installed) -> None:
    line = park.refusal("build", "park/lino", code=2, ZOO_PLUGINS="zoo-park")
    assert line.startswith("Error: unknown backbone 'park/lino' at character 1")
    assert "did you mean park/lion" in line


def test_names_of_sources_complete(park: Installed) -> None:
    words = {"_ZOO_COMPLETE": "bash_complete", "COMP_CWORD": "2", "COMP_WORDS": "zoo build park/l"}
    done = park.zoo(**words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,park/lion\n", "")
