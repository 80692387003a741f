"""``zoo birdhouse``, and the source whose sizes it lists."""

from __future__ import annotations

import json

import click
import pytest
import torch
import zoo_core as zoo
from click.testing import CliRunner

import birdhouse
from birdhouse.convmixer import ConvMixer
from birdhouse.sizes import SIZES, Size


def ask(*arguments: str) -> str:
    cli = click.Group("zoo")
    birdhouse.zoo_register_commands(cli)
    done = CliRunner().invoke(cli, ["birdhouse", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_all_sizes_are_listed_the_smallest_first() -> None:
    lines = ask().splitlines()
    assert len(lines) == len(SIZES) == 121
    assert lines[0] == "birdhouse/test_convmixer                 2,800 parameters"
    assert lines[1] == "birdhouse/convmixer_256_8_k5_p7        626,176 parameters"


def test_sizes_up_to_a_limit_are_listed() -> None:
    shown = json.loads(ask("--at-most", "0.7", "--json"))
    assert [row["name"] for row in shown] == [
        "birdhouse/test_convmixer",
        "birdhouse/convmixer_256_8_k5_p7",
        "birdhouse/convmixer_256_8_k7_p7",
    ]
    assert max(row["parameters"] for row in shown) <= 700_000
    assert [row["width"] for row in shown] == [16, 256, 256]


def test_the_numbers_of_parameters_are_true() -> None:
    for size in (SIZES["test_convmixer"], Size(512, 20, 9, 14)):
        with torch.device("meta"):
            backbone = ConvMixer(**size.arguments)
        assert size.parameters == sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize("name", ["test_convmixer", "convmixer_1536_32_k9_p14"])
def test_the_source_describes_what_it_builds(name: str) -> None:
    spec = zoo.registry.backbones[f"birdhouse/{name}"]
    with torch.device("meta"):
        schedule = ConvMixer(**spec.kwargs).get_channel_schedule()
    assert (tuple(schedule), schedule.strides) == (spec.channels, spec.strides)
