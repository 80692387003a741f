"""Every architecture that timm lists, as a backbone for every native decoder."""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final

import torch

from matrix.trying import CHANNELS, CLASSES, SIZES, native, problem_of
from zoo_core import ChannelSchedule, registry
from zoo_core.errors import ZooError
from zoo_core.loader import describe
from zoo_core.shapes import on_meta
from zoo_core.targets import construct

PAGE: Final = Path(__file__).parent.parent / "docs" / "matrix-timm.md"

Shapes = tuple[tuple[int, ...], ...]


def try_architecture(name: str) -> dict[str, str]:
    """Tell what is wrong with an architecture and each native decoder, if anything.

    The maps are looked at with every number of channels. One decoder is composed with it by
    ``zoo.build``, another for each architecture; the others are run on maps of the same shapes.
    """
    decoders = native("decoder")
    composed = decoders[sum(map(ord, name)) % len(decoders)]
    try:
        schedule, maps = _maps(name)
    except (ZooError, RuntimeError, ValueError) as error:
        return dict.fromkeys(decoders, describe(error))
    problems = {
        decoder: _problem_of_decoder(decoder, tuple(schedule), schedule.strides, maps)
        for decoder in decoders
    }
    problems[composed] = problem_of(f"timm/{name}+{composed}", 3) or problems[composed]
    return problems


def _maps(name: str) -> tuple[ChannelSchedule, tuple[Shapes, ...]]:
    """Give the schedule of an architecture and the shapes of its maps at every size.

    Raises:
        ValueError: If they are not what the schedule promises.
    """
    spec = registry.backbones[f"timm/{name}"]
    found: list[Shapes] = []
    for channels in CHANNELS:
        with on_meta():
            backbone = construct(spec, {}, in_channels=channels).eval()
            schedule = ChannelSchedule(backbone.get_channel_schedule())
            for height, width in SIZES if channels == 3 else SIZES[1:2]:
                maps = backbone(torch.empty(2, channels, height, width))
                shapes = tuple(tuple(item.shape) for item in maps)
                promised = tuple(
                    (2, depth, -(-height // stride), -(-width // stride))
                    for depth, stride in zip(schedule, schedule.strides, strict=True)
                )
                if shapes != promised:
                    raise ValueError(
                        f"maps of {height}×{width} with {channels} channels are {shapes}, not "
                        f"{promised}"
                    )
                if channels == 3:
                    found.append(shapes)
    return schedule, tuple(found)


@cache
def _problem_of_decoder(
    decoder: str, channels: tuple[int, ...], strides: tuple[int, ...], maps: tuple[Shapes, ...]
) -> str:
    wired = {
        "backbone_channels": ChannelSchedule(channels, strides),
        "output_channels": CLASSES["segmentation"],
    }
    with on_meta():
        try:
            module = construct(registry.decoders[decoder], {}, **wired).eval()
            for size, shapes in zip(SIZES, maps, strict=True):
                logits = module([torch.empty(shape) for shape in shapes], output_size=size)
                expected = (2, CLASSES["segmentation"], *size)
                if tuple(logits.shape) != expected:
                    return f"logits are {tuple(logits.shape)}, not {expected}"
        except (ZooError, RuntimeError, ValueError) as error:
            return describe(error)
    return ""


def page(problems: dict[str, dict[str, str]]) -> str:
    """Give the table of what was tried."""
    import timm

    decoders = native("decoder")
    right = Counter(d for found in problems.values() for d in decoders if not found[d])
    whole = sum(not any(found.values()) for found in problems.values())
    sizes = ", ".join(f"{height}×{width}" for height, width in SIZES)
    lines = [
        "# timm's architectures with every native decoder",
        "",
        f"All {len(problems):,} names that timm {timm.__version__} lists, as backbones, built and "
        "run for their shapes",
        f"(`python -m matrix timm`): maps with 1, 3, 4 and 13 channels, logits at {sizes} pixels.",
        "One decoder each is composed by `zoo.build`; the others are run on maps of those shapes.",
        "What the features are worth is not looked at.",
        "",
        f"{whole:,} names ({whole / len(problems):.1%}) compose with every native decoder.",
        "",
        "| decoder | names | of all |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| `{d}` | {right[d]:,} | {right[d] / len(problems):.1%} |" for d in decoders]
    failed = {name: found for name, found in problems.items() if any(found.values())}
    if failed:
        lines += ["", "What is refused, and why:", ""]
    for name, found in failed.items():
        for why in dict.fromkeys(filter(None, found.values())):
            which = ", ".join(f"`{d}`" for d in decoders if found[d] == why)
            lines.append(f"- `timm/{name}` with {which}: {why}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try all and write the page."""
    from zoo_timm.names import architectures

    names = architectures()
    problems: dict[str, dict[str, str]] = {}
    with multiprocessing.get_context("spawn").Pool(
        initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for name, found in zip(names, pool.imap(try_architecture, names), strict=True):
            problems[name] = found
            if sys.stderr.isatty():
                print(
                    f"\r{len(problems):,} of {len(names):,} {name:60.60}", end="", file=sys.stderr
                )
    PAGE.write_text(page(problems))
