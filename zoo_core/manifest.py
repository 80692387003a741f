"""Strict reading of registry.yaml: weights of components, and pins that settle name collisions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from zoo_core.errors import RegistryError

if TYPE_CHECKING:
    import yaml

MAX_BYTES: Final = 1_000_000
LAYOUTS: Final = ("timm", "torchvision", "hf-vit", "hf-dinov2", "hf-clip", "openai-clip")
INTERPOLATIONS: Final = ("nearest", "bilinear", "bicubic")
LABELS: Final = ("imagenet-1k",)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes a model's input.

    Attributes:
        size: Height and width of the input in pixels.
        crop: Share of the resized picture's shorter side that the centred crop keeps.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``.
        mean: Mean of each channel, for values from 0 to 1.
        std: Standard deviation of each channel, for values from 0 to 1.
    """

    size: tuple[int, int] = (224, 224)
    crop: float = 0.875
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
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise RegistryError(f"{path}: {len(text)} bytes; a registry has at most {MAX_BYTES}")
    return _Reader(path).manifest(text)


_T = TypeVar("_T")


class _Reader:
    """Turns YAML nodes into dataclasses, knowing where each node stands."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, node: yaml.Node, problem: str) -> RegistryError:
        mark = node.start_mark
        return RegistryError(f"{self.path}:{mark.line + 1}:{mark.column + 1}: {problem}")

    def manifest(self, text: bytes) -> Manifest:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            for event in yaml.parse(text, Loader=loader):
                if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                    raise self.fail(event, "anchors and aliases are not allowed")
            root = yaml.compose(text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            raise RegistryError(f"{self.path}{where}: {error.problem}") from error
        except yaml.YAMLError as error:
            raise RegistryError(f"{self.path}: no YAML text: {error}") from error
        if root is None:
            return Manifest()
        top = self.mapping(root)
        self.known(root, top, {"weights", "pins"})
        pins = self.mapping(top["pins"]) if "pins" in top else {}
        entries = self.sequence(top["weights"]) if "weights" in top else []
        manifest = Manifest(
            weights=tuple(self.entry(node) for node in entries),
            pins={name: self.string(node) for name, node in pins.items()},
        )
        names = [entry.name for entry in manifest.weights]
        for node, name in zip(entries, names, strict=True):
            if names.count(name) > 1:
                raise self.fail(node, f"weights {name!r} are listed twice")
        return manifest

    def mapping(self, node: yaml.Node) -> dict[str, yaml.Node]:
        if node.id != "mapping":
            raise self.fail(node, f"a mapping is expected here, not a {node.id}")
        result: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.string(key)
            if name in result:
                raise self.fail(key, f"key {name!r} stands here twice")
            result[name] = value
        return result

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        if node.id != "sequence":
            raise self.fail(node, f"a list is expected here, not a {node.id}")
        return list(node.value)

    def known(self, node: yaml.Node, given: Mapping[str, yaml.Node], allowed: set[str]) -> None:
        for name, value in given.items():
            if name not in allowed:
                raise self.fail(value, f"unknown key {name!r}; known: {', '.join(sorted(allowed))}")

    def scalar(self, node: yaml.Node, kind: type[_T], tags: tuple[str, ...], what: str) -> _T:
        short = node.tag.rpartition(":")[2]
        if node.id != "scalar" or short not in tags:
            raise self.fail(node, f"{what} is expected here, not {node.value!r}")
        try:
            return kind(node.value)  # type: ignore[call-arg]
        except ValueError:
            raise self.fail(node, f"{what} is expected here, not {node.value!r}") from None

    def string(self, node: yaml.Node) -> str:
        return self.scalar(node, str, ("str",), "text")

    def integer(self, node: yaml.Node) -> int:
        number = self.scalar(node, int, ("int",), "a whole number")
        if number < 1:
            raise self.fail(node, f"a positive number is expected here, not {number}")
        return number

    def number(self, node: yaml.Node) -> float:
        return self.scalar(node, float, ("int", "float"), "a number")

    def choice(self, *choices: str) -> Callable[[yaml.Node], str]:
        def read(node: yaml.Node) -> str:
            value = self.string(node)
            if value not in choices:
                raise self.fail(node, f"{value!r} is none of {', '.join(choices)}")
            return value

        return read

    def matching(self, pattern: str, what: str) -> Callable[[yaml.Node], str]:
        def read(node: yaml.Node) -> str:
            value = self.string(node)
            if not re.fullmatch(pattern, value):
                raise self.fail(node, f"{value!r} is not {what}")
            return value

        return read

    def unpinned_or(self, read: Callable[[yaml.Node], _T]) -> Callable[[yaml.Node], _T | None]:
        return lambda node: None if node.value == "unpinned" else read(node)

    def pair(self, node: yaml.Node) -> tuple[int, int]:
        if node.id == "scalar":
            side = self.integer(node)
            return side, side
        sides = [self.integer(part) for part in self.sequence(node)]
        if len(sides) != 2:
            raise self.fail(node, "a size is one side, or height and width")
        return sides[0], sides[1]

    def numbers(self, node: yaml.Node) -> tuple[float, ...]:
        return tuple(self.number(part) for part in self.sequence(node))

    def preprocessing(self, node: yaml.Node) -> Preprocessing:
        return self.dataclass(
            node,
            Preprocessing,
            {
                "size": self.pair,
                "crop": self.number,
                "interpolation": self.choice(*INTERPOLATIONS),
                "mean": self.numbers,
                "std": self.numbers,
            },
        )

    def entry(self, node: yaml.Node) -> WeightsEntry:
        path = r"(?!.*\.\.)[\w.-]+"
        return self.dataclass(
            node,
            WeightsEntry,
            {
                "component": self.string,
                "tag": self.matching(r"[\w-]+", "a tag"),
                "repository": self.matching(f"{path}/{path}", "a repository 'owner/name'"),
                "filename": self.matching(rf"{path}\.safetensors", "the name of a safetensors file"),
                "revision": self.unpinned_or(self.matching("[0-9a-f]{40}", "a commit of 40 digits")),
                "sha256": self.unpinned_or(self.matching("[0-9a-f]{64}", "a hash of 64 digits")),
                "size": self.unpinned_or(self.integer),
                "layout": self.choice(*LAYOUTS),
                "preprocessing": self.preprocessing,
                "classes": self.integer,
                "labels": self.choice(*LABELS),
                "licence": self.string,
                "source": self.string,
            },
        )

    def dataclass(
        self, node: yaml.Node, cls: type[_T], readers: Mapping[str, Callable[[yaml.Node], Any]]
    ) -> _T:
        given = self.mapping(node)
        self.known(node, given, set(readers))
        for item in fields(cls):  # type: ignore[arg-type]
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in given:
                raise self.fail(node, f"key {item.name!r} is missing")
        return cls(**{name: readers[name](value) for name, value in given.items()})
