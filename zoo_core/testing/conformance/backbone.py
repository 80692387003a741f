"""Rules of backbones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo_core.contracts import Backbone, ChannelSchedule
from zoo_core.errors import InputError
from zoo_core.loader import CATCH, describe
from zoo_core.testing.conformance.comparing import ROUNDING, difference, shape, share
from zoo_core.testing.conformance.modules import listed, untrained
from zoo_core.testing.conformance.rules import BrokenRuleError, SkippedRuleError, require, rule
from zoo_core.testing.conformance.subject import BackboneSubject, Size, noise

SIZES: tuple[Size, ...] = ((64, 64), (65, 97), (33, 47), (96, 40))
SMALL: tuple[Size, ...] = ((31, 17), (7, 5), (1, 1))


@rule("backbone")
def construction(subject: BackboneSubject) -> None:
    """It is constructed, and has a channel schedule."""
    module = subject.make()
    change = (
        "derive it from zoo_core.Backbone, and let get_channel_schedule() give a ChannelSchedule"
    )
    require(
        isinstance(module, Backbone) and isinstance(module.get_channel_schedule(), ChannelSchedule),
        expected="a Backbone with a ChannelSchedule",
        found=type(module).__name__,
        change=change,
    )


@rule("backbone")
def sizes(subject: BackboneSubject) -> None:
    """Its maps are [B, channels, ceil(H / stride), ceil(W / stride)], of odd sizes too."""
    module = subject.make().eval()
    for size in SIZES:
        check_maps(module, noise(2, 3, *size))


@rule("backbone")
def small_pictures(subject: BackboneSubject) -> None:
    """It takes pictures of a few pixels, or refuses them by an InputError."""
    module = subject.make().eval()
    for size in SMALL:
        try:
            with torch.no_grad():
                module(noise(1, 3, *size))
        except InputError:
            continue
        except CATCH as error:
            raise BrokenRuleError(
                expected=f"maps of a picture of {size[0]}×{size[1]}, or an InputError",
                found=describe(error),
                change="pad what is too small, or raise zoo_core.errors.InputError, saying the "
                "least size",
            ) from error


@rule("backbone")
def channels(subject: BackboneSubject) -> None:
    """With in_channels it takes pictures of 1 and 4 channels."""
    require(
        subject.accepts("in_channels"),
        expected="a constructor that takes in_channels",
        found="none",
        change="add in_channels=3 to the constructor, for pictures of any number of channels",
    )
    for count in (1, 4):
        check_maps(subject.make(in_channels=count).eval(), noise(1, count, 64, 64))


def check_maps(module: nn.Module, pictures: Tensor) -> None:
    """Check that a backbone gives the maps that its schedule promises."""
    assert isinstance(module, Backbone)
    schedule = ChannelSchedule(module.get_channel_schedule())
    with torch.no_grad():
        maps = module(pictures)
    batch, _, height, width = pictures.shape
    promised = [
        f"{batch}×{channels}×{-(-height // stride)}×{-(-width // stride)}"
        for channels, stride in zip(schedule, schedule.strides, strict=True)
    ]
    found = [shape(item) for item in maps] if isinstance(maps, list) else [shape(maps)]
    require(
        isinstance(maps, list) and found == promised,
        expected=f"a list of maps {', '.join(promised)} for pictures of {height}×{width}",
        found=f"{type(maps).__name__} of {', '.join(found)}",
        change="pad pictures at the right and bottom, and let get_channel_schedule() say what "
        "forward gives",
    )


@rule("backbone")
def pooled(subject: BackboneSubject) -> None:
    """forward_features gives the maps of forward, and a vector of pooled_channels."""
    module = subject.make_ready()
    assert isinstance(module, Backbone)
    with torch.no_grad():
        features = module.forward_features(*subject.inputs(2))
        maps = module(*subject.inputs(2))
    change = "let forward_features return zoo_core.Features(maps, pooled), both of one pass"
    require(
        isinstance(features, tuple) and len(features) == 2,
        expected="Features, maps and a pooled vector",
        found=shape(features),
        change=change,
    )
    gap = difference(features[0], maps)
    require(
        gap < ROUNDING,
        expected="the same maps of forward_features and of forward",
        found=f"maps that differ by {share(gap)}",
        change=change,
    )
    wanted = f"2×{module.pooled_channels}"
    require(
        shape(features[1]) == wanted,
        expected=f"a pooled vector {wanted}",
        found=shape(features[1]),
        change="override pooled_channels where the vector is not the last map's average",
    )


@rule("backbone")
def map_gradients(subject: BackboneSubject) -> None:
    """Without the pooled vector, the maps alone train every parameter."""
    module = subject.make(pooled=False)
    missing = untrained(module, lambda: list(module(*subject.inputs(2))))
    if missing:  # what nothing trains is another rule's
        module.zero_grad()
        by_none = untrained(module, lambda: subject.run(module, subject.inputs(2)))
        missing = [name for name in missing if name not in by_none]
    require(
        not missing,
        expected="a gradient from the maps at every parameter",
        found=f"none, or only zeros, at {listed(missing)}",
        change="take pooled: bool = True in the constructor, and leave out what only the pooled "
        "vector needs where it is false",
    )


@rule("backbone")
def input_size(subject: BackboneSubject) -> None:
    """It takes the picture of input_size that its catalogue describes it at."""
    if subject.spec is None:
        raise SkippedRuleError("it is in no catalogue")
    side = subject.spec.input_size
    check_maps(subject.make().eval(), noise(1, 3, side, side))
