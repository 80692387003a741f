"""What models can run on, asked of torch in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from zoo_core.doctor.finding import Finding, note, ok, problem

LIMIT: Final = 120.0  # seconds: a first import from a slow disk takes long

PROBE: Final = """
import json, torch
cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
if cuda:
    torch.zeros(1, device="cuda").add_(1).item()
print(json.dumps({
    "threads": torch.get_num_threads(),
    "built": torch.version.cuda,
    "cuda": cuda,
    "mps": torch.backends.mps.is_available(),
}), flush=True)
import torchvision
"""


def examine() -> Iterator[Finding]:
    """Import torch and torchvision elsewhere, and tell of the processors and accelerators."""
    told, trouble = _probe()
    if not told:
        mend = "pip install --force-reinstall torch torchvision"
        yield problem("torch", f"cannot be used: {trouble}", mend)
        yield ok("cpu", f"{_cores()} cores")
        return
    if trouble:
        mend = "pip install --force-reinstall torchvision"
        yield problem("torchvision", f"cannot be imported: {trouble}", mend)
    yield ok("cpu", f"{_cores()} cores, of which torch uses {told['threads']}")
    if told["cuda"]:
        yield ok("cuda", f"{', '.join(told['cuda'])}, CUDA {told['built']}")
    elif shutil.which("nvidia-smi"):
        version = f"for CUDA {told['built']}" if told["built"] else "without CUDA"
        found = f"there is an NVIDIA driver, but torch is built {version} and sees no device"
        yield note("cuda", found, "pip install --force-reinstall torch torchvision")
    if told["mps"]:
        yield ok("mps", "Apple's GPU")
    if not told["cuda"] and not told["mps"]:
        yield ok("devices", "no accelerator: models run on the CPU")


def _cores() -> int:
    """Give the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _probe() -> tuple[dict[str, Any], str]:
    """Give what torch tells, nothing if it cannot be used, and the reason of a failure."""
    # Not -P: the zoo's own process has the same path, and may be broken by the same file.
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {}, f"no end within {LIMIT:.0f} s"
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"threads"')]
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return (told or [{}])[0], reason if done.returncode else ""
