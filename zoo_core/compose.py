"""Turning a checked recipe into a model, with the weights that were asked for."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace

from zoo_core.assembly import Construction, Request, classification_head, put_together
from zoo_core.catalogue import registry
from zoo_core.errors import (
    ContractError,
    DamagedFileError,
    PluginError,
    PluginWarning,
    WeightsError,
    ZooError,
)
from zoo_core.grammar import Recipe
from zoo_core.labels import class_names
from zoo_core.loader import CATCH, describe, remedy, strict
from zoo_core.manifest import Preprocessing, WeightsEntry
from zoo_core.models.multitask import MultitaskModel
from zoo_core.probe import check_parts
from zoo_core.seeding import Seeds
from zoo_core.store import WeightsFile, fetch, fetch_again
from zoo_core.weights.blank import blank, fillable
from zoo_core.weights.finding import find_entry
from zoo_core.weights.loading import check_settings, classes_of, filling
from zoo_core.weights.report import Fate, LoadReport
from zoo_core.weights.tensorfile import TensorFile


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The file to load, and what is known of it.

    Attributes:
        file: The open file.
        source: What the report calls it.
        entry: What is known of weights of this architecture; ``None`` if nothing is.
        fetched: Whether the file is the entry's, and not a local one.
    """

    file: TensorFile
    source: str
    entry: WeightsEntry | None
    fetched: bool

    @property
    def layout(self) -> str | None:
        """Whose names the file has, if that is known."""
        return self.entry.layout if self.entry is not None and self.fetched else None


class _NotBlankError(Exception):
    """The backbone has to be built with values, which the file's then replace."""


def compose(request: Request) -> MultitaskModel:
    """Assemble a model, and tell the plugins of it.

    Raises:
        ZooError: As ``zoo.build`` says.
    """
    model = assemble(request)
    announce(model, request.recipe)
    return model


def assemble(request: Request) -> MultitaskModel:
    """Build the parts, put them together, load weights, and prove that the parts fit.

    Raises:
        ZooError: As ``zoo.build`` says.
    """
    part = request.recipe.backbone
    if request.weights is not None:
        entry = _entry_or_none(request)
        with TensorFile(request.weights) as file:
            source = str(request.weights)
            weights = _Weights(file=file, source=source, entry=entry, fetched=False)
            return _filled(request, weights)
    if request.pretrained or part.tag is not None:
        entry = find_entry(part.spec, part.tag)
        fetched = fetch(entry, licences=request.licences)
        try:
            return _from_entry(request, entry, fetched)
        except DamagedFileError as error:
            return _from_entry(request, entry, fetch_again(entry, fetched, error))
    model = put_together(request, Seeds(request.seed))
    model.preprocessing = _preprocessing(request, None)
    check_parts(model, request.recipe)
    return model


def _entry_or_none(request: Request) -> WeightsEntry | None:
    """Give what is known of a local file: the preprocessing that its architecture usually has."""
    part = request.recipe.backbone
    try:
        return find_entry(part.spec, part.tag)
    except WeightsError:
        if part.tag is not None:
            raise
        return None


def _from_entry(request: Request, entry: WeightsEntry, fetched: WeightsFile) -> MultitaskModel:
    source = f"{entry.repository} ({entry.revision or 'main, unpinned'})"
    with TensorFile(fetched.path, fetched.sha256) as file:
        return _filled(request, _Weights(file=file, source=source, entry=entry, fetched=True))


def _filled(request: Request, weights: _Weights) -> MultitaskModel:
    """Build a model with the file's values: its backbone blank if that can be, else as always."""
    request = replace(request, weights_entry=weights.entry)
    seeds = Seeds(request.seed)
    try:
        model = _built_and_filled(request, weights, seeds, blank)
    except _NotBlankError:
        model = _built_and_filled(request, weights, seeds, nullcontext)
    model.preprocessing = _preprocessing(request, weights.entry)
    if weights.entry is not None:
        _describe(model, weights.entry, weights.fetched)
    return model


def _built_and_filled(
    request: Request, weights: _Weights, seeds: Seeds, construction: Construction
) -> MultitaskModel:
    is_blank = construction is blank
    try:
        model = put_together(
            request,
            seeds,
            construction=construction,
            classes=lambda backbone: classes_of(weights.file, backbone, weights.layout),
        )
    except ZooError as error:
        if is_blank:
            raise _NotBlankError from error
        raise
    if is_blank and not fillable(model.backbone):
        raise _NotBlankError
    report = _fill(model, weights, request.recipe, is_blank)
    if model.classifier is not None and model.classifier.weight.is_meta:
        model.classifier = classification_head(model.classifier, seeds)
    model.load_report = _with_the_rest(model, replace(report, source=weights.source))
    # A saved model tells it on: where a local file lay is nobody's business.
    model.weights_source = weights.source if weights.fetched else weights.file.path.name
    return model


def _fill(model: MultitaskModel, weights: _Weights, recipe: Recipe, is_blank: bool) -> LoadReport:
    """Load the weights and, while they are being read, prove that the parts fit."""
    if weights.entry is not None and weights.fetched:
        check_settings(model.backbone, weights.entry)
    fits = model.classifier is not None and model.classifier.in_features == (
        model.backbone.pooled_channels
    )
    headless = "the model has no classification head"
    if model.classifier is not None:
        headless = "the head reads an attended map of another length"
    begun = filling(
        model.backbone,
        weights.file,
        weights.layout,
        head=model.classifier if fits else None,
        headless=headless,
        report_as="backbone.",
    )
    try:
        check_parts(model, recipe)
    except ContractError as error:
        if is_blank:
            raise _NotBlankError from error
        raise
    return begun.finish()


def _describe(model: MultitaskModel, entry: WeightsEntry, fetched: bool) -> None:
    """Take over what is known of the weights."""
    if fetched:
        model.licence = entry.licence  # a local file may be anybody's
    assert model.load_report is not None
    filled = {fate.name for fate in model.load_report.loaded}
    same = model.num_classes_classification == entry.classes
    if entry.labels and same and "classifier.weight" in filled:
        model.labels = {"classification": class_names(entry.labels)}


def _preprocessing(request: Request, entry: WeightsEntry | None) -> Preprocessing:
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


def _with_the_rest(model: MultitaskModel, report: LoadReport) -> LoadReport:
    """Give the report with every tensor of the model that the file had nothing for."""
    told = {fate.name for fate in (*report.loaded, *report.adapted, *report.random)}
    rest = tuple(
        Fate(name, tensor.numel(), f"nothing in the file fits the {name.partition('.')[0]}")
        for name, tensor in model.state_dict().items()
        if name not in told
    )
    return replace(report, random=report.random + rest)


def announce(model: MultitaskModel, recipe: Recipe) -> None:
    """Tell the plugins of a model."""
    for distribution, call in registry.loader.call("zoo_model_built", model=model, recipe=recipe):
        try:
            call()
        except CATCH as error:
            problem = f"plugin {distribution}: zoo_model_built: {describe(error)}"
            if strict():
                raise PluginError(problem) from error
            warnings.warn(f"{problem} {remedy(distribution)}", PluginWarning, stacklevel=4)
