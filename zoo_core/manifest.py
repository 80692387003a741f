"""What registry files say: weights of components, named models, and pins of colliding names."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zoo_core.errors import RegistryError
from zoo_core.spec import NAME

LAYOUTS: Final = ("timm", "torchvision", "hf-vit", "hf-dinov2", "hf-clip", "openai-clip")
ACTIVATIONS: Final = ("gelu", "quick_gelu")
INTERPOLATIONS: Final = ("nearest", "bilinear", "bicubic")
CROP_MODES: Final = ("center", "squash", "border")
LABELS: Final = ("imagenet-1k",)
SHIPPED: Final = "registry.yaml of zoo-core"

Rule = Callable[[Any], str | None]


def _like(pattern: str, what: str, flags: int = re.ASCII) -> Rule:
    whole = re.compile(pattern, flags)

    def problem(value: Any) -> str | None:
        fits = isinstance(value, str) and whole.fullmatch(value)
        return None if fits else f"{value!r} is not {what}"

    return problem


def _one_of(*choices: str) -> Rule:
    return lambda value: None if value in choices else f"{value!r} is none of {', '.join(choices)}"


def _positive(kinds: type | tuple[type, ...], what: str, most: float = math.inf) -> Rule:
    def problem(value: Any) -> str | None:
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return (
            None
            if number and 0 < value < math.inf and value <= most
            else f"{value!r} is not {what}"
        )

    return problem


def _or_none(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{value!r} is no text"


def _number(value: Any) -> str | None:
    return None if isinstance(value, int | float) else f"{value!r} is no number"


def _preprocessing(value: Any) -> str | None:
    if not isinstance(value, Preprocessing):
        return f"{value!r} is no Preprocessing"
    numbers = (int, float)
    problems = {
        "size": _each(value.size, _positive(int, "a positive number of pixels"), 2),
        "crop": _positive(numbers, "a positive number")(value.crop),
        "crop_mode": _one_of(*CROP_MODES)(value.crop_mode),
        "interpolation": _one_of(*INTERPOLATIONS)(value.interpolation),
        "mean": _each(value.mean, _number),
        "std": _each(value.std, _positive(numbers, "a positive number")),
    }
    return next((f"{name}: {problem}" for name, problem in problems.items() if problem), None)


def _each(values: Any, rule: Rule, count: int | None = None) -> str | None:
    if not isinstance(values, tuple | list) or len(values) != (count or len(values)):
        return f"{values!r} is no tuple" + (f" of {count}" if count else "")
    return next((problem for problem in map(rule, values) if problem), None)


_PART: Final = r"(?!.*(?:\.\.|--))\w[\w.-]*"

# What becomes part of a path, a URL or a model has to be right however an entry came to be.
RULES: Final[Mapping[str, Rule]] = {
    "component": _like(
        rf"([A-Z0-9][\w.-]*:)?({NAME.pattern})",
        "a component, 'name' or 'distribution:name'",
        re.ASCII | re.IGNORECASE,
    ),
    "tag": _like(r"[\w-]+", "a tag of letters, digits, '_' and '-'"),
    "repository": _like(f"{_PART}/{_PART}", "a repository 'owner/name'"),
    "filename": _like(
        rf"{_PART}\.safetensors", "the name of a safetensors file, such as 'model.safetensors'"
    ),
    "revision": _or_none(_like("[0-9a-f]{40}", "a commit of 40 lower-case hexadecimal digits")),
    "sha256": _or_none(_like("[0-9a-f]{64}", "a hash of 64 lower-case hexadecimal digits")),
    "size": _or_none(_positive(int, "a positive number of bytes", most=10**15)),
    "activation": _or_none(_one_of(*ACTIVATIONS)),
    "eps": _or_none(_positive((int, float), "a positive number")),
    "classes": _or_none(_positive(int, "a positive number of classes")),
    "layout": _text,
    "labels": _or_none(_text),
    "licence": _or_none(_text),
    "source": _text,
    "preprocessing": _preprocessing,
}


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
        component: The component's name, plain or qualified.
        tag: What tells these weights from others of the component: ``a1_in1k``.
        repository: Repository on the Hugging Face Hub.
        filename: File in the repository, ``.safetensors``.
        revision: Commit of the repository, 40 hexadecimal digits; ``None`` while nobody has
            read it from the Hub ("unpinned").
        sha256: Hash of the file, 64 hexadecimal digits; ``None`` while unpinned.
        size: Bytes of the file; ``None`` while unpinned.
        layout: Whose names the tensors have.
        activation: ``gelu`` or ``quick_gelu``; ``None`` where the layout tells.
        eps: The layer norms' epsilon; ``None`` where the layout tells.
        preprocessing: What the weights were made for.
        classes: Classes of the classifier in the file; ``None`` without one.
        labels: Name of the list of class names: ``imagenet-1k``.
        licence: SPDX identifier.
        source: Where these figures were read.
        provider: The distribution that gives the entry; empty for a registry file.
        origin: Where the entry was read: the path of a user's file, "registry.yaml of zoo-core"
            or "plugin zoo-foo 1.2"; entries that differ in this alone are equal.

    Raises:
        RegistryError: If a value cannot be right, naming entry and field.
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
    activation: str | None = None
    eps: float | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: int | None = None
    labels: str | None = None
    licence: str | None = None
    provider: str = ""
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            problem = rule(getattr(self, name))
            if problem:
                raise RegistryError(f"weights {self.name!r}: {name}: {problem}")

    @property
    def name(self) -> str:
        """``component.tag``, as recipes write it."""
        return f"{self.component}.{self.tag}"

    @property
    def pinned(self) -> bool:
        """Whether revision and hash are known beforehand."""
        return self.revision is not None and self.sha256 is not None


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A recipe under a name of its own, with heads and options.

    Attributes:
        name: What ``zoo build`` calls it.
        recipe: The recipe it stands for.
        classes: Number of classes of each head, ``classification`` and ``segmentation``; 0 for no
            such head, and left out for the default.
        options: Options of its parts, by role or by a part's plain name.
        in_channels: Channels of the pictures; ``None`` for the default.
        image_size: Height and width in pixels; ``None`` for the default.
        summary: One line for ``zoo list``.
        origin: Where it was read, as of a :class:`WeightsEntry`.
    """

    name: str
    recipe: str
    classes: Mapping[str, int] = field(default_factory=dict, hash=False)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    in_channels: int | None = None
    image_size: tuple[int, int] | None = None
    summary: str = ""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one registry file says.

    Attributes:
        weights: Entries in the file's order; a component's first one is its default.
        models: Named models in the file's order.
        pins: Component name to the distribution that is meant by the plain name.
    """

    weights: tuple[WeightsEntry, ...] = ()
    models: tuple[NamedModel, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)


def shipped_manifest() -> Path:
    """Give the path of the zoo's own registry.yaml, in a wheel or in a checkout."""
    package = Path(__file__).parent
    wheel = package / "registry.yaml"
    return wheel if wheel.exists() else package.parent / "registry.yaml"


