"""``zoo.build``: everything that can be refused without torch is refused here."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from zoo_core.catalogue import registry
from zoo_core.errors import InputError, OptionError, UsageError
from zoo_core.grammar import WIRED, Recipe, parse, with_options

if TYPE_CHECKING:
    from os import PathLike

    from zoo_core.manifest import NamedModel
    from zoo_core.models import MultitaskModel

Options = Mapping[str, Any]


def build(
    recipe: str,
    *,
    num_classes_classification: int | None = None,
    num_classes_segmentation: int | None = None,
    pretrained: bool = False,
    weights: str | PathLike[str] | None = None,
    licences: Collection[str] | None = None,
    in_channels: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    seed: int | None = None,
    backbone: Options | None = None,
    attention: Options | Iterable[Options] | None = None,
    decoder: Options | None = None,
    **parts: Options,
) -> MultitaskModel:
    """Compose a model, in training mode, from a recipe such as ``resnet50+cbam@all+unet``.

    Args:
        recipe: ``backbone[+attention…][+decoder]``, each part ``[dist:]name[.tag][@levels]``, or
            the name of a model in a registry file, whose settings are the defaults of what follows.
        num_classes_classification: Classes of the classification head; by default as many as the
            weights have, else 1,000; 0 for no such head.
        num_classes_segmentation: Classes of the segmentation head; by default 21 if the recipe has
            a decoder; 0 for no such head.
        pretrained: Fill the backbone, and the classification head where it fits, with the
            backbone's default weights. A tag in the recipe does so with the weights it names.
        weights: A local ``.safetensors`` file to fill them from instead.
        licences: The only licences that fetched weights may have, by their SPDX identifiers; a
            local file's is not known, and not asked for.
        in_channels: Channels of the pictures; 3 by default.
        image_size: Side, or height and width, in pixels, for models that must know it.
        seed: Fixes the initial weights: each part's depend on this and on its own name only. By
            default it is drawn from torch's generator.
        backbone: Options of the backbone.
        attention: Options of the attention, or of each attention in turn.
        decoder: Options of the decoder.
        **parts: Options of a part by its plain name: ``cbam={"reduction": 8}``.

    Raises:
        UsageError: If the recipe or an option is wrong.
        WeightsError: If weights cannot be found, fetched or matched.
        ContractError: If a component does not do what its kind must.
    """
    if not isinstance(recipe, str):
        raise OptionError(f"a recipe is text such as 'resnet50+cbam+unet', not {recipe!r}")
    _check_keywords(parts)
    _check_options(backbone=backbone, decoder=decoder)
    classes = {
        "classification": num_classes_classification,
        "segmentation": num_classes_segmentation,
    }
    for head, count in classes.items():
        _check_whole(f"num_classes_{head}", count, least=0)
    _check_whole("in_channels", in_channels, least=1)
    if isinstance(image_size, tuple | list) and len(image_size) != 2:
        raise InputError(f"image_size is one side, or height and width, not {image_size!r}")
    for side in image_size if isinstance(image_size, tuple | list) else (image_size,):
        _check_whole("image_size", side, least=1)
    if seed is not None and not isinstance(seed, int):
        raise InputError(f"seed must be a whole number, not {seed!r}")
    if isinstance(licences, str) or not all(isinstance(one, str) for one in licences or ()):
        raise InputError(f"licences are a collection of names such as 'mit', not {licences!r}")
    model = registry.named_model(recipe.strip())
    full = with_options(
        parse(recipe, registry) if model is None else _expand(model),
        backbone=backbone,
        attention=attention,
        decoder=decoder,
        named=parts,
    )
    if model is not None:
        given = {head: count for head, count in classes.items() if count is not None}
        classes |= {**model.classes, **given}
        in_channels = model.in_channels if in_channels is None else in_channels
        image_size = model.image_size if image_size is None else image_size
    _check_heads(full, classes)
    from zoo_core.assembly import Request
    from zoo_core.compose import compose

    request = Request(
        recipe=full,
        num_classes_classification=classes["classification"],
        num_classes_segmentation=classes["segmentation"],
        pretrained=pretrained,
        weights=weights,
        licences=None if licences is None else tuple(licences),
        in_channels=3 if in_channels is None else in_channels,
        image_size=tuple(image_size) if isinstance(image_size, list) else image_size,
        seed=seed,
    )
    return compose(request)


def _expand(model: NamedModel) -> Recipe:
    """Give the recipe of a named model, with its options.

    Raises:
        UsageError: If it does not fit what is installed, naming the model and its origin.
    """
    roles = {role: model.options.get(role) for role in WIRED}
    named = {part: given for part, given in model.options.items() if part not in roles}
    try:
        recipe = with_options(parse(model.recipe, registry), **roles, named=named)
        _check_heads(recipe, model.classes)
    except UsageError as error:
        problem = f"named model {model.name!r} of {model.origin}: {error}"
        raise type(error)(problem) from error
    return recipe


def _check_heads(recipe: Recipe, classes: Mapping[str, int | None]) -> None:
    name = recipe.canonical
    classification, segmentation = classes.get("classification"), classes.get("segmentation")
    if recipe.decoder is None and segmentation:
        raise OptionError(
            f"num_classes_segmentation (--seg-classes) is {segmentation}, but there is no decoder "
            f"in {name!r}; add one, such as '+unet'"
        )
    if classification == 0 and (recipe.decoder is None or segmentation == 0):
        second = (
            "it has no decoder"
            if recipe.decoder is None
            else ("num_classes_segmentation (--seg-classes) is 0 too")
        )
        raise OptionError(
            f"the model has no head: in {name!r} num_classes_classification (--classes) is 0, and "
            f"{second}"
        )


def _check_options(**roles: object) -> None:
    for role, options in roles.items():
        if options is not None and not isinstance(options, Mapping):
            raise OptionError(f"{role}= takes the options of the {role} as a dict, not {options!r}")


def _check_keywords(parts: Mapping[str, object]) -> None:
    for name, value in parts.items():
        if not isinstance(value, Mapping):
            known = [k for k in inspect.signature(build).parameters if k not in ("recipe", "parts")]
            near = get_close_matches(name, known, 1) or [k for k in known if k.startswith(name)]
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
            raise OptionError(f"build has no argument {name}={value!r}; {hint}")


def _check_whole(name: str, value: object, *, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and value >= least):  # type: ignore[operator]
        raise InputError(f"{name} must be a whole number from {least}, not {value!r}")
