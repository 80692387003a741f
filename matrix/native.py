"""The native components: every backbone with every attention and every decoder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Final, NamedTuple

import torch

import zoo_core as zoo
from matrix.trying import CHANNELS, SIZES, native, problem_of
from zoo_core.shapes import on_meta
from zoo_core.summary import summarise

PAGE: Final = Path(__file__).parent.parent / "docs" / "matrix.md"


class Trial(NamedTuple):
    """A composition, and the channels of the pictures that it is tried with."""

    backbone: str
    attention: str
    decoder: str
    channels: int

    @property
    def recipe(self) -> str:
        """What ``zoo.build`` builds: the attention stands on every level."""
        attention = f"+{self.attention}@all" if self.attention else ""
        return f"{self.backbone}{attention}+{self.decoder}"


def trials() -> Iterator[Trial]:
    """Give every pair with all numbers of channels, and every triple with one in turn."""
    for backbone, decoder in product(native("backbone"), native("decoder")):
        for channels in CHANNELS:
            yield Trial(backbone, "", decoder, channels)
    turn = cycle(CHANNELS)
    triples = product(native("backbone"), native("attention"), native("decoder"))
    for backbone, attention, decoder in triples:
        yield Trial(backbone, attention, decoder, next(turn))


def page(problems: dict[Trial, str]) -> str:
    """Give the table of what was tried."""
    decoders, attentions = native("decoder"), native("attention")
    sizes = ", ".join(f"{height}×{width}" for height, width in SIZES)
    failed = {trial: problem for trial, problem in problems.items() if problem}
    lines = [
        "# What goes with what",
        "",
        f"Each native backbone with each native decoder, plain and with each of {len(attentions)} "
        "attentions on every",
        "level, built and run for its shapes (`python -m matrix`). The number is that of",
        f"compositions tried whose outputs have the right shape at {sizes} pixels: pairs with",
        f"{', '.join(map(str, CHANNELS[:-1]))} and {CHANNELS[-1]} channels, triples with one of "
        "these in turn. The tests run the native pairs for",
        "real, forward and backward. [What timm has](matrix-timm.md) is tried too.",
        "",
        f"Attentions: {', '.join(f'`{name}`' for name in attentions)}.",
        "",
        f"{len(problems) - len(failed):,} of {len(problems):,} compositions are right.",
        "",
        "| backbone | strides | " + " | ".join(f"`{name}`" for name in decoders) + " |",
        "| --- | --- |" + " ---: |" * len(decoders),
    ]
    for backbone in native("backbone"):
        spec = zoo.registry.backbones[backbone]
        strides = "-".join(map(str, spec.strides))
        cells = []
        for decoder in decoders:
            ours = [t for t in problems if (t.backbone, t.decoder) == (backbone, decoder)]
            right = sum(not problems[trial] for trial in ours)
            cells.append(str(right) if right == len(ours) else f"**{right} of {len(ours)}**")
        lines.append(f"| `{backbone}` | {strides} | {' | '.join(cells)} |")
    lines += ["", *_costs()]
    if failed:
        lines += ["", "What is refused, and why:", ""]
        lines += [f"- `{t.recipe}`, {t.channels} channels: {why}" for t, why in failed.items()]
    return "\n".join(lines) + "\n"


def _costs() -> list[str]:
    """Give a table of what each decoder costs."""
    lines = [
        "What a decoder adds to the ResNet-50's 23.5 million parameters and 8.2 GFLOP, for 21 "
        "classes at",
        "224×224 pixels, a multiply and an add counting as two:",
        "",
        "| decoder | million parameters | GFLOP |",
        "| --- | ---: | ---: |",
    ]
    for decoder in native("decoder"):
        with on_meta():
            model = zoo.build(f"resnet50+{decoder}", num_classes_classification=0).eval()
        with torch.device("meta"), torch.no_grad():  # operations told at a glance are not counted
            cost = summarise(model, (224, 224)).stages[-1]
        lines.append(f"| `{decoder}` | {cost.parameters / 1e6:.1f} | {cost.flops / 1e9:.1f} |")
    return lines


def main() -> None:
    """Try all and write the page."""
    PAGE.write_text(page({trial: problem_of(trial.recipe, trial.channels) for trial in trials()}))
