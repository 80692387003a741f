"""Time to a loaded model and peak memory, side by side with torchvision and timm.

Every load runs in a process of its own, after all imports; the rounds are interleaved. All read
files that are cached: torchvision a ``.pth`` of its hub folder, timm and the zoo one safetensors
file of the Hugging Face cache, which a hub on this machine serves beforehand, of random values.
What a processor takes for SHA-256 alone is measured beside them: no first load can be faster.

Run ``python -m benchmarks.loading [ROUNDS]``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from zoo_core.testing import LoopbackHub

ROUNDS: Final = 9

# Of each architecture: what the zoo, timm and torchvision call it, and torchvision's file.
ARCHITECTURES: Final = {
    "ResNet-50": (
        "resnet50.a1_in1k",
        "resnet50.a1_in1k",
        "resnet50",
        "resnet50-11ad3fa6.pth",
    ),
    "ViT-B/16": (
        "vit_base.augreg_in21k_ft_in1k",
        "vit_base_patch16_224.augreg_in21k_ft_in1k",
        "vit_b_16",
        "vit_b_16-c867db91.pth",
    ),
}

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
start, spent = time.perf_counter(), time.process_time()
model = {call}
seconds, cpu = time.perf_counter() - start, time.process_time() - spent
print(json.dumps(dict(seconds=seconds, cpu=cpu, peak=memory("VmHWM") - before)))
"""


def programs(architecture: str) -> dict[str, str]:
    """Give the programs to be compared."""
    zoo, timm, torchvision, _ = ARCHITECTURES[architecture]
    ours = CHILD.format(
        imports="import zoo_core, zoo_core.compose, zoo_core.manifest_reader\n"
        "import zoo_resnet.model, zoo_vit.model",
        call=f"zoo_core.build({zoo!r})",
    )
    return {
        "zoo, hashing": ours,
        "zoo, later": ours,
        "timm": CHILD.format(
            imports="import timm", call=f"timm.create_model({timm!r}, pretrained=True)"
        ),
        "torchvision": CHILD.format(
            imports="import torchvision",
            call=f"torchvision.models.{torchvision}(weights='IMAGENET1K_V1')"
            if torchvision == "vit_b_16"
            else f"torchvision.models.{torchvision}(weights='IMAGENET1K_V2')",
        ),
    }


def prepare(home: Path, environment: dict[str, str]) -> None:
    """Put files of random weights where each library looks for them."""
    import timm
    import torch
    import torchvision
    from safetensors.torch import save_file

    checkpoints = home / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    with LoopbackHub() as hub:
        for zoo, name, theirs, checkpoint in ARCHITECTURES.values():
            torch.save(torchvision.models.get_model(theirs).state_dict(), checkpoints / checkpoint)
            file = home / f"{theirs}.safetensors"
            save_file(timm.create_model(name.partition(".")[0]).state_dict(), file)
            repository = f"timm/{name}"
            hub.add(repository, {"model.safetensors": file})
            settings = environment | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"}
            fetch = f"import zoo_core; zoo_core.build({zoo!r})"
            subprocess.run([sys.executable, "-c", fetch], env=settings, check=True)


def measure(home: Path, rounds: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Run all programs in turn, several times."""
    # The zoo's bytecode is written, as it is where a wheel is installed, and as the peers have it.
    kept = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    environment = kept | {
        "HF_HOME": str(home / "huggingface"),
        "TORCH_HOME": str(home / "torch"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "HF_HUB_OFFLINE": "1",
    }
    prepare(home, environment)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(-1, rounds):  # the first one warms up
        for architecture in ARCHITECTURES:
            for name, program in programs(architecture).items():
                if name == "zoo, hashing":
                    shutil.rmtree(home / "config" / "zoo" / "verified", ignore_errors=True)
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", program],
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                if turn >= 0:
                    runs = results.setdefault(architecture, {}).setdefault(name, [])
                    runs.append(json.loads(done.stdout))
    return results


def hashing() -> float:
    """Give how many megabytes SHA-256 takes a second here."""
    data = bytes(100_000_000)
    start = time.perf_counter()
    hashlib.sha256(data)
    return len(data) / 1e6 / (time.perf_counter() - start)


def median(runs: list[dict[str, float]], key: str) -> float:
    """Give the median of one figure."""
    return statistics.median(run[key] for run in runs)


def show(results: dict[str, Any], echo: Callable[[str], None] = print) -> None:
    """Print ratios to the zoo: how many times as long, and what share of the peak memory."""
    for architecture, programs_of in results.items():
        for ours in ("zoo, hashing", "zoo, later"):
            for theirs in ("timm", "torchvision"):
                times = median(programs_of[theirs], "seconds") / median(
                    programs_of[ours], "seconds"
                )
                share = median(programs_of[ours], "peak") / median(programs_of[theirs], "peak")
                echo(
                    f"{architecture:9}  {ours:12} against {theirs:11}  "
                    f"{times:4.1f} times as fast, {share:.2f} of its peak memory"
                )
        for name, runs in programs_of.items():
            seconds = sorted(run["seconds"] for run in runs)
            echo(
                f"{architecture:9}  {name:12} {median(runs, 'seconds'):.3f} s "
                f"({seconds[0]:.3f} to {seconds[-1]:.3f}), {median(runs, 'cpu'):.3f} s of all "
                f"cores, {median(runs, 'peak') / 1e6:.0f} MB"
            )


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        show(measure(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
    print(f"SHA-256: {max(hashing() for _ in range(5)):.0f} MB/s")
