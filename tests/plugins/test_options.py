"""Options of third-party components, whether their catalogue declares them or not."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import PARTS, Dist, Install, Installed

CODE = """
TARGET = "zoo_opts.parts:Net"
WIDTH = {"width": "channels of the first map", "grid": "no argument of the class"}
@hookimpl
def zoo_specs():
    return [
        Spec(kind="backbone", name="told", target=TARGET, options=WIDTH),
        Spec(kind="backbone", name="bare", target=TARGET, options={}),
        Spec(kind="backbone", name="untold", target=TARGET),
        Spec(kind="backbone", name="fixed", target=TARGET, kwargs={"width": 4}),
        Spec(kind="backbone", name="open", target="zoo_opts.parts:Open"),
    ]
"""
OPEN = """
class Open(Net):
    def __init__(self, in_channels=3, **more):
        super().__init__(in_channels, more["width"])
"""


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    return install(Dist(name="zoo-opts", code=CODE, files={"parts.py": PARTS + OPEN}))


def tried(installed: Installed, cases: list[tuple[str, dict[str, Any]]]) -> list[list[Any]]:
    """Build each in one process: error or width, its text, its exit code, and if torch is there."""
    return installed.evaluate(f"""
import sys
told = []
for recipe, options in {cases!r}:
    try:
        built = zoo.build(recipe, backbone=options)
        told.append([built.backbone.first.out_channels])
    except zoo.ZooError as error:
        told.append([type(error).__name__, str(error), error.exit_code])
    told[-1].append("torch" in sys.modules)
print(json.dumps(told))
""")


LIGHT = [
    ("told", {"widht": 3}, "backbone 'told' has no option 'widht'; did you mean 'width'?"),
    ("told", {"zzz": 3}, "backbone 'told' has no option 'zzz'; it has width, grid"),
    ("zoo-opts:told", {"zzz": 3}, "backbone 'told' has no option 'zzz'; it has width, grid"),
    ("bare", {"width": 3}, "backbone 'bare' has no option 'width'; it has none"),
    (
        "fixed",
        {"width": 3},
        "backbone 'fixed': 'width' is what makes it 'fixed' (width=4) and cannot be changed",
    ),
    (
        "untold",
        {"in_channels": 3},
        "backbone 'untold': 'in_channels' is set for the whole model, with in_channels=… or "
        "--in-channels",
    ),
]


def test_what_the_catalogue_knows_is_refused_without_torch(installed: Installed) -> None:
    cases = [(recipe, options) for recipe, options, _ in LIGHT]
    expected = [["OptionError", text, 2, False] for _, _, text in LIGHT]
    assert tried(installed, cases) == expected


def test_the_rest_is_refused_when_it_is_built(installed: Installed) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("untold", {"widht": 3}),
        ("untold", {"zzz": 3}),
        ("fixed", {"zzz": 3}),
        ("told", {"grid": 3}),
        ("untold", {"width": "wide"}),
        ("told", {"width": 6}),
        ("untold", {"width": 4}),
        ("open", {"width": 10}),
    ]
    *refused, mistaken, told, untold, anything = tried(installed, cases)
    assert [told, untold, anything] == [[6, True], [4, True], [10, True]]
    assert [error[:3] for error in refused] == [
        ["OptionError", text, 2]
        for text in (
            "backbone 'untold' has no option 'widht'; did you mean 'width'?",
            "backbone 'untold' has no option 'zzz'; it has width",
            "backbone 'fixed' has no option 'zzz'; it has none",
            "backbone 'told' has no option 'grid'; it has width",
        )
    ]
    kind, text, code, _ = mistaken
    assert (kind, code) == ("OptionError", 2)
    assert text.startswith("backbone zoo-opts:untold with width='wide': ")
    assert "\n" not in text


def test_the_command_line_refuses_too(installed: Installed) -> None:
    line = installed.refusal("build", "told", "--set", "told.widht=3", code=2)
    assert line == "Error: backbone 'told' has no option 'widht'; did you mean 'width'?"
