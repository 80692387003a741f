"""Time to a loaded model and peak memory, beside torchvision and timm.

Every load runs in a process of its own, after all imports; the rounds are interleaved. All read
files that are cached: torchvision a ``.pth`` of its hub folder, timm and the zoo one safetensors
file of the Hugging Face cache, which a hub on this machine serves beforehand, of random values.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.comparing import Area, Comparison, in_turn, seconds
from zoo_core.testing import LoopbackHub

ROUNDS: Final = 5
HASHING, READING, SIZE = "SHA-256 alone", "reading alone", "the file"

TEXT: Final = """From the call to the loaded model, each in a fresh process after all imports, with
all files cached. A first load also proves the file's hash, which the peers never do; its limit is
SHA-256 of the file, and a later load's is reading the file into memory. Peak memory is what the
call takes beside what the process had; its limit is the file's size. Each process sums what it
loaded, and the sums are compared with the files'."""


@dataclass(frozen=True)
class Architecture:
    """What is loaded.

    Attributes:
        name: The heading.
        zoo: What the zoo calls it.
        timm: What timm calls it, and its repository.
        torchvision: What torchvision calls it.
        weights: Which of torchvision's weights are in the file.
        checkpoint: That file.
    """

    name: str
    zoo: str
    timm: str
    torchvision: str
    weights: str
    checkpoint: str


ARCHITECTURES: Final = (
    Architecture(
        "ResNet-50", "resnet50.a1_in1k", "resnet50.a1_in1k",
        "resnet50", "IMAGENET1K_V2", "resnet50-11ad3fa6.pth",
    ),
    Architecture(
        "ViT-B/16", "vit_base.augreg_in21k_ft_in1k", "vit_base_patch16_224.augreg_in21k_ft_in1k",
        "vit_b_16", "IMAGENET1K_V1", "vit_b_16-c867db91.pth",
    ),
)  # fmt: skip
SMALL: Final = Architecture(
    "ResNet-18", "resnet18.a1_in1k", "resnet18.a1_in1k",
    "resnet18", "IMAGENET1K_V1", "resnet18-f37072fd.pth",
)  # fmt: skip

CHILD: Final = """
import gc, json, os, sys, time
import torch
{imports}
def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key)) * 1024
gc.collect()
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")
before = memory("VmRSS")
start = time.perf_counter()
model = {call}
seconds = time.perf_counter() - start
peak = memory("VmHWM") - before
total = sum(float(tensor.double().sum()) for tensor in model.state_dict().values())
print(json.dumps(dict(seconds=seconds, peak=peak, total=total)))
"""


def programs(of: Architecture) -> dict[str, str]:
    """Give the programs to be compared."""
    return {
        "zoo": CHILD.format(
            imports="import zoo_core, zoo_core.compose, zoo_core.manifest_reader\n"
            "import zoo_resnet.model, zoo_vit.model",
            call=f"zoo_core.build({of.zoo!r})",
        ),
        "timm": CHILD.format(
            imports="import timm", call=f"timm.create_model({of.timm!r}, pretrained=True)"
        ),
        "torchvision": CHILD.format(
            imports="import torchvision",
            call=f"torchvision.models.{of.torchvision}(weights={of.weights!r})",
        ),
    }


def prepare(
    home: Path, environment: dict[str, str], architectures: Sequence[Architecture]
) -> dict[str, dict[str, float]]:
    """Put files of random weights where each library looks, and give the sums of their values."""
    import timm
    import torch
    import torchvision
    from safetensors.torch import save_file

    checkpoints = home / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    totals = {}
    with LoopbackHub() as hub:
        for of in architectures:
            theirs = torchvision.models.get_model(of.torchvision).state_dict()
            torch.save(theirs, checkpoints / of.checkpoint)
            weights = timm.create_model(of.timm.partition(".")[0]).state_dict()
            save_file(weights, _file(home, of))
            totals[of.name] = {"torchvision": _total(theirs), "timm": _total(weights)}
            totals[of.name]["zoo"] = totals[of.name]["timm"]
            hub.add(f"timm/{of.timm}", {"model.safetensors": _file(home, of)})
            settings = environment | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"}
            fetch = f"import zoo_core; zoo_core.build({of.zoo!r})"
            subprocess.run([sys.executable, "-c", fetch], env=settings, check=True)
    return totals


def _file(home: Path, of: Architecture) -> Path:
    return home / f"{of.torchvision}.safetensors"


def _total(weights: Mapping[str, Any]) -> float:
    return sum(float(tensor.double().sum()) for tensor in weights.values())


def load(
    program: str, environment: dict[str, str], total: float, forget: Path | None = None
) -> dict[str, float]:
    """Load in a process, after the zoo forgot which files it has proved, and check the weights."""
    if forget is not None:
        shutil.rmtree(forget, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    assert math.isclose(found["total"], total, rel_tol=1e-6), "other weights were loaded"
    return found


def hashing(file: Path) -> None:
    """Hash a file."""
    with file.open("rb") as opened:
        hashlib.file_digest(opened, "sha256")


def compare(
    of: Architecture,
    home: Path,
    environment: dict[str, str],
    totals: Mapping[str, float],
    quick: bool,
) -> list[Comparison]:
    """Compare first and later loads of one architecture."""
    file, verified = _file(home, of), home / "config" / "zoo" / "verified"
    comparisons = []
    for what, forget, limit, alone in (
        ("first load", verified, HASHING, partial(hashing, file)),
        ("later load", None, READING, file.read_bytes),
    ):
        runs = {
            name: partial(
                load, program, environment, totals[name], forget if name == "zoo" else None
            )
            for name, program in programs(of).items()
        }
        runs[limit] = partial(_alone, alone, file)
        found = in_turn(runs, 1 if quick else ROUNDS, warm=0 if quick else 1)
        times = {name: [one["seconds"] for one in ones] for name, ones in found.items()}
        peaks = {
            SIZE if name == limit else name: [one["peak"] for one in ones]
            for name, ones in found.items()
        }
        assert any(verified.iterdir()), "the zoo did not note what it had proved"
        work = f"{of.name}, {what}"
        comparisons += [
            Comparison(work, times, limit=limit),
            Comparison(work, peaks, "peak memory", limit=SIZE),
        ]
    return comparisons


def _alone(run: Any, file: Path) -> dict[str, float]:
    """Give what the limit takes: its time, and the size of the file."""
    return {"seconds": seconds(run), "peak": float(file.stat().st_size)}


def measure(quick: bool) -> Area:
    """Load all, with files of random weights in a folder that is removed afterwards."""
    architectures = (SMALL,) if quick else ARCHITECTURES
    with TemporaryDirectory() as folder:
        home = Path(folder)
        environment = os.environ | {
            "HF_HOME": str(home / "huggingface"),
            "TORCH_HOME": str(home / "torch"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "HF_HUB_OFFLINE": "1",
        }
        totals = prepare(home, environment, architectures)
        comparisons = [
            comparison
            for of in architectures
            for comparison in compare(of, home, environment, totals[of.name], quick)
        ]
    versions = {name: version(name) for name in ("timm", "torchvision", "safetensors")}
    return Area("loading", "Loading pretrained weights", TEXT, comparisons, versions=versions)
