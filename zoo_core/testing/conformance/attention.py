"""Rules of attentions."""

from __future__ import annotations

import torch

from zoo_core.contracts import Attention
from zoo_core.testing.conformance.comparing import shape
from zoo_core.testing.conformance.rules import require, rule, trying
from zoo_core.testing.conformance.subject import AttentionSubject, Size, noise

CHANNELS = (16, 64, 96, 512)
SIZES: tuple[Size, ...] = ((1, 1), (1, 6), (7, 7), (9, 14), (56, 40))


@rule("attention")
def construction(subject: AttentionSubject) -> None:
    """It is constructed with in_channels alone."""
    module = subject.make()
    require(
        isinstance(module, Attention),
        expected="an Attention",
        found=type(module).__name__,
        change="derive it from zoo_core.Attention, and take in_channels first",
    )


@rule("attention")
def levels(subject: AttentionSubject) -> None:
    """It keeps the shape of the map of any level: of many channels and sizes."""
    for channels in CHANNELS:
        with trying(f"an attention for {channels} channels", "work for any number of channels"):
            module = subject.make(in_channels=channels).eval()
        for size in SIZES if channels == CHANNELS[1] else SIZES[2:3]:
            x = noise(2, channels, *size)
            change = "give back [B, C, H, W] as it came, whatever C, H and W are"
            with trying(f"{shape(x)}, as the map that it is given", change), torch.no_grad():
                refined = module(x)
            require(
                shape(refined) == shape(x),
                expected=f"{shape(x)}, as the map that it is given",
                found=shape(refined),
                change=change,
            )
