"""Turning a checked recipe into a model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from torch import nn

from zoo_core.catalogue import registry
from zoo_core.contracts import Attention, Backbone, ChannelSchedule, Decoder
from zoo_core.errors import PluginError, PluginWarning, WeightsError
from zoo_core.grammar import Recipe
from zoo_core.labels import class_names
from zoo_core.loader import CATCH, describe, remedy, strict
from zoo_core.manifest import Preprocessing, WeightsEntry
from zoo_core.models.multitask import MultitaskModel
from zoo_core.probe import check_parts
from zoo_core.seeding import Seeds
from zoo_core.targets import construct
from zoo_core.weights import Fate, LoadReport, classes_in, fetch, find_entry, load

CLASSES = 1000
SEGMENTATION_CLASSES = 21


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``zoo.build`` was asked for, checked; see there."""

    recipe: Recipe
    num_classes_classification: int | None = None
    num_classes_segmentation: int | None = None
    pretrained: bool = False
    weights: str | PathLike[str] | None = None
    in_channels: int = 3
    image_size: int | tuple[int, int] | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The file to load, and what is known of it."""

    file: str | PathLike[str]
    source: str
    entry: WeightsEntry | None
    fetched: bool


def compose(request: Request) -> MultitaskModel:
    """Assemble a model, and tell the plugins of it.

    Raises:
        ZooError: As ``zoo.build`` says.
    """
    model = assemble(request)
    _announce(model, request.recipe)
    return model


def assemble(request: Request) -> MultitaskModel:
    """Build the parts, put them together, load weights, and prove that the parts fit.

    Raises:
        ZooError: As ``zoo.build`` says.
    """
    weights = _find_weights(request)
    recipe = request.recipe
    wants_segmentation = recipe.decoder is not None and request.num_classes_segmentation != 0
    seeds = Seeds(request.seed)
    backbone = _backbone(request, seeds)
    schedule = ChannelSchedule(backbone.get_channel_schedule())
    segmentation = request.num_classes_segmentation
    if segmentation is None and wants_segmentation:
        segmentation = SEGMENTATION_CLASSES
    decoder: Decoder | None = None
    if recipe.decoder is not None and wants_segmentation:
        wired = {"backbone_channels": schedule, "output_channels": segmentation}
        with seeds.part(recipe.decoder.spec.name):
            decoder = construct(recipe.decoder.spec, recipe.decoder.options, **wired)
    attention = _attentions(recipe, schedule, seeds)
    with seeds.part("classification"):
        model = MultitaskModel(
            backbone,
            attention,
            decoder,
            num_classes_classification=_classes(request, weights, backbone),
            num_classes_segmentation=segmentation,
        )
    model.recipe = recipe
    model.preprocessing = _preprocessing(request, weights)
    check_parts(model, recipe)
    if weights is not None:
        _load(model, weights)
    return model


def _find_weights(request: Request) -> _Weights | None:
    part = request.recipe.backbone
    if request.weights is not None:
        entry = _entry_or_none(request)
        return _Weights(
            file=request.weights, source=str(request.weights), entry=entry, fetched=False
        )
    if not request.pretrained and part.tag is None:
        return None
    entry = find_entry(part.spec, part.tag)
    revision = entry.revision or "main, unpinned"
    source = f"{entry.repository} ({revision})"
    return _Weights(file=fetch(entry), source=source, entry=entry, fetched=True)


def _entry_or_none(request: Request) -> WeightsEntry | None:
    """Give what is known of a local file: the preprocessing that its architecture usually has."""
    part = request.recipe.backbone
    try:
        return find_entry(part.spec, part.tag)
    except WeightsError:
        if part.tag is not None:
            raise
        return None


def _backbone(request: Request, seeds: Seeds) -> Backbone:
    part = request.recipe.backbone
    wired: dict[str, Any] = {"in_channels": request.in_channels}
    if request.image_size is not None:
        wired["image_size"] = request.image_size

    def constructed(pooled: bool) -> Backbone:
        with seeds.part(part.spec.name):
            backbone: Backbone = construct(part.spec, part.options, pooled=pooled, **wired)
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


def _attentions(
    recipe: Recipe, schedule: ChannelSchedule, seeds: Seeds
) -> dict[int, list[nn.Module]]:
    placed: dict[int, list[nn.Module]] = {}
    names: list[str] = []
    for part in recipe.attention:
        for level in part.placed(len(schedule)):
            name = f"{part.spec.name}@{level}"
            names.append(name)
            with seeds.part(f"{name}#{names.count(name)}"):
                channels = schedule[level - 1]
                module: Attention = construct(part.spec, part.options, in_channels=channels)
            placed.setdefault(level, []).append(module)
    return placed


def _classes(request: Request, weights: _Weights | None, backbone: Backbone) -> int:
    if request.num_classes_classification is not None:
        return request.num_classes_classification
    if weights is not None:
        return classes_in(weights.file, backbone) or CLASSES
    return CLASSES


def _preprocessing(request: Request, weights: _Weights | None) -> Preprocessing:
    entry = weights.entry if weights else None
    side = request.recipe.backbone.spec.input_size
    known = entry.preprocessing if entry else Preprocessing(size=(side, side))
    if request.image_size is not None:
        size = request.image_size
        known = replace(known, size=(size, size) if isinstance(size, int) else size)
    return for_channels(known, request.in_channels)


def for_channels(known: Preprocessing, channels: int) -> Preprocessing:
    """Give mean and deviation for another number of channels: averaged for one, else repeated."""

    def fitted(values: tuple[float, ...]) -> tuple[float, ...]:
        if len(values) == channels:
            return values
        if channels == 1:
            return (sum(values) / len(values),)
        return tuple(values[channel % len(values)] for channel in range(channels))

    return replace(known, mean=fitted(known.mean), std=fitted(known.std))


def _load(model: MultitaskModel, weights: _Weights) -> None:
    fits = model.classifier is not None and model.classifier.in_features == (
        model.backbone.pooled_channels
    )
    headless = "the model has no classification head"
    if model.classifier is not None:
        headless = "the head reads an attended map of another length"
    head = model.classifier if fits else None
    report = load(
        model.backbone,
        weights.file,
        weights.entry.layout if weights.entry and weights.fetched else None,
        head=head,
        headless=headless,
        report_as="backbone.",
    )
    model.load_report = _with_the_rest(model, replace(report, source=weights.source))
    entry = weights.entry
    if entry is None:
        return
    if weights.fetched:
        model.licence = entry.licence  # a local file may be anybody's
    filled = {fate.name for fate in model.load_report.loaded}
    same = model.num_classes_classification == entry.classes
    if entry.labels and same and "classifier.weight" in filled:
        model.labels = {"classification": class_names(entry.labels)}


def _with_the_rest(model: MultitaskModel, report: LoadReport) -> LoadReport:
    """Give the report with every tensor of the model that the file had nothing for."""
    told = {fate.name for fate in (*report.loaded, *report.adapted, *report.random)}
    rest = tuple(
        Fate(name, tensor.numel(), f"nothing in the file fits the {name.partition('.')[0]}")
        for name, tensor in model.state_dict().items()
        if name not in told
    )
    return replace(report, random=report.random + rest)


def _announce(model: MultitaskModel, recipe: Recipe) -> None:
    for distribution, call in registry.loader.call("zoo_model_built", model=model, recipe=recipe):
        try:
            call()
        except CATCH as error:
            problem = f"plugin {distribution}: zoo_model_built: {describe(error)}"
            if strict():
                raise PluginError(problem) from error
            warnings.warn(f"{problem} {remedy(distribution)}", PluginWarning, stacklevel=4)
