"""Rules of decoders."""

from __future__ import annotations

import torch
from torch import nn

from zoo_core.contracts import ChannelSchedule, Decoder
from zoo_core.testing.conformance.comparing import shape
from zoo_core.testing.conformance.rules import require, rule, trying
from zoo_core.testing.conformance.subject import SCHEDULES, DecoderSubject, Size

SIZES: tuple[Size, ...] = ((64, 96), (65, 97), (33, 47), (31, 70))


@rule("decoder")
def construction(subject: DecoderSubject) -> None:
    """It is constructed with backbone_channels and output_channels."""
    module = subject.make()
    require(
        isinstance(module, Decoder)
        and subject.accepts("backbone_channels")
        and subject.accepts("output_channels"),
        expected="a Decoder whose constructor takes backbone_channels and output_channels",
        found=type(module).__name__,
        change="derive it from zoo_core.Decoder, and take these two first",
    )


@rule("decoder")
def schedules(subject: DecoderSubject) -> None:
    """It takes the maps of every backbone: pyramids, dilated ones, ViTs, two maps and one."""
    for what, given in SCHEDULES.items():
        schedule = ChannelSchedule(*given)
        change = "read channels and strides from the schedule; zoo_core.pyramid makes pyramids"
        with trying(f"a decoder for {what}", change):
            module = subject.make(backbone_channels=schedule).eval()
            check_logits(subject, module, schedule, (64, 96), what)


@rule("decoder")
def sizes(subject: DecoderSubject) -> None:
    """Its logits have the output_size that is asked for, odd ones too."""
    module = subject.make().eval()
    for size in SIZES:
        check_logits(subject, module, subject.schedule, size, "the usual maps")


def check_logits(
    subject: DecoderSubject, module: nn.Module, schedule: ChannelSchedule, size: Size, what: str
) -> None:
    """Check the logits that a decoder gives for pictures of a size."""
    with torch.no_grad():
        logits = module(subject.maps(schedule, 2, size), output_size=size)
    wanted = f"2×{subject.classes}×{size[0]}×{size[1]}"
    require(
        shape(logits) == wanted,
        expected=f"logits {wanted} of {what}, for output_size={size}",
        found=shape(logits),
        change="resize the logits to output_size at the end",
    )


@rule("decoder")
def own_size(subject: DecoderSubject) -> None:
    """Without output_size, its logits have the shallowest map's size times its stride."""
    for schedule in (subject.schedule, ChannelSchedule((16,) * 4, (14,) * 4)):
        module = subject.make(backbone_channels=schedule).eval()
        maps = subject.maps(schedule, 2, (65, 97))
        with torch.no_grad():
            logits = module(maps)
        height, width = (side * schedule.strides[0] for side in maps[0].shape[-2:])
        wanted = f"2×{subject.classes}×{height}×{width}"
        require(
            shape(logits) == wanted,
            expected=f"logits {wanted} without output_size, the first map being "
            f"{shape(maps[0])} of stride {schedule.strides[0]}",
            found=shape(logits),
            change="keep the first stride of the schedule, and multiply the first map's size by it",
        )


@rule("decoder")
def classes(subject: DecoderSubject) -> None:
    """Its logits have output_channels channels: one, and many."""
    for count in (1, 21):
        with torch.no_grad():
            logits = subject.make(output_channels=count).eval()(subject.inputs(1))
        found = logits.shape[1] if isinstance(logits, torch.Tensor) and logits.ndim == 4 else None
        require(
            found == count,
            expected=f"{count} channels for output_channels={count}",
            found=shape(logits),
            change="let the last layer have output_channels channels",
        )


@rule("decoder")
def plain_channels(subject: DecoderSubject) -> None:
    """Plain channels instead of a schedule mean strides 4, 8, 16, 32."""
    change = "begin with schedule = zoo_core.ChannelSchedule(backbone_channels)"
    with trying("a decoder for a plain list of channels", change):
        module = subject.make(backbone_channels=list(subject.schedule)).eval()
        check_logits(subject, module, subject.schedule, (64, 96), "maps of a plain list")


@rule("decoder")
def reads(subject: DecoderSubject) -> None:
    """Its method reads tells whether the logits depend on a map."""
    module = subject.make_ready()
    assert isinstance(module, Decoder)
    maps = [x.requires_grad_() for x in subject.inputs(2)]
    module([x.clone() for x in maps]).square().sum().backward()
    for level, x in enumerate(maps, 1):
        depends = x.grad is not None and bool(x.grad.any())
        require(
            module.reads(level) == depends,
            expected=f"reads({level}) to be {depends}, since the logits "
            f"{'depend' if depends else 'do not depend'} on map {level}",
            found=str(module.reads(level)),
            change="override reads(level), or read the map",
        )
