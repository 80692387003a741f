"""Preparing pictures, beside torchvision's transforms."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from zoo_core.labels import class_names
from zoo_core.manifest import Preprocessing
from zoo_core.pictures import prepare, prepare_whole, to_picture, to_tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(90, 70), (70, 90), (64, 64), (129, 57), (33, 200)]


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    bands = [Image.effect_noise(size, 90) for _ in mode if mode == "RGB"]
    return Image.merge("RGB", bands) if bands else Image.effect_noise(size, 90)


def normalised(picture: Image.Image, how: Preprocessing) -> torch.Tensor:
    values = F.to_dtype(F.pil_to_tensor(picture), torch.float32, scale=True)
    return F.normalize(values, list(how.mean), list(how.std))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_the_centre_and_the_whole_are_torchvisions(
    size: tuple[int, int], interpolation: str
) -> None:
    picture = noise(size)
    how = Preprocessing(size=(48, 48), crop=0.875, interpolation=interpolation, mean=MEAN, std=STD)
    mode = InterpolationMode(interpolation)
    resized = F.resize(picture, [54], mode)
    assert torch.equal(prepare(picture, how), normalised(F.center_crop(resized, [48, 48]), how))
    assert torch.equal(prepare_whole(picture, how), normalised(F.resize(picture, [48], mode), how))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_values_become_the_picture_that_they_were(mode: str) -> None:
    picture = noise((31, 17), mode)
    channels = len(picture.getbands())
    how = Preprocessing(
        size=(17, 31), crop=1.0, interpolation="bilinear",
        mean=(0.0,) * channels, std=(1.0,) * channels,
    )  # fmt: skip
    values = to_tensor(picture, how)
    assert values.shape == (channels, 17, 31)
    assert to_picture(values).tobytes() == picture.tobytes()
    assert to_picture(values).mode == mode


def test_class_names_are_torchvisions() -> None:
    assert list(class_names("imagenet-1k")) == ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
