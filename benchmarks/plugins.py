"""``zoo list`` with two hundred plugins and five thousand components, beside the same with none.

Run ``python -m benchmarks.plugins [ROUNDS]``. The plugins are installed distributions in a folder
of their own on the path, byte-compiled as pip leaves them; each command is a fresh process, and
rounds are interleaved, so that whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

PLUGINS: Final = 200
COMPONENTS: Final = 5000
KINDS: Final = ("backbone", "attention", "decoder", "explainer")
COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "zoo list": ("list",),
    "zoo list decoder": ("list", "decoder"),
    "zoo list model": ("list", "model"),
    "zoo plugins": ("plugins",),
    "zoo --help": ("--help",),
}

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


def run(arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    """Give the seconds that one process takes, by the clock and of a processor."""
    command = [sys.executable, "-m", "zoo_core", *arguments]
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        elapsed = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, arguments
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


def measure(rounds: int) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Time every command with and without the plugins, after a round that only warms caches."""
    plain = {key: text for key, text in os.environ.items() if not key.startswith("ZOO_")}
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        environments = {
            "no plugin": plain | {"ZOO_PLUGINS": ""},
            "the zoo's own": plain,
            "200 more": plain | {"PYTHONPATH": folder},
        }
        check(environments["the zoo's own"], 0, 0)
        check(environments["200 more"], PLUGINS, COMPONENTS)
        taken: dict[str, dict[str, list[tuple[float, float]]]] = {
            name: {which: [] for which in environments} for name in COMMANDS
        }
        for number in range(rounds + 1):
            for name, arguments in COMMANDS.items():
                for which, environment in environments.items():
                    seconds = run(arguments, environment)
                    if number:
                        taken[name][which].append(seconds)
    return taken


def ratios(these: list[float], others: list[float]) -> str:
    """Give the median of the ratios of pairs, with their middle half."""
    found = [one / other for one, other in zip(these, others, strict=True)]
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    """Print medians, and what the plugins cost as ratios of neighbouring runs."""
    taken = measure(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 15)
    print("| command | plugins | ms | ms of a processor | of the zoo's own: time | processor |")
    print("| --- | --- | ---: | ---: | --- | --- |")
    for name, by in taken.items():
        own = list(zip(*by["the zoo's own"], strict=True))
        for which, pairs in by.items():
            wall, processor = zip(*pairs, strict=True)
            cells = [
                f"`{name}`",
                which,
                f"{statistics.median(wall) * 1000:.0f}",
                f"{statistics.median(processor) * 1000:.0f}",
                ratios(list(wall), list(own[0])),
                ratios(list(processor), list(own[1])),
            ]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
