"""Building the parts of a checked recipe and putting them together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any

from torch import nn

from zoo_core.contracts import Attention, Backbone, ChannelSchedule, Decoder
from zoo_core.grammar import Part, Recipe
from zoo_core.manifest import WeightsEntry
from zoo_core.models.multitask import MultitaskModel
from zoo_core.seeding import Seeds
from zoo_core.targets import component_class, construct

CLASSES = 1000
SEGMENTATION_CLASSES = 21

Construction = Callable[[], AbstractContextManager[None]]
Making = Callable[[str, Callable[[], Any]], Any]


def make(role: str, construct: Callable[[], Any]) -> Any:
    """Construct a part in its role, ``backbone``, ``attention`` or ``decoder``."""
    return construct()


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``zoo.build`` was asked for, checked; see there.

    Attributes:
        weights_entry: What is known of the weights that the backbone will be filled with.
    """

    recipe: Recipe
    num_classes_classification: int | None = None
    num_classes_segmentation: int | None = None
    pretrained: bool = False
    weights: str | PathLike[str] | None = None
    licences: tuple[str, ...] | None = None
    in_channels: int = 3
    image_size: int | tuple[int, int] | None = None
    seed: int | None = None
    weights_entry: WeightsEntry | None = None


def put_together(
    request: Request,
    seeds: Seeds,
    *,
    construction: Construction = nullcontext,
    making: Making = make,
    classes: Callable[[Backbone], int | None] = lambda backbone: None,
) -> MultitaskModel:
    """Build a model with initial values.

    Args:
        request: What was asked for.
        seeds: Where each part's random numbers come from.
        construction: Within what the backbone and the classification head are constructed, the
            parts that weights may fill.
        making: Constructs each part, where its random numbers are its own.
        classes: Gives the classes of those weights, if there are any.

    Raises:
        ZooError: As ``zoo.build`` says.
    """
    recipe = request.recipe
    backbone = _backbone(request, seeds, construction, making)
    schedule = ChannelSchedule(backbone.get_channel_schedule())
    decoder: Decoder | None = None
    segmentation = request.num_classes_segmentation
    if recipe.decoder is not None and segmentation != 0:
        segmentation = SEGMENTATION_CLASSES if segmentation is None else segmentation
        wired = {"backbone_channels": schedule, "output_channels": segmentation}
        with seeds.part(recipe.decoder.spec.name):
            part = partial(construct, recipe.decoder.spec, recipe.decoder.options, **wired)
            decoder = making("decoder", part)
    attention = _attentions(recipe, schedule, decoder, seeds, making)
    wanted = request.num_classes_classification
    with seeds.part("classification"), construction():
        model = MultitaskModel(
            backbone,
            attention,
            decoder,
            num_classes_classification=classes(backbone) or CLASSES if wanted is None else wanted,
            num_classes_segmentation=segmentation,
        )
    model.recipe = recipe
    return model


def classification_head(blank: nn.Linear, seeds: Seeds) -> nn.Linear:
    """Build a classification head with initial values, as :func:`put_together` does."""
    with seeds.part("classification"):
        return nn.Linear(blank.in_features, blank.out_features)


def _backbone(
    request: Request, seeds: Seeds, construction: Construction, making: Making
) -> Backbone:
    part = request.recipe.backbone
    wired: dict[str, Any] = {"in_channels": request.in_channels}
    if request.weights_entry is not None:
        cls = component_class(part.spec)
        assert issubclass(cls, Backbone)
        wired |= cls.constructed_for(request.weights_entry)
    if request.image_size is not None:
        wired["image_size"] = request.image_size

    def constructed(pooled: bool) -> Backbone:
        whole = partial(construct, part.spec, part.options, pooled=pooled, **wired)
        with seeds.part(part.spec.name), construction():
            backbone: Backbone = making("backbone", whole)
        return backbone

    if part.spec.channels:
        return constructed(_reads_pooled(request, len(part.spec.channels)))
    backbone = constructed(_reads_pooled(request, None))
    count = len(backbone.get_channel_schedule())
    if _reads_pooled(request, None) != _reads_pooled(request, count):
        backbone = constructed(_reads_pooled(request, count))
    return backbone


def _reads_pooled(request: Request, count: int | None) -> bool:
    """Whether classification reads the backbone's own vector, not an attended map.

    Args:
        request: What was asked for.
        count: How many maps the backbone gives; ``None`` while that is not known.
    """
    last = {"last", "all", str(count)}
    attends_last = any(last & set(part.levels.split(",")) for part in request.recipe.attention)
    return request.num_classes_classification != 0 and not attends_last


def levels_of(part: Part, count: int, decoder: Decoder | None) -> list[int]:
    """Give the levels that an attention stands on; ``@all`` means those that the decoder reads."""
    levels = part.placed(count)
    if part.levels != "all" or decoder is None:
        return levels
    return [level for level in levels if decoder.reads(level)]


def _attentions(
    recipe: Recipe,
    schedule: ChannelSchedule,
    decoder: Decoder | None,
    seeds: Seeds,
    making: Making,
) -> dict[int, list[nn.Module]]:
    placed: dict[int, list[nn.Module]] = {}
    names: list[str] = []
    for part in recipe.attention:
        for level in levels_of(part, len(schedule), decoder):
            name = f"{part.spec.name}@{level}"
            names.append(name)
            with seeds.part(f"{name}#{names.count(name)}"):
                channels = schedule[level - 1]
                whole = partial(construct, part.spec, part.options, in_channels=channels)
                module: Attention = making("attention", whole)
            placed.setdefault(level, []).append(module)
    return placed
