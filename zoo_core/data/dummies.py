"""Synthetic data sets, which need no files, and which models can learn."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zoo_core.data.arguments import check_whole, height_and_width
from zoo_core.data.base import Raw, SampleDataset, Transform
from zoo_core.data.drawing import Form, colours_of, patterns_of, rectangles, spread


class DummyClassificationDataset(SampleDataset):
    """Noisy patterns of patches, one pattern a class.

    Samples depend on their index and ``seed`` only; the patterns do not depend on the seed, so a
    data set of another seed validates one. Classes take turns. A sample is ``{"image": [C, H, W]
    from 0 to 1, "label": []}``.

    Args:
        num_samples: Number of samples.
        image_size: Side, or height and width, in pixels.
        num_classes: Number of classes.
        channels: Channels of the pictures.
        seed: Another seed gives other noise.
        transform: What becomes of each picture, a tensor.

    Attributes:
        classes: Names of the classes, by number.
        class_to_idx: Number of each class.
        labels: ``{"classification": classes}``.
        targets: Class of each sample.

    Raises:
        InputError: If an argument cannot be.
    """

    def __init__(
        self,
        num_samples: int = 100,
        image_size: int | tuple[int, int] = (224, 224),
        num_classes: int = 10,
        channels: int = 3,
        seed: int = 0,
        transform: Transform | None = None,
    ) -> None:
        super().__init__(transform)
        check_whole("num_classes", num_classes, least=1)
        self._form = Form(num_samples, height_and_width("image_size", image_size), channels, seed)
        self._patterns = patterns_of(num_classes, channels)
        self.num_classes = num_classes
        self.classes = tuple(map(str, range(num_classes)))
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.labels = {"classification": self.classes}
        self.targets = [index % num_classes for index in range(num_samples)]

    def __len__(self) -> int:
        return self._form.num_samples

    def _load(self, index: int) -> Raw:
        label = self.targets[index]
        image = 0.25 + 0.5 * spread(self._patterns[label], self._form.size)
        image += 0.1 * self._form.noise(self._form.generator(index))
        return Raw(image.clamp_(0, 1), label)


class DummySegmentationDataset(SampleDataset):
    """Rectangles on a grey ground, each class in a colour of its own.

    Samples depend on their index and ``seed`` only; the colours do not depend on the seed, so a
    data set of another seed validates one. A sample is ``{"image": [C, H, W] from 0 to 1, "mask":
    [H, W]}``; class 0 is the ground.

    Args:
        num_samples: Number of samples.
        image_size: Side, or height and width, in pixels.
        num_classes: Number of classes, the ground among them.
        channels: Channels of the pictures.
        seed: Another seed gives other rectangles.
        transform: What becomes of each picture, a tensor, and its mask.

    Attributes:
        classes: Names of the classes, by number.
        class_to_idx: Number of each class.
        labels: ``{"segmentation": classes}``.
        ignore_index: 255; no pixel has it.

    Raises:
        InputError: If an argument cannot be.
    """

    ignore_index: Final = 255

    def __init__(
        self,
        num_samples: int = 100,
        image_size: int | tuple[int, int] = (224, 224),
        num_classes: int = 21,
        channels: int = 3,
        seed: int = 0,
        transform: Transform | None = None,
    ) -> None:
        super().__init__(transform)
        check_whole("num_classes", num_classes, least=1)
        self._form = Form(num_samples, height_and_width("image_size", image_size), channels, seed)
        self._colours = colours_of(num_classes, channels)
        self.num_classes = num_classes
        self.classes = tuple(map(str, range(num_classes)))
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.labels = {"segmentation": self.classes}

    def __len__(self) -> int:
        return self._form.num_samples

    def _load(self, index: int) -> Raw:
        generator = self._form.generator(index)
        mask = rectangles(index, self.num_classes, self._form.size, generator)
        image = self._colours[mask].permute(2, 0, 1) + 0.05 * self._form.noise(generator)
        return Raw(image.clamp_(0, 1).contiguous(), mask=mask)


class DummyMultitaskDataset(SampleDataset):
    """Coloured rectangles on the noisy pattern of a class: a label and a mask.

    The pattern is that of :class:`DummyClassificationDataset`, and the rectangles are those of
    :class:`DummySegmentationDataset`. A sample is ``{"image": [C, H, W] from 0 to 1, "label": [],
    "mask": [H, W]}``.

    Args:
        num_samples: Number of samples.
        image_size: Side, or height and width, in pixels.
        num_classes: Number of patterns.
        num_classes_segmentation: Number of classes of the mask, the ground among them.
        channels: Channels of the pictures.
        seed: Another seed gives other noise and rectangles.
        transform: What becomes of each picture, a tensor, and its mask.

    Attributes:
        classes: Names of the patterns, by number.
        class_to_idx: Number of each pattern.
        labels: The names for each head.
        targets: Pattern of each sample.
        ignore_index: 255; no pixel has it.

    Raises:
        InputError: If an argument cannot be.
    """

    ignore_index: Final = 255

    def __init__(
        self,
        num_samples: int = 100,
        image_size: int | tuple[int, int] = (224, 224),
        num_classes: int = 10,
        num_classes_segmentation: int = 21,
        channels: int = 3,
        seed: int = 0,
        transform: Transform | None = None,
    ) -> None:
        super().__init__(transform)
        self._grounds = DummyClassificationDataset(
            num_samples, image_size, num_classes, channels, seed
        )
        self._objects = DummySegmentationDataset(
            num_samples, image_size, num_classes_segmentation, channels, seed
        )
        self.num_classes = num_classes
        self.num_classes_segmentation = num_classes_segmentation
        self.classes = self._grounds.classes
        self.class_to_idx = self._grounds.class_to_idx
        self.labels = self._grounds.labels | self._objects.labels
        self.targets = self._grounds.targets

    def __len__(self) -> int:
        return len(self._grounds)

    def _load(self, index: int) -> Raw:
        ground, objects = self._grounds._load(index), self._objects._load(index)
        assert isinstance(ground.image, Tensor)
        assert isinstance(objects.image, Tensor)
        assert isinstance(objects.mask, Tensor)
        image = torch.where(objects.mask > 0, objects.image, ground.image)
        return Raw(image, ground.label, objects.mask)
