"""The sizes of ConvMixer that ``birdhouse/…`` names; no torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import Final


@dataclass(frozen=True)
class Size:
    """A size of ConvMixer; for the fields see :class:`birdhouse.convmixer.ConvMixer`."""

    width: int
    depth: int
    kernel_size: int
    patch_size: int

    @property
    def arguments(self) -> dict[str, int]:
        """The arguments of the constructor."""
        return asdict(self)

    @property
    def parameters(self) -> int:
        """How many parameters it has, for colour pictures and without a classifier."""
        stem = 3 * self.patch_size**2 * self.width
        block = self.width * (self.kernel_size**2 + self.width)
        biases_and_norms = 3 * self.width * (1 + 2 * self.depth)
        return stem + self.depth * block + biases_and_norms


WIDTHS: Final = (256, 512, 768, 1024, 1536)
DEPTHS: Final = (8, 16, 20, 32)
KERNEL_SIZES: Final = (5, 7, 9)
PATCH_SIZES: Final = (7, 14)

SIZES: Final[dict[str, Size]] = {
    "test_convmixer": Size(width=16, depth=4, kernel_size=3, patch_size=4),
    **{
        f"convmixer_{width}_{depth}_k{kernel}_p{patch}": Size(width, depth, kernel, patch)
        for width, depth, kernel, patch in product(WIDTHS, DEPTHS, KERNEL_SIZES, PATCH_SIZES)
    },
}
"""Every size by its name; ``zoo check`` takes a source's names that begin with ``test_``."""