def config_directory() -> Path:
    """Give the user's configuration directory: ``~/.config/zoo`` on Linux.

    It is the one of ``click.get_app_dir``, which would cost users of the Python side the import of
    click; a relative ``XDG_CONFIG_HOME`` counts as none.
    """
    if sys.platform == "win32":
        home = os.environ.get("APPDATA", "~")
    elif sys.platform == "darwin":
        home = "~/Library/Application Support"
    else:
        home = os.environ.get("XDG_CONFIG_HOME", "")
        home = home if Path(home).is_absolute() else "~/.config"
    return Path(home).expanduser() / "zoo"


def user_manifests() -> list[Path]:
    """Give the user's registry files, the one that wins first.

    They are the one that ``ZOO_REGISTRY`` names, whether it exists or not, and ``registry.yaml``
    in the configuration directory if there is one.
    """
    named = os.environ.get("ZOO_REGISTRY")
    paths = [Path(named)] if named else []
    own = config_directory() / "registry.yaml"
    if own.exists() and own not in paths:
        paths.append(own)
    return paths


def read_manifest(path: Path) -> Manifest:
    """Read a registry file.

    Raises:
        RegistryError: If the file cannot be read or breaks a rule, with line and column: unknown
            or repeated keys, anchors, wrong types or values, or more than a megabyte.
    """
    from zoo_core.manifest_reader import Reader

    return Reader(path, SHIPPED if path == shipped_manifest() else str(path)).manifest()
