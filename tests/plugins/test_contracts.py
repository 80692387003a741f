"""Components that do not do what their kind must: found when they are built, told in one line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from .conftest import PARTS, Dist, Install, Installed

# Name, what the class is, and what the one line says behind "backbone zoo-faulty:name: ".
BACKBONES = [
    (
        "stranger",
        "class Stranger(nn.Module): ...",
        r"'zoo_faulty.parts:Stranger' must be a class derived from zoo_core.Backbone, and is "
        r"<class 'zoo_faulty.parts.Stranger'>",
    ),
    (
        "function",
        "def Function(in_channels): ...",
        r"'zoo_faulty.parts:Function' must be a class derived from zoo_core.Backbone, and is "
        r"<function Function at \w+>",
    ),
    (
        "absent",
        "",
        r"its target 'zoo_faulty.parts:Absent' cannot be imported: AttributeError: module "
        r"'zoo_faulty.parts' has no attribute 'Absent'",
    ),
    (
        "unfinished",
        "class Unfinished(Backbone):\n    def forward(self, x): return []",
        r"its constructor failed: TypeError: Can't instantiate abstract class Unfinished .*"
        r"get_channel_schedule'?",
    ),
    (
        "raising",
        "class Raising(Net):\n    def __init__(self): raise OSError('one\\n  two')",
        r"its constructor failed: OSError: one two",
    ),
    (
        "leaving",
        "class Leaving(Net):\n    def __init__(self): raise SystemExit(0)",
        r"its constructor failed: SystemExit: 0",
    ),
    (
        "wanting",
        "class Wanting(Net):\n    def __init__(self, wanted): ...",
        r"its constructor failed: TypeError: .*missing 1 required positional argument: 'wanted'",
    ),
    (
        "unplanned",
        "class Unplanned(Net):\n    def get_channel_schedule(self): ...",
        r"get_channel_schedule must give a ChannelSchedule: TypeError: .*NoneType.*",
    ),
    (
        "negative",
        "class Negative(Net):\n    def get_channel_schedule(self): return [8, -1]",
        r"get_channel_schedule must give a ChannelSchedule: InputError: a channel schedule needs "
        r"positive channels and strides, not \[8, -1\] and .*",
    ),
    (
        "tensor",
        "class Tensor(Net):\n    def forward(self, x): return super().forward(x)[-1]",
        r"forward must give a list of tensors, not \(1, 16, 8, 12\)",
    ),
    (
        "nothing",
        "class Nothing(Net):\n    def forward(self, x): ...",
        r"forward must give a list of tensors, not NoneType",
    ),
    (
        "tuple",
        "class Tuple(Net):\n    def forward(self, x): return tuple(super().forward(x))",
        r"forward must give a list of tensors, not tuple",
    ),
    (
        "coarse",
        "class Coarse(Net):\n    def get_channel_schedule(self):\n"
        "        return ChannelSchedule((8, 16), (4, 16))",
        r"for a picture of 64×96 its schedule ChannelSchedule\(\(8, 16\), strides=\(4, 16\)\) "
        r"promises maps \[\(1, 8, 16, 24\), \(1, 16, 4, 6\)\], and it gives "
        r"\[\(1, 8, 16, 24\), \(1, 16, 8, 12\)\]",
    ),
    (
        "short",
        "class Short(Net):\n    def forward(self, x): return super().forward(x)[:1]",
        r"for a picture of 64×96 its schedule .* promises maps "
        r"\[\(1, 8, 16, 24\), \(1, 16, 8, 12\)\], and it gives \[\(1, 8, 16, 24\)\]",
    ),
    (
        "pooled",
        "class Pooled(Net):\n    def forward_features(self, x):\n"
        "        return Features(self(x), torch.zeros(1, 5))",
        r"its pooled vector is \(1, 5\), not \(1, 16\)",
    ),
    (
        "unpooled",
        "class Unpooled(Net):\n    def forward_features(self, x): return self(x)[-1]",
        r"forward_features must give Features, maps and a pooled vector, not \(1, 16, 8, 12\)",
    ),
    (
        "crashing",
        "class Crashing(Net):\n    def forward(self, x): return [x.view(\n5)]",
        r"fails on a picture of 64×96: RuntimeError: .+",
    ),
    (
        "quitting",
        "class Quitting(Net):\n    def forward(self, x): raise SystemExit(0)",
        r"fails on a picture of 64×96: SystemExit: 0",
    ),
]

ATTENTIONS = [
    (
        "plainly",
        "class Plainly(nn.Identity): ...",
        r"'zoo_faulty.parts:Plainly' must be a class derived from zoo_core.Attention, and is .+",
    ),
    (
        "halving",
        "class Halving(Attention):\n    def forward(self, x): return x[:, :, ::2]",
        r"forward must keep the shape \(1, 16, 8, 12\), and gives \(1, 16, 4, 12\)",
    ),
    (
        "pairing",
        "class Pairing(Attention):\n    def forward(self, x): return x, x",
        r"forward must keep the shape \(1, 16, 8, 12\), and gives tuple",
    ),
    (
        "abstractly",
        "class Abstractly(Attention): ...",
        r"its constructor failed: TypeError: Can't instantiate abstract class Abstractly .*",
    ),
]

_DECODER = """
class {}(Decoder):
    def __init__(self, backbone_channels, output_channels):
        super().__init__()
        self.conv = nn.Conv2d(backbone_channels[-1], output_channels, 1)
    def forward(self, features, output_size=None):
        return {}
