"""The options of commands that build a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from zoo_core.cli.completion import RecipeType
from zoo_core.errors import OptionError, SavedModelError, UnknownComponentError, UsageError

if TYPE_CHECKING:
    import torch

    from zoo_core.models import MultitaskModel

F = TypeVar("F", bound=Callable[..., Any])


class CountType(click.IntRange):
    """A whole number that is not too small."""

    name = "whole number"


class SizeType(click.ParamType[Any]):
    """``224``, or ``224x320`` for height and width."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the side, or height and width."""
        sides = str(value).lower().replace("×", "x").split("x")
        if not all(side.isdecimal() and int(side) > 0 for side in sides) or len(sides) > 2:
            self.fail(f"{value!r} is no size; write 224, or 224x320 for height x width", param, ctx)
        return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


class ModelType(RecipeType):
    """A recipe, or the folder of a saved model."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Give names as for a recipe; folders if no name begins so."""
        names = super().shell_complete(ctx, param, incomplete)
        return names or [CompletionItem(incomplete, type="dir")]


def _read_licences(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...] | None:
    licences = [licence.strip() for value in values for licence in value.split(",")]
    if not all(licences):
        raise click.BadParameter("write licences such as apache-2.0,mit", ctx, param)
    return tuple(licences) or None


licence_option = click.option(
    "--license",
    "licences",
    multiple=True,
    callback=_read_licences,
    metavar="ID",
    help="Accept weights under these licences only: apache-2.0,mit. Repeatable.",
)

device_option = click.option(
    "--device", metavar="NAME", help="cpu, cuda or cuda:1.  [default: a GPU if any]"
)

_OPTIONS = [
    click.option(
        "--classes",
        type=CountType(min=0),
        metavar="N",
        help="Classes of the classification head; 0 for none.  [default: as the weights, "
        "else 1000]",
    ),
    click.option(
        "--seg-classes",
        type=CountType(min=0),
        metavar="N",
        help="Classes of the segmentation head; 0 for none.  [default: 21 with a decoder]",
    ),
    click.option("--pretrained", is_flag=True, help="Load the backbone's default weights."),
    click.option(
        "--weights",
        type=click.Path(),
        metavar="FILE",
        help="Load the backbone from a local .safetensors file.",
    ),
    licence_option,
    click.option(
        "--in-channels",
        type=CountType(min=1),
        metavar="N",
        help="Channels of the pictures.  [default: 3]",
    ),
    click.option(
        "--image-size", type=SizeType(), metavar="SIZE", help="Side, or HEIGHTxWIDTH, in pixels."
    ),
    click.option("--seed", type=int, metavar="N", help="Fix the initial weights."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="PART.OPTION=VALUE",
        help="Set an option of a part, named by its role or its name. Repeatable.",
    ),
]


def model_options(command: F) -> F:
    """Add the options that :func:`build_model` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def build_model(
    recipe: str,
    *,
    classes: int | None,
    seg_classes: int | None,
    pretrained: bool,
    weights: str | None,
    licences: tuple[str, ...] | None,
    in_channels: int | None,
    image_size: int | tuple[int, int] | None,
    seed: int | None,
    settings: tuple[str, ...],
) -> MultitaskModel:
    """Build what a command line asked for."""
    from zoo_core.building import build

    return build(
        recipe,
        num_classes_classification=classes,
        num_classes_segmentation=seg_classes,
        pretrained=pretrained,
        weights=weights,
        licences=licences,
        in_channels=in_channels,
        image_size=image_size,
        seed=seed,
        **parse_settings(settings),
    )


def ready_model(model: str, options: dict[str, Any], device: str | None = "cpu") -> MultitaskModel:
    """Give the model of a recipe or of a folder, in eval mode; say on stderr what is random in it.

    Args:
        model: The recipe or the folder.
        options: What the command line gave of :func:`model_options`.
        device: Where it is to run; ``None`` for a GPU, if there is one.

    Raises:
        ZooError: As ``zoo.build`` or ``from_pretrained`` says.
        InputError: If there is no such device.
        UsageError: If there are options for a saved model.
        SavedModelError: If the folder holds none.
    """
    if not Path(model, "config.json").is_file():
        if model.startswith((".", "/", "~")) or Path(model).is_dir():
            raise SavedModelError(f"{model} is no folder with a saved model: no config.json in it")
        if device not in (None, "cpu"):
            _place(device)  # refused before anything is built; and what needs no torch, without it
        try:
            built = build_model(model, **options)
        except UnknownComponentError as error:
            if "+" in model:
                raise
            raise UnknownComponentError(
                f"{error}; and there is no folder of a saved model there"
            ) from error
        if built.load_report is None:
            click.echo(
                "zoo: the weights are random, so the answers mean nothing; add "
                "--pretrained or --weights FILE",
                err=True,
            )
        else:
            _warn_of_random_heads(built)
        return built.eval().to(_place(device))
    given = [name for name, value in options.items() if _is_given(value)]
    if given:
        names = {"settings": "set", "licences": "license"}
        flags = ", ".join(f"--{names.get(name, name).replace('_', '-')}" for name in given)
        raise UsageError(f"{flags}: a saved model is used as it is; leave this away")
    place = _place(device)
    from zoo_core.models import MultitaskModel

    return MultitaskModel.from_pretrained(model).to(place)


def _place(device: str | None) -> torch.device:
    from zoo_core.hardware import find_device

    return find_device(device)


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != ()


def _warn_of_random_heads(model: MultitaskModel) -> None:
    assert model.load_report is not None
    random = {fate.name.partition(".")[0] for fate in model.load_report.random}
    parts = {"attention", "classifier", "decoder"} & random
    if parts:
        click.echo(
            f"zoo: these parts are random, so what they say means nothing: "
            f"{', '.join(sorted(parts))}",
            err=True,
        )


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Turn ``part.option=value`` into the keyword arguments of ``zoo.build``.

    Raises:
        OptionError: If one is not of this form.
    """
    parts: dict[str, Any] = {}
    for setting in settings:
        place, equals, text = setting.partition("=")
        part, dot, option = place.rpartition(".")
        if not equals or not dot or not part or not option:
            raise OptionError(
                f"--set {setting!r} is not of the form PART.OPTION=VALUE, such as cbam.reduction=8"
            )
        parts.setdefault(part, {})[option] = _value(setting, text)
    numbered = {key: value for key, value in parts.items() if key.startswith("attention.")}
    if numbered:
        parts = {key: value for key, value in parts.items() if key not in numbered}
        if "attention" in parts:
            raise OptionError("--set attention.… and --set attention.0.… do not go together")
        parts["attention"] = _by_position(numbered)
    return parts


def _by_position(numbered: dict[str, Any]) -> list[dict[str, Any]]:
    positions: dict[int, dict[str, Any]] = {}
    for key, options in numbered.items():
        position = key.removeprefix("attention.")
        if not position.isdecimal() or int(position) > 99:
            raise OptionError(f"--set {key}.…: attentions are numbered from 0: attention.0.…")
        positions[int(position)] = options
    return [positions.get(position, {}) for position in range(max(positions) + 1)]


def _value(setting: str, text: str) -> Any:
    import json
    from contextlib import suppress

    import yaml

    with suppress(ValueError):
        return json.loads(text)  # first, because to YAML 1e-3 is a word
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OptionError(
            f"--set {setting!r}: {text!r} is no value; write one as YAML does, such as 8, 0.5, "
            f"true, word or [64, 32]"
        ) from error
