"""Transforms: each step as torchvision does it, for pictures and masks alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

import zoo_core as zoo
from zoo_core.data import SegmentationDataset, Transforms
from zoo_core.errors import InputError
from zoo_core.manifest import Preprocessing
from zoo_core.pictures import prepare

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTO = Image.fromarray(data.chelsea())


@pytest.fixture
def mask() -> Tensor:
    """Numbers of the photograph's size, 300 × 451."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 20, (300, 451), dtype=np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (310, 470)])
@pytest.mark.parametrize(("augment", "normalize"), [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize("jitter", [0.3, (0.2, 0.5, 0.1, 0.1), 0])
def test_steps_are_those_of_torchvision(
    size: tuple[int, int],
    augment: bool,
    normalize: bool,
    jitter: float | tuple[float, float, float, float],
    mask: Tensor,
) -> None:
    """From the same seed, torchvision's steps by hand draw the same and give the same."""
    steps: list[Any] = [v2.ToImage(), v2.Resize(size, antialias=True)]
    if augment:
        steps.append(v2.RandomHorizontalFlip(0.5))
    steps.append(v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True))
    if augment and jitter:
        amounts = jitter if isinstance(jitter, tuple) else (jitter, jitter, jitter, 0.0)
        steps.append(v2.ColorJitter(*amounts))
    if normalize:
        steps.append(v2.Normalize(MEAN, STD))
    theirs = v2.Compose(steps)
    ours = Transforms(size, augment, normalize, jitter=jitter)
    flipped = set()
    for seed in range(4):
        torch.manual_seed(seed)
        expected, _ = theirs(PHOTO, tv_tensors.Mask(mask))
        torch.manual_seed(seed)
        image, numbers = ours(PHOTO, mask)
        torch.testing.assert_close(image, torch.Tensor(expected), rtol=0, atol=2e-6)
        upright = F.resize(mask[None], list(size), InterpolationMode.NEAREST_EXACT)[0].long()
        is_flipped = not torch.equal(numbers, upright)
        assert not is_flipped or torch.equal(numbers, upright.flip(-1))
        flipped.add(is_flipped)
        torch.manual_seed(seed)
        assert torch.equal(ours(PHOTO), image)
    assert flipped == ({False, True} if augment else {False})


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("size", "crop", "interpolation"),
    [
        ((224, 224), 0.875, "bicubic"),
        ((224, 224), 1.0, "bilinear"),
        ((256, 192), 0.9, "bilinear"),
        ((97, 131), 0.95, "bicubic"),
        ((600, 600), 0.9, "bilinear"),
    ],
)
def test_without_augmentation_it_is_what_prediction_prepares(
    size: tuple[int, int], crop: float, interpolation: str, crop_mode: str
) -> None:
    """But for rounding: torch's and Pillow's resizing differ by a level of 255 here and there."""
    known = Preprocessing(
        size=size, crop=crop, crop_mode=crop_mode, interpolation=interpolation, std=(1, 1, 1)
    )
    for name in ("chelsea", "coffee", "rocket"):
        photo = Image.fromarray(getattr(data, name)())
        difference = (Transforms.like(known)(photo) - prepare(photo, known)).abs()
        assert difference.max() <= 1.01 / 255
        assert difference.mean() < 0.01 / 255


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("photo", [PHOTO, PHOTO.transpose(Image.Transpose.ROTATE_90)])
@pytest.mark.parametrize("size", [(224, 224), (100, 333), (640, 480)])
def test_a_mask_lies_where_its_picture_lies(
    size: tuple[int, int], photo: Image.Image, crop_mode: str
) -> None:
    """A picture that shows its own mask still shows it afterwards."""
    rows, columns = np.mgrid[: photo.height, : photo.width]
    numbers = ((rows // 60 + columns // 45) % 2).astype(np.uint8)
    shown = torch.from_numpy(255 * numbers)[None].expand(3, -1, -1)
    transforms = Transforms(
        size, augment=True, normalize=False, crop_mode=crop_mode, crop=0.9, jitter=0,
        interpolation="nearest",
    )  # fmt: skip
    for seed in range(3):
        torch.manual_seed(seed)
        image, mask = transforms(shown, torch.from_numpy(numbers))
        assert image.shape[-2:] == mask.shape == size
        inside = mask != 255
        assert inside.all() or crop_mode == "border"
        assert inside.float().mean() > 0.2
        assert torch.equal(image[0][inside], mask[inside].float())


def test_the_ground_of_a_border_is_ignored(mask: Tensor) -> None:
    transforms = Transforms(200, crop_mode="border", ignore_index=7)
    image, numbers = transforms(PHOTO, mask)
    assert (numbers[:33] == 7).all()
    assert (numbers[-33:] == 7).all()
    assert image[:, :33].abs().max() < 0.01  # the mean colour, normalised
    assert (numbers[40:160] != 7).any()
    plain = Transforms(200, normalize=False, crop_mode="border")(PHOTO)
    assert plain[:, 0, 0].tolist() == pytest.approx(MEAN, abs=1 / 255)
    floating = Transforms(200, crop_mode="border")(torch.rand(3, 50, 90))
    assert floating[:, 0].abs().max() < 1e-5


def test_every_step_can_be_left_out() -> None:
    whole = torch.from_numpy(np.array(PHOTO)).permute(2, 0, 1)
    plain = Transforms(None, normalize=False)(PHOTO)
    torch.testing.assert_close(plain, whole / 255)
    assert plain.dtype == torch.float32
    flipped = Transforms(None, augment=True, normalize=False, flip=1, jitter=0)(PHOTO)
    assert torch.equal(flipped, plain.flip(-1))
    jittered = Transforms(None, augment=True, normalize=False, flip=0)(PHOTO)
    assert not torch.equal(jittered, plain)
    assert (jittered.min() >= 0, jittered.max() <= 1) == (True, True)
    assert Transforms(normalize=False)(PHOTO).shape == (3, 224, 224)
    assert Transforms((60, 40), normalize=False)(PHOTO).shape == (3, 60, 40)


def test_nothing_given_is_changed(mask: Tensor) -> None:
    picture, numbers = torch.rand(3, 300, 451), mask.long()
    before = picture.clone(), numbers.clone(), np.array(PHOTO)
    for resize in (None, 64):
        for augment in (False, True):
            image, out = Transforms(resize, augment, flip=1)(picture, numbers)
            image.zero_()
            out.zero_()
            Transforms(resize, augment)(PHOTO)
    assert torch.equal(picture, before[0])
    assert torch.equal(numbers, before[1])
    assert np.array_equal(np.array(PHOTO), before[2])


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64])
def test_tensors_and_pictures_give_the_same(kind: torch.dtype) -> None:
    expected = Transforms(64)(PHOTO)
    whole = torch.from_numpy(np.array(PHOTO)).permute(2, 0, 1)
    assert torch.equal(Transforms(64)(whole), expected)
    assert torch.equal(Transforms(64)(tv_tensors.Image(whole)), expected)
    assert type(Transforms(64)(tv_tensors.Image(whole))) is Tensor
    floating = Transforms(64)(whole.to(kind) / 255)
    assert floating.dtype == torch.float32
    torch.testing.assert_close(floating, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3), ("L", 1), ("1", 1), ("I;16", 1)],
)
def test_pictures_of_every_mode(mode: str, channels: int) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)
    else:
        picture = PHOTO.convert(mode)
    assert picture.mode == mode
    image = Transforms(64, normalize=False)(picture)
    assert image.shape == (channels, 64, 64)
    colours = PHOTO if channels == 3 else PHOTO.convert("L")
    assert (image - Transforms(64, normalize=False)(colours)).abs().mean() < 0.06


