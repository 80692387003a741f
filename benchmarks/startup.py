"""Cold start of the command line, beside other libraries' commands and listings.

Each command is a fresh process, timed by the clock; the rounds of all are interleaved.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.comparing import Area, Comparison, interleaved

ROUNDS: Final = 7
SCRIPTS: Final = Path(sys.executable).parent
PYTHON: Final = (sys.executable, "-c")
LIMIT: Final = "python -c pass"
IMPORTS: Final = "import click, pluggy"
LISTING: Final = "timm.list_models()"
DESCRIBING: Final = "timm.get_pretrained_cfg()"
TORCH: Final = "import torch"
TIMMS: Final = "timm.create_model()"
TORCHVISIONS: Final = "torchvision.models.resnet18()"

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "zoo --help": ("zoo", "--help"),
    "zoo list": ("zoo", "list"),
    "zoo list 'timm/*'": ("zoo", "list", "timm/*"),
    "zoo info timm/resnet50": ("zoo", "info", "timm/resnet50"),
    "zoo plugins": ("zoo", "plugins"),
    "completion of 'zoo build resn'": ("zoo",),
    "hf --help": ("hf", "--help"),
    "torchrun --help": ("torchrun", "--help"),
    "zoo build resnet18": ("zoo", "build", "resnet18"),
    TIMMS: (*PYTHON, "import timm; print(timm.create_model('resnet18'))"),
    TORCHVISIONS: (*PYTHON, "from torchvision.models import resnet18; print(resnet18())"),
    TORCH: (*PYTHON, "import torch"),
    LIMIT: (*PYTHON, "pass"),
    IMPORTS: (*PYTHON, IMPORTS),
    LISTING: (*PYTHON, "import timm; timm.list_models()"),
    DESCRIBING: (*PYTHON, "import timm; timm.models.get_pretrained_cfg('resnet50')"),
}
COMPLETION: Final = {
    "_ZOO_COMPLETE": "bash_complete",
    "COMP_WORDS": "zoo build resn",
    "COMP_CWORD": "2",
}

PEERS: Final[Mapping[str, Mapping[str, str]]] = {
    "zoo --help": {"hf": "hf --help", "torchrun": "torchrun --help"},
    "zoo list": {"timm": LISTING},
    "zoo list 'timm/*'": {"timm": LISTING},
    "zoo info timm/resnet50": {"timm": DESCRIBING},
    "zoo plugins": {},
    "completion of 'zoo build resn'": {},
    "zoo build resnet18": {"timm": TIMMS, "torchvision": TORCHVISIONS},
}
"""The commands of the zoo, and who does the like by which command."""

TEXT: Final = """Each command is a fresh process. The limit is a Python that does nothing; beside it
stands one that imports click and pluggy, of which the command line is made. `zoo list` names all
components of all plugins, or timm's models; beside it stands `timm.list_models()`, and beside
`zoo info` stands `timm.models.get_pretrained_cfg()`. Beside `zoo --help` stand the same of `hf`,
which is huggingface-hub's, and of torch's `torchrun`. `zoo build` makes a model and shows a
table of what its stages give and cost; beside it stand printing timm's and torchvision's model, and
its limit is importing torch."""


def run(name: str) -> None:
    """Run one command in a process, and make sure that it says something if it should."""
    program, *arguments = COMMANDS[name]
    environment = os.environ | (COMPLETION if name.startswith("completion") else {})
    done = subprocess.run(
        [SCRIPTS / program, *arguments], env=environment, check=True, stdout=subprocess.PIPE
    )
    assert done.stdout or program == sys.executable, f"{name} says nothing"


def measure(quick: bool) -> Area:
    """Time every command."""
    runs = {name: partial(run, name) for name in COMMANDS}
    taken = interleaved(runs, 1 if quick else ROUNDS, warm=0 if quick else 1)
    comparisons = [
        Comparison(
            name,
            {
                "zoo": taken[name],
                **{peer: taken[command] for peer, command in peers.items()},
                **({} if name.startswith("zoo build") else {IMPORTS: taken[IMPORTS]}),
                (limit := TORCH if name.startswith("zoo build") else LIMIT): taken[limit],
            },
            limit=limit,
        )
        for name, peers in PEERS.items()
    ]
    versions = {name: version(name) for name in ("click", "pluggy", "timm", "huggingface-hub")}
    return Area("startup", "Cold start", TEXT, comparisons, versions=versions)
