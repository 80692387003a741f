"""``zoo list`` with two hundred plugins and five thousand components, beside the same with none.

The plugins are installed distributions in a folder of their own on the path, byte-compiled as pip
leaves them; each command is a fresh process, and the rounds are interleaved.
"""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.comparing import Area, Comparison, in_turn
from zoo_core.loader import installed

ROUNDS: Final = 25
PLUGINS: Final = 200
COMPONENTS: Final = 5000
KINDS: Final = ("backbone", "attention", "decoder", "explainer")
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "zoo list": ("list",),
    "zoo --help": ("--help",),
    "zoo list decoder": ("list", "decoder"),
    "zoo list model": ("list", "model"),
    "zoo plugins": ("plugins",),
}
LIST: Final = ("-m", "zoo_core", "list")
OWN, NONE = "zoo", "no plugin"
LOADER, IMPORTS = "pluggy's own loader", "their modules alone"

TEXT: Final = f"""What {PLUGINS} more installed distributions with {COMPONENTS:,} components cost.
In the rows of commands, the zoo is with its own plugins; beside it stands the same command with
{PLUGINS} more, and the limit is the same command with no plugin at all, as it is where `zoo list`
has those {PLUGINS} alone. In the last rows the zoo is `zoo list` with {PLUGINS} more; beside it
stands pluggy, which loads the same entry points and calls the same hook, and the limit is a Python
that imports the same modules and calls their hooks. Each is a fresh process; a processor's time is
that of all its cores."""

CATALOGUE: Final = '''"""Components that are never built."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)
KINDS = {kinds!r}


@hookimpl
def zoo_specs():
    return [
        Spec(
            kind=(kind := KINDS[number % len(KINDS)]),
            name=f"{name}-{{kind}}{{number}}",
            target=f"{package}.model:Net{{number}}",
            kwargs={{"depth": number}},
            summary=f"component {{number}} of {name}",
            channels=(64, 128, 256, 512) if kind == "backbone" else (),
            strides=(4, 8, 16, 32) if kind == "backbone" else (),
            options={{"width": "channels of the first map"}},
            tags=("made-up",),
        )
        for number in range({count})
    ]
'''

PLUGGY: Final = """
import pluggy
from zoo_core import hookspecs
manager = pluggy.PluginManager("zoo")
manager.add_hookspecs(hookspecs)
manager.load_setuptools_entrypoints("zoo.plugins")
found = [spec for specs in manager.hook.zoo_specs() for spec in specs]
"""

MODULES: Final = """
import importlib, os, sys
names = [n for n in os.listdir(sys.argv[1]) if n.startswith("zoo_many") and "." not in n]
found = [spec for name in names for spec in importlib.import_module(name).zoo_specs()]
"""

COUNTED: Final = "assert len(found) >= int(sys.argv[2]), len(found)"
"""Ends both programs."""

METADATA: Final = """Metadata-Version: 2.4
Name: zoo-{name}
Version: 1.0
Summary: A plugin of {count} components
Requires-Python: >=3.11
Requires-Dist: zoo-core>=0.1

{description}
"""


def install(folder: Path, plugins: int = PLUGINS, components: int = COMPONENTS) -> None:
    """Put distributions into a folder as pip would: packages and their dist-info, compiled."""
    count = components // plugins
    for number in range(plugins):
        name = f"many{number:03}"
        package = folder / f"zoo_{name}"
        info = folder / f"zoo_{name}-1.0.dist-info"
        files = {
            package / "__init__.py": CATALOGUE.format(
                kinds=KINDS, name=name, package=package.name, count=count
            ),
            info / "METADATA": METADATA.format(
                name=name, count=count, description="A line of its README.\n" * 100
            ),
            info / "entry_points.txt": f"[zoo.plugins]\n{name} = {package.name}\n",
            info / "INSTALLER": "pip\n",
            info / "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = info / "RECORD"
        lines = [f"{file.relative_to(folder)},,\n" for file in (*files, record)]
        files[record] = "".join(lines)
        for file, text in files.items():
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
    compileall.compile_dir(folder, quiet=2)


def run(command: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    """Give the seconds that one process takes, by the clock and of a processor."""
    start = time.perf_counter()
    arguments = [sys.executable, *command]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        elapsed = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    return elapsed, usage.ru_utime + usage.ru_stime


def check(environment: dict[str, str], plugins: int, components: int) -> None:
    """Make sure that the plugins are there and work, or are not there."""
    for command, beginning, expected in (
        ("plugins", "zoo-many", plugins),
        ("list", "many", components),
    ):
        shown = subprocess.run(
            [sys.executable, "-m", "zoo_core", command, "--json"],
            env=environment,
            check=True,
            capture_output=True,
        )
        found = [one for one in json.loads(shown.stdout) if _name(one).startswith(beginning)]
        assert len(found) == expected, f"{command}: {len(found)} of {expected}"
        assert all(one.get("status", "ok") == "ok" for one in found)


def _name(shown: dict[str, str]) -> str:
    return shown.get("name") or shown["distribution"]


def measure(quick: bool) -> Area:
    """Time every command with and without the plugins, and other ways of loading them."""
    plugins, components = (20, 500) if quick else (PLUGINS, COMPONENTS)
    rounds, warm = (1, 0) if quick else (ROUNDS, 1)
    plain = {key: text for key, text in os.environ.items() if not key.startswith("ZOO_")}
    comparisons = []
    with TemporaryDirectory() as folder:
        install(Path(folder), plugins, components)
        more = plain | {"PYTHONPATH": folder}
        none = plain | {"ZOO_PLUGINS": ""}
        alone = more | {"ZOO_BLOCK_PLUGINS": ",".join(installed())}
        environments = {OWN: plain, f"{plugins} more": more, NONE: none}
        check(plain, 0, 0)
        check(more, plugins, components)
        check(alone, plugins, components)
        for name, arguments in list(COMMANDS.items())[: 2 if quick else None]:
            command = ("-m", "zoo_core", *arguments)
            runs = {which: partial(run, command, given) for which, given in environments.items()}
            comparisons += _compared(name, in_turn(runs, rounds, warm), NONE)
        runs = {OWN: partial(run, LIST, alone), NONE: partial(run, LIST, none)}
        comparisons += _compared(f"zoo list, {plugins} alone", in_turn(runs, rounds, warm), NONE)
        programs = {
            OWN: LIST,
            LOADER: ("-c", f"import sys\n{PLUGGY}{COUNTED}", folder, str(components)),
            IMPORTS: ("-c", f"{MODULES}{COUNTED}", folder, str(components)),
        }
        runs = {name: partial(run, program, more) for name, program in programs.items()}
        comparisons += _compared(f"zoo list, {plugins} more", in_turn(runs, rounds, warm), IMPORTS)
    versions = {"pluggy": version("pluggy")}
    return Area("plugins", "Many plugins", TEXT, comparisons, versions=versions)


def _compared(
    work: str, taken: Mapping[str, list[tuple[float, float]]], limit: str
) -> list[Comparison]:
    """Compare by the clock, and by the processor's time."""
    by_clock = {name: [wall for wall, _ in rounds] for name, rounds in taken.items()}
    by_processor = {name: [spent for _, spent in rounds] for name, rounds in taken.items()}
    return [
        Comparison(work, by_clock, limit=limit),
        Comparison(work, by_processor, "processor time", limit=limit),
    ]
