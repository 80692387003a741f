"""``config.json`` of a saved model: read strictly, the same rules for what is written.

Nothing that it says is imported or run: a recipe names components of the catalogue, and options
are plain values.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from zoo_core._version import __version__
from zoo_core.errors import SavedModelError
from zoo_core.manifest import CROP_MODES, INTERPOLATIONS, Preprocessing

FORMATS: Final = (1, 2)
HEADS: Final = ("classification", "segmentation")
MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 16
_MAX_CLASSES: Final = 10_000_000
_MAX_SIDE: Final = 65_536

# What would break a line or could not be encoded.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PART = re.compile(
    r"(?P<distribution>[A-Za-z0-9][\w.-]*):[A-Za-z0-9_][\w/-]*"
    r"(@(last|all|[0-9]{1,4}(,[0-9]{1,4})*))?"
)
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHECKSUMS = re.compile(r"([0-9a-f]{8}( [0-9a-f]{8})*)?")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked of each part: constructor arguments beside those of its spec."""

    backbone: Mapping[str, Any]
    attention: tuple[Mapping[str, Any], ...]
    decoder: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What pictures the backbone was made for: channels, and side or height and width."""

    channels: int
    size: int | tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class SavedConfig:
    """What ``config.json`` says, every value checked.

    Attributes:
        format: 1, or 2 since there are ``sha256`` and ``checksums``.
        zoo_core: Version of zoo-core that wrote it.
        recipe: The canonical recipe.
        options: What was asked of each part.
        picture: What pictures it is for.
        classes: Classes of each head, 0 for no such head.
        labels: Class names of the heads that have them.
        preprocessing: How pictures become inputs, if that is known.
        weights: The weights that the model began with, if that is known.
        licence: Their licence, if that is known.
        plugins: Version of each distribution that the model needs.
        sha256: Hash of the file of weights; ``None`` in format 1.
        checksums: CRC-32 of each tensor's bytes in the order of their names, which tell the
            tensors that were changed where the hash is wrong; ``None`` in format 1.
    """

    format: int
    zoo_core: str
    recipe: str
    options: Options
    picture: Picture
    classes: Mapping[str, int]
    labels: Mapping[str, tuple[str, ...]]
    preprocessing: Preprocessing | None
    weights: str | None
    licence: str | None
    plugins: Mapping[str, str]
    sha256: str | None = None
    checksums: tuple[str, ...] | None = None

    @property
    def distributions(self) -> dict[str, str]:
        """The distributions that the model needs, with the version if it is known."""
        in_recipe = (_PART.fullmatch(piece) for piece in self.recipe.split("+"))
        return {match["distribution"]: "" for match in in_recipe if match} | dict(self.plugins)


class _WrongError(Exception):
    """A value that breaks a rule; keys are put before it on the way up."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = ""

    def at(self, key: str | int) -> _WrongError:
        step = f"[{key}]" if isinstance(key, int) else str(key)
        joint = "" if not self.place or self.place.startswith("[") else "."
        self.place = f"{step}{joint}{self.place}"
        return self