def test_masks_of_every_kind(mask: Tensor) -> None:
    picture = Image.fromarray(mask.numpy())
    palette = picture.copy()
    palette.putpalette([7, 9, 1] * 20)
    expected = Transforms(64)(PHOTO, mask)[1]
    given: list[Any] = [picture, palette, Image.fromarray(mask.numpy().astype(np.uint16)),
                        Image.fromarray(mask.numpy().astype(np.int32)), tv_tensors.Mask(mask),
                        mask.to(torch.int16), mask.to(torch.int32), mask.long()]  # fmt: skip
    for one in given:
        numbers = Transforms(64)(PHOTO, one)[1]
        assert (type(numbers), numbers.dtype) == (Tensor, torch.int64)
        assert torch.equal(numbers, expected)
    many = mask.long() * 3000 + 16_000_000  # beyond what half precision holds
    assert torch.equal(Transforms(64)(PHOTO, many)[1], expected * 3000 + 16_000_000)
    assert Transforms(8)(PHOTO, mask > 3)[1].unique().tolist() == [0, 1]


def test_mean_and_deviation_come_from_a_model() -> None:
    known = Preprocessing(size=(96, 96), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1))
    plain = Transforms(48, normalize=False)(PHOTO)
    expected = F.normalize(plain, [0.5, 0.4, 0.3], [0.2, 0.3, 0.1])
    torch.testing.assert_close(Transforms(48, normalize=known)(PHOTO), expected)
    model = zoo.build("resnet18", num_classes_classification=2)
    model.preprocessing = known
    torch.testing.assert_close(Transforms(48, normalize=model)(PHOTO), expected)
    assert Transforms.like(model)(PHOTO).shape == (3, 96, 96)
    assert Transforms.like(model, resize=32, crop=1.0)(PHOTO).shape == (3, 32, 32)
    assert Transforms.like(model, augment=True).augment
    model.preprocessing = None
    for use in (lambda: Transforms(normalize=model), lambda: Transforms.like(model)):
        with pytest.raises(InputError, match="the model does not know its preprocessing; set"):
            use()
    for use in (lambda: Transforms(normalize=nn.Linear(1, 1)), lambda: Transforms.like("x")):  # type: ignore[arg-type]
        with pytest.raises(InputError, match="normalize is True, False, a model with a prepro"):
            use()