"""
DECODERS = [
    (
        "small",
        _DECODER.format("Small", "self.conv(features[-1])"),
        r"forward must give \(1, 21, 64, 96\), and gives \(1, 21, 8, 12\)",
    ),
    (
        "narrow",
        _DECODER.format("Narrow", "torch.zeros(1, 3, *output_size)"),
        r"forward must give \(1, 21, 64, 96\), and gives \(1, 3, 64, 96\)",
    ),
    (
        "several",
        _DECODER.format("Several", "[self.conv(f) for f in features[-1:]]"),
        r"forward must give \(1, 21, 64, 96\), and gives list",
    ),
    (
        "unsized",
        _DECODER.format("Unsized", "0").replace(", output_size=None", ""),
        r"fails on a picture of 64×96: TypeError: .*unexpected keyword argument 'output_size'",
    ),
]

# These are right but for what the catalogue says of them.
DECLARED = [
    (
        "wider",
        "target='zoo_faulty.parts:Net', channels=(8, 32), strides=(4, 8)",
        r"its catalogue says channels \[8, 32\], and it gives \[8, 16\]",
    ),
    (
        "coarser",
        "target='zoo_faulty.parts:Net', channels=(8, 16), strides=(4, 16)",
        r"its catalogue says strides \[4, 16\], and it gives \[4, 8\]",
    ),
    (
        "moduleless",
        "target='zoo_faulty.none:Net'",
        r"its target 'zoo_faulty.none:Net' cannot be imported: ModuleNotFoundError: No module "
        r"named 'zoo_faulty.none'",
    ),
    (
        "breaking",
        "target='zoo_faulty.breaking:Net'",
        r"its target 'zoo_faulty.breaking:Net' cannot be imported: ImportError: one two",
    ),
    (
        "exiting",
        "target='zoo_faulty.exiting:Net'",
        r"its target 'zoo_faulty.exiting:Net' cannot be imported: SystemExit: 0",
    ),
]

FAULTS = [
    *(("backbone", name, name, text) for name, _, text in (*BACKBONES, *DECLARED)),
    *(("attention", name, f"sound+{name}", text) for name, _, text in ATTENTIONS),
    *(("decoder", name, f"sound+{name}", text) for name, _, text in DECODERS),
]
PLAIN = """
class Plain(Attention):
    def forward(self, x): return x.relu()
"""
SOUND = [
    "sound",
    "sound+cbam@all+unet",
    "sound+cbam",
    "sound+plain",
    "resnet18+cbam+unet",
]

# The command itself, many times in one process: importing torch is what costs.
BUILD_ALL = """
import contextlib, io
from zoo_core.cli import cli
told = {}
for recipe in RECIPES:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli(["build", recipe], prog_name="zoo")
        except SystemExit as done:
            told[recipe] = [done.code, err.getvalue()]
print(json.dumps(told))
"""


def _spec(kind: str, name: str, rest: str) -> str:
    return f"    Spec(kind={kind!r}, name={name!r}, {rest}),"


@pytest.fixture(scope="module")
def installed(install: Install) -> Installed:
    kinds = [("backbone", BACKBONES), ("attention", ATTENTIONS), ("decoder", DECODERS)]
    specs = [
        _spec(kind, name, f"target='zoo_faulty.parts:{name.capitalize()}'")
        for kind, faulty in kinds
        for name, _, _ in faulty
    ]
    specs += [_spec("backbone", name, rest) for name, rest, _ in DECLARED]
    specs.append(_spec("attention", "plain", "target='zoo_faulty.parts:Plain'"))
    true = "target='zoo_faulty.parts:Net', channels=(8, 16), strides=(4, 8)"
    specs.append(_spec("backbone", "sound", true))
    lines = ["@hookimpl", "def zoo_specs():", "  return [", *specs, "  ]"]
    classes = [text for _, faulty in kinds for _, text, _ in faulty]
    files = {
        "parts.py": "\n".join([PARTS, PLAIN, *classes]),
        "breaking.py": "raise ImportError('one\\n two')",
        "exiting.py": "raise SystemExit(0)",
    }
    return install(Dist(name="zoo-faulty", code="\n".join(lines), files=files))


def test_a_faulty_component_is_refused_in_one_line_and_others_build(installed: Installed) -> None:
    """One test, so that one worker pays for the child."""
    recipes = [recipe for _, _, recipe, _ in FAULTS] + SOUND
    told: dict[str, Any] = installed.evaluate(f"RECIPES = {json.dumps(recipes)}\n{BUILD_ALL}")
    wrong = {
        recipe: told[recipe]
        for kind, name, recipe, text in FAULTS
        if told[recipe][0] != 1
        or not re.fullmatch(f"Error: {kind} zoo-faulty:{name}: {text}\n", told[recipe][1])
    }
    assert wrong == {}
    assert {recipe: told[recipe] for recipe in SOUND} == {recipe: [0, ""] for recipe in SOUND}


def test_faults_are_not_seen_by_the_catalogue(installed: Installed) -> None:
    assert installed.status()["zoo-faulty"]["status"] == "ok"
    assert "moduleless" in installed.says("list", "backbone")


def test_debug_shows_where(installed: Installed) -> None:
    line = installed.refusal("build", "tensor", code=1)
    assert line.startswith("Error: backbone zoo-faulty:tensor: forward must give a list")
    done = installed.zoo("--debug", "build", "raising")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "zoo_faulty/parts.py" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("zoo_core.errors.ContractError: backbone zoo-")
