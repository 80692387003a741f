"""What all data sets have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from zoo_core.data.chance import Chance
from zoo_core.data.samples import Sample
from zoo_core.errors import InputError

Transform = Callable[..., Any]


@dataclass(frozen=True)
class Raw:
    """A sample before its transform.

    Attributes:
        image: The picture, a tensor ``[C, H, W]`` if it is synthetic.
        label: Its class.
        mask: The class of each pixel, ``[H, W]``.
    """

    image: Image.Image | Tensor
    label: int | None = None
    mask: NDArray[Any] | Tensor | None = None


class SampleDataset(Dataset[Sample]):
    """A data set of :class:`Sample`: ``"image"``, and ``"label"``, ``"mask"`` or both.

    Pictures are floating point ``[C, H, W]``, labels int64 ``[]`` and masks int64 ``[H, W]``.

    Args:
        transform: A :class:`Transforms`, or anything that takes a picture and gives its tensor, or
            that takes a picture and a mask and gives both, such as transforms of
            ``torchvision.transforms.v2``. ``None``: pictures stay as large as they are, with
            values from 0 to 1.

    Attributes:
        labels: Class names of each head, as a model's ``labels`` are.
    """

    labels: dict[str, tuple[str, ...]]

    def __init__(self, transform: Transform | None = None) -> None:
        self.transform = transform
        self._chance = Chance()

    @abstractmethod
    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int, seed: int = 0) -> None:
        """Make what transforms draw from torch's generator depend on seed, epoch and index only.

        From then on, samples are the same with any number of workers, and in a run that goes on in
        the middle of an epoch. Call it before each epoch; workers that stay alive are told too.
        Until it is called, torch's generator is used as it is; the ``Trainer`` seeds that for each
        sample in the same way, and needs no call.

        Raises:
            InputError: If one is no whole number from 0.
        """
        self._chance.set(epoch, seed)

    def __getitem__(self, index: int) -> Sample:
        """Give one sample.

        Raises:
            IndexError: If there is no such sample.
            DataError: If a file of it cannot be used.
            InputError: If the transform cannot take it, or does not give tensors that fit.
        """
        number = range(len(self))[index]
        raw = self._load(number)
        with self._chance.of(number):
            try:
                image, mask = self._transformed(raw)
            except InputError as error:
                raise InputError(f"{self._name(number)}: {error}") from error
        sample = Sample(image=image)
        if raw.label is not None:
            sample["label"] = torch.tensor(raw.label)
        if mask is not None:
            sample["mask"] = mask
        return sample

    @abstractmethod
    def _load(self, index: int) -> Raw:
        """Give a sample before its transform."""

    def _name(self, index: int) -> str:
        """Give a sample's name for messages."""
        return f"sample {index}"

    def _transformed(self, raw: Raw) -> tuple[Tensor, Tensor | None]:
        if raw.mask is None:
            image = raw.image if self.transform is None else self.transform(raw.image)
            return _image(image), None
        mask = tv_tensors.Mask(raw.mask)
        pair = (raw.image, mask) if self.transform is None else self.transform(raw.image, mask)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(
                f"the transform must give a picture and a mask, not {type(pair).__name__}"
            )
        return _fitting(_image(pair[0]), pair[1])


def _image(value: object) -> Tensor:
    if isinstance(value, Image.Image):
        value = F.to_dtype(F.pil_to_tensor(value), torch.float32, scale=True)
    if not isinstance(value, Tensor):
        raise InputError(f"the transform must give a tensor, not {type(value).__name__}")
    return value.as_subclass(Tensor)


def _fitting(image: Tensor, mask: object) -> tuple[Tensor, Tensor]:
    if not isinstance(mask, Tensor):
        raise InputError(f"the transform must give the mask as a tensor, not {type(mask).__name__}")
    numbers = mask.as_subclass(Tensor).to(torch.int64)
    if numbers.dim() == 3 and len(numbers) == 1:
        numbers = numbers[0]
    if numbers.shape != image.shape[-2:]:
        raise InputError(
            f"the transform gave a picture {list(image.shape)}, but a mask {list(numbers.shape)}"
        )
    return image, numbers