def test_grey_is_normalised_as_a_model_for_grey_has_it() -> None:
    model = zoo.build("resnet18", num_classes_classification=2, in_channels=1)
    grey = PHOTO.convert("L")
    expected = Transforms(32, normalize=model)(grey)
    torch.testing.assert_close(Transforms(32)(grey), expected)
    assert expected.shape == (1, 32, 32)


def test_a_model_trains_on_what_it_will_be_given(put: Callable[..., Path]) -> None:
    """The data set, with a model's transforms, gives what ``zoo predict`` gives the model."""
    model = zoo.build("resnet18", num_classes_classification=2)
    assert model.preprocessing is not None
    file = put("images/1.png", PHOTO, orientation=6)
    put("masks/1.png", np.zeros((300, 451), np.uint8))
    folders = file.parent, file.parent.parent / "masks"
    image, _ = SegmentationDataset(*folders, transform=Transforms.like(model))[0]
    expected = prepare(PHOTO, model.preprocessing)
    assert (image - expected).abs().max() < 1.01 / 255 / min(model.preprocessing.std)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"resize": 0}, "resize must be a whole number from 1, not 0"),
        ({"resize": 2.5}, "resize must be a whole number from 1, not 2.5"),
        ({"resize": (1, 2, 3)}, r"resize is one side, or height and width, not \(1, 2, 3\)"),
        ({"crop_mode": "middle"}, "crop_mode is one of center, squash, border, not 'middle'"),
        ({"interpolation": "area"}, "interpolation is one of nearest, bilinear, bicubic, not 'ar"),
        ({"crop": 0}, "crop must be a number from 0.01 to 1, not 0"),
        ({"flip": 1.5}, "flip must be a number from 0 to 1, not 1.5"),
        ({"flip": float("nan")}, "flip must be a number from 0 to 1, not nan"),
        ({"jitter": -1}, "jitter is one number, or four for brightness, .* all from 0, not -1"),
        (
            {"jitter": (0, 0, 0, 0.7)},
            r"jitter is .* hue \(at most 0.5\), all from 0, not \(0, 0, 0, 0.7\)",
        ),
        ({"jitter": (0, 0)}, r"jitter is one number, or four for .*, not \(0, 0\)"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=f"^{problem}"):
        Transforms(**options)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("cat.jpg",), "a picture is Pillow's, or a tensor .*, not str"),
        ((torch.rand(5, 5),), r"a picture is .*, not \[5, 5\] of torch.float32"),
        ((torch.ones(3, 5, 5, dtype=torch.int64),), r"a picture .* not \[3, 5, 5\] of torch.int64"),
        ((torch.rand(4, 5, 5),), "the picture has 4 channels, but the mean 3 numbers; give norm"),
        ((PHOTO, PHOTO), "a mask is a grey or palette picture, .*, not RGB picture"),
        ((PHOTO, torch.rand(300, 451)), r"a mask is .*, not \[300, 451\] of torch.float32"),
        (
            (PHOTO, torch.ones(451, 300).int()),
            "the picture has 451×300 pixels, but the mask 300×451",
        ),
        ((Image.new("F", (3, 3)),), "floating-point and 32-bit values have no agreed scale"),
    ],
)
def test_what_is_no_picture_is_refused(given: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(InputError, match=f"^{problem}"):
        Transforms(8)(*given)


def test_many_channels_need_their_own_statistics() -> None:
    known = Preprocessing(mean=(0.5,) * 5, std=(0.5,) * 5)
    picture = torch.rand(5, 20, 20)
    assert Transforms(8, normalize=known)(picture).shape == (5, 8, 8)
    assert Transforms(8, normalize=known, augment=True, jitter=0)(picture).shape == (5, 8, 8)
    assert Transforms(8, normalize=False)(picture).shape == (5, 8, 8)
    with pytest.raises(
        InputError, match="jitter is for 1 or 3 channels, not 5; jitter=0 leaves it"
    ):
        Transforms(8, normalize=known, augment=True)(picture)


def test_narrow_pictures_cannot_keep_their_proportions() -> None:
    thread = Image.new("RGB", (5000, 2))
    assert Transforms(8)(thread).shape == (3, 8, 8)
    for mode in ("center", "border"):
        with pytest.raises(
            InputError, match="a picture of 5000×2 pixels is too narrow to keep its"
        ):
            Transforms(8, crop_mode=mode)(thread)
    assert Transforms(8, crop_mode="border")(Image.new("RGB", (90, 1))).shape == (3, 8, 8)
