"""A sample over all of timm's architectures, composed with a decoder on the meta device."""

from __future__ import annotations

import pytest
import torch

import zoo_core as zoo
from zoo_timm.names import architectures

SAMPLE = architectures()[::7]


@pytest.mark.long
@pytest.mark.parametrize("name", SAMPLE)
def test_an_architecture_composes_with_a_decoder_at_any_size(name: str) -> None:
    with torch.device("meta"):
        model = zoo.build(f"timm/{name}+unet", num_classes_segmentation=3).eval()
    schedule = model.backbone.get_channel_schedule()
    for height, width in [(224, 224), (237, 251)]:
        images = torch.empty(2, 3, height, width, device="meta")
        output = model(images)
        assert output["classification"].shape == (2, 1000)
        assert output["segmentation"].shape == (2, 3, height, width)
        assert [tuple(tapped.shape) for tapped in model.backbone(images)] == [
            (2, channels, -(-height // stride), -(-width // stride))
            for channels, stride in zip(schedule, schedule.strides, strict=True)
        ]