def read_config(file: Path) -> SavedConfig:
    """Read ``config.json``.

    Raises:
        SavedModelError: If it cannot be read, or breaks a rule, with its file and key.
    """
    try:
        if not file.is_file() and file.exists():  # a pipe, say, which might never end
            raise SavedModelError(f"{file}: cannot be read: it is no file")
        with file.open("rb") as opened:
            read = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise SavedModelError(f"{file}: cannot be read: {error.strerror}") from error
    if len(read) > MAX_BYTES:
        raise SavedModelError(f"{file}: has more than {MAX_BYTES:,} bytes, the most that are read")
    try:
        given = json.loads(read.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except _WrongError as error:
        raise SavedModelError(f"{file}: {error.problem}") from None
    except RecursionError:
        raise SavedModelError(f"{file}: has too many values in one another") from None
    except ValueError as error:
        raise SavedModelError(f"{file}: is no JSON: {' '.join(str(error).split())}") from None
    return check_config(given, str(file))


def check_config(given: object, where: str) -> SavedConfig:
    """Check a configuration, key by key.

    Args:
        given: What JSON gives.
        where: What an error calls it.

    Raises:
        SavedModelError: If it breaks a rule.
    """
    try:
        return _config(given)
    except _WrongError as error:
        place = f"{error.place}: " if error.place else ""
        raise SavedModelError(f"{where}: {place}{error.problem}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        twice = next(name for name, count in Counter(n for n, _ in pairs).items() if count > 1)
        raise _WrongError(f"key {_short(twice)} stands there twice")
    return entries


def _no_number(text: str) -> NoReturn:
    raise _WrongError(f"{text} is no value of JSON")


def _config(given: object) -> SavedConfig:
    if not isinstance(given, dict) or "recipe" not in given:
        raise _WrongError("is not the configuration of a zoo model: no 'recipe' in it")
    number = given.get("format")
    if type(number) is not int or number not in FORMATS:
        written = given.get("zoo_core")
        known = isinstance(written, str) and _VERSION.fullmatch(written)
        by = f", written by zoo-core {written}" if known else ""
        formats = " and ".join(map(str, FORMATS))
        raise _WrongError(
            f"is of format {_short(number)}{by}; zoo-core {__version__} reads {formats}"
        )
    rules = _RULES if number > 1 else {k: r for k, r in _RULES.items() if k not in _SINCE_2}
    values = _keys(given, rules)
    config = SavedConfig(**values)
    _check_together(config)
    return config


def _check_together(config: SavedConfig) -> None:
    """Check what follows from two keys."""
    for head, names in config.labels.items():
        count = config.classes[head]
        if len(names) != count:
            raise _WrongError(f"{len(names)} names for {count} classes").at(head).at("labels")
    shown = config.preprocessing
    for key in ("mean", "std") if shown else ():
        length = len(getattr(shown, key))
        if length != config.picture.channels:
            raise _WrongError(
                f"{length} numbers for {config.picture.channels} channels of picture.channels"
            ).at(f"preprocessing.{key}")


def _keys(given: object, rules: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Check a mapping that has these keys, all of them and no other."""
    if not isinstance(given, dict):
        raise _expected("a mapping", given)
    for key in given:
        if key not in rules:
            raise _WrongError(f"unknown key {_short(key)}; known are {', '.join(rules)}")
    for key in rules:
        if key not in given:
            raise _WrongError(f"key {key!r} is missing")
    return {key: _under(key, rule, given[key]) for key, rule in rules.items()}


def _under(key: str | int, rule: Callable[[Any], Any], value: Any) -> Any:
    try:
        return rule(value)
    except _WrongError as error:
        raise error.at(key) from None


def _expected(what: str, value: object) -> _WrongError:
    return _WrongError(f"{what} is expected here, not {_short(value)}")


def _short(value: object) -> str:
    """Give a value in a few characters, however large it is."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    text = ascii(value) if isinstance(value, str) and _UNFIT.search(value) else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _text(longest: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _expected("text", value)
        if len(value) > longest:
            raise _WrongError(f"{len(value):,} characters; at most {longest:,} are read")
        if _UNFIT.search(value):
            raise _WrongError(f"{_short(value)} has characters that are not for one line of text")
        return value

    return check


def _like(pattern: re.Pattern[str], what: str, longest: int = 200) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = _text(longest)(value)
        if not pattern.fullmatch(text):
            raise _expected(what, value)
        return text

    return check


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _WrongError(f"{_short(value)} is none of {', '.join(choices)}")
        return value

    return check


def _or_null(rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else rule(value)


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise _expected(f"a whole number from {least} to {most:,}", value)
        return value

    return check


def _number(least: float, most: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if type(value) not in (int, float) or not least <= value <= most:
            raise _expected(f"a number from {least:g} to {most:g}", value)
        return value  # type: ignore[no-any-return]

    return check


def _each(rule: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _expected("a list", value)
        return tuple(_under(index, rule, item) for index, item in enumerate(value))

    return check


def _pair(value: Any) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise _expected("a list of height and width", value)
    height, width = _each(_side)(value)
    return height, width


def _size(value: Any) -> int | tuple[int, int]:
    return _pair(value) if isinstance(value, list | tuple) else _side(value)


def _named(rule: Callable[[Any], Any], names: Callable[[Any], str]) -> Callable[[Any], Any]:
    """Check a mapping whose keys are not known beforehand."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _expected("a mapping", value)
        return {names(key): _under(key, rule, item) for key, item in value.items()}

    return check


def _plain(value: Any, depth: int = 4) -> Any:
    """Check a value of JSON; ``depth`` is how deep it stands itself."""
    if depth > MAX_DEPTH:
        raise _WrongError(f"more than {MAX_DEPTH} lists and mappings in one another")
    if isinstance(value, dict):
        return {
            _text(200)(key): _under(key, lambda v: _plain(v, depth + 1), item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _under(index, lambda v: _plain(v, depth + 1), item) for index, item in enumerate(value)
        ]
    if isinstance(value, str):
        return _text(10_000)(value)
    if isinstance(value, int | float) and not (abs(value) < 2**63 and math.isfinite(value)):
        raise _expected("a number of 64 bits", value)
    return value


def _recipe(value: Any) -> str:
    text = _text(10_000)(value)
    for piece in text.split("+"):
        if not _PART.fullmatch(piece):
            raise _WrongError(
                f"{_short(piece)} is no part with its distribution, such as 'zoo-resnet:resnet18'"
            )
    return text


def _labels(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise _expected("a mapping", value)
    return _keys(value, {head: _each(_text(1000)) for head in HEADS if head in value})


def _checksums(value: Any) -> tuple[str, ...]:
    text = _like(_CHECKSUMS, "a row of checksums of eight hexadecimal digits", MAX_BYTES)(value)
    return tuple(text.split())


_side = _whole(1, _MAX_SIDE)
_OPTION_VALUES = _named(_plain, _text(200))

_RULES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "format": int,
    "zoo_core": _like(_VERSION, "a version"),
    "recipe": _recipe,
    "options": lambda value: Options(
        **_keys(
            value,
            {
                "backbone": _OPTION_VALUES,
                "attention": _each(_OPTION_VALUES),
                "decoder": _OPTION_VALUES,
            },
        )
    ),
    "picture": lambda value: Picture(
        **_keys(value, {"channels": _whole(1, _MAX_SIDE), "size": _or_null(_size)})
    ),
    "classes": lambda value: _keys(value, {head: _whole(0, _MAX_CLASSES) for head in HEADS}),
    "labels": _labels,
    "preprocessing": _or_null(
        lambda value: Preprocessing(
            **_keys(
                value,
                {
                    "size": _pair,
                    "crop": _number(0.01, 10),
                    "crop_mode": _one_of(CROP_MODES),
                    "interpolation": _one_of(INTERPOLATIONS),
                    "mean": _each(_number(-1e6, 1e6)),
                    "std": _each(_number(1e-6, 1e6)),
                },
            )
        )
    ),
    "weights": _or_null(_text(2000)),
    "licence": _or_null(_text(200)),
    "plugins": _named(
        _like(_VERSION, "a version"), _like(_DISTRIBUTION, "the name of a distribution")
    ),
    "sha256": _like(_SHA256, "a hash of 64 hexadecimal digits"),
    "checksums": _checksums,
}
_SINCE_2: Final = ("sha256", "checksums")
