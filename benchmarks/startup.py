"""Cold start of the command line, beside the peer's way of listing models.

Run ``python -m benchmarks.startup``. Each command is a fresh process; rounds are interleaved, so
that whatever else the machine does falls on all of them, and medians are compared as ratios.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ZOO = str(Path(sys.executable).parent / "zoo")
PEER = "import timm; timm.list_models()"
COMMANDS: dict[str, list[str]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "zoo --help": [ZOO, "--help"],
    "zoo list": [ZOO, "list"],
    "zoo list 'timm/*'": [ZOO, "list", "timm/*"],
    "zoo info timm/resnet50": [ZOO, "info", "timm/resnet50"],
    "zoo plugins": [ZOO, "plugins"],
    "completion of 'zoo build resn'": [ZOO],
    PEER: [sys.executable, "-c", PEER],
}
COMPLETION = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": "zoo build resn", "COMP_CWORD": "2"}


def run(name: str, command: list[str]) -> float:
    """Give the seconds that one process takes."""
    environment = os.environ | (COMPLETION if name.startswith("completion") else {})
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(rounds: int) -> dict[str, list[float]]:
    """Run every command once a round, after one round that only warms caches."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, command in COMMANDS.items():
            taken = run(name, command)
            if number:
                seconds[name].append(taken)
    return seconds


def main() -> None:
    """Print medians, spreads and ratios to the peer."""
    seconds = measure(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 9)
    peer = statistics.median(seconds[PEER])
    print(f"{'command':40}  {'ms':>6}  {'min–max':>11}  {'of the peer':>11}")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        spread = f"{min(taken) * 1000:.0f}–{max(taken) * 1000:.0f}"
        ratio = f"1/{peer / median:.0f}"
        print(f"{name:40}  {median * 1000:6.0f}  {spread:>11}  {ratio:>11}")


if __name__ == "__main__":
    main()
