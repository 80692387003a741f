"""What registry.yaml says: weights of components, and pins that settle name collisions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LAYOUTS: Final = ("timm", "torchvision", "hf-vit", "hf-dinov2", "hf-clip", "openai-clip")
INTERPOLATIONS: Final = ("nearest", "bilinear", "bicubic")
CROP_MODES: Final = ("center", "squash", "border")
LABELS: Final = ("imagenet-1k",)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes a model's input.

    Attributes:
        size: Height and width of the input in pixels.
        crop: Share of the resized picture's shorter side that the centred crop keeps.
        crop_mode: How the picture is resized before that: ``center`` keeps its proportions and
            covers the input, ``squash`` gives up the proportions, and ``border`` keeps them and
            fits all of the picture in, with the mean colour around it.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``.
        mean: Mean of each channel, for values from 0 to 1.
        std: Standard deviation of each channel, for values from 0 to 1.
    """

    size: tuple[int, int] = (224, 224)
    crop: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One file of weights for one component.

    Attributes:
        component: The component's name.
        tag: What tells these weights from others of the component: ``a1_in1k``.
        repository: Repository on the Hugging Face Hub.
        filename: File in the repository, ``.safetensors``.
        revision: Commit of the repository, 40 hexadecimal digits; ``None`` while nobody has
            read it from the Hub ("unpinned").
        sha256: Hash of the file, 64 hexadecimal digits; ``None`` while unpinned.
        size: Bytes of the file; ``None`` while unpinned.
        layout: Whose names the tensors have.
        preprocessing: What the weights were made for.
        classes: Classes of the classifier in the file; ``None`` without one.
        labels: Name of the list of class names: ``imagenet-1k``.
        licence: SPDX identifier.
        source: Where these figures were read.
        provider: The distribution that gives the entry; empty for registry.yaml.
    """

    component: str
    tag: str
    repository: str
    source: str
    filename: str = "model.safetensors"
    revision: str | None = None
    sha256: str | None = None
    size: int | None = None
    layout: str = "timm"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: int | None = None
    labels: str | None = None
    licence: str | None = None
    provider: str = ""

    @property
    def name(self) -> str:
        """``component.tag``, as recipes write it."""
        return f"{self.component}.{self.tag}"

    @property
    def pinned(self) -> bool:
        """Whether revision and hash are known beforehand."""
        return self.revision is not None and self.sha256 is not None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one registry file says.

    Attributes:
        weights: Entries in the file's order; a component's first one is its default.
        pins: Component name to the distribution that is meant by the plain name.
    """

    weights: tuple[WeightsEntry, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)


def shipped_manifest() -> Path:
    """Give the path of the zoo's own registry.yaml, in a wheel or in a checkout."""
    package = Path(__file__).parent
    wheel = package / "registry.yaml"
    return wheel if wheel.exists() else package.parent / "registry.yaml"


def user_manifest() -> Path | None:
    """Give the registry file that ``ZOO_REGISTRY`` names, or ``None``."""
    path = os.environ.get("ZOO_REGISTRY")
    return Path(path) if path else None


def read_manifest(path: Path) -> Manifest:
    """Read a registry file.

    Raises:
        RegistryError: If the file cannot be read or breaks a rule, with line and column: unknown
            or repeated keys, anchors, wrong types or values, or more than a megabyte.
    """
    from zoo_core.manifest_reader import Reader

    return Reader(path).manifest()
