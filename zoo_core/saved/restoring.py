"""Building a saved model again: blank where that can be, then filled from the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from zoo_core._version import __version__
from zoo_core.assembly import Request, put_together
from zoo_core.catalogue import registry
from zoo_core.compose import announce
from zoo_core.errors import DamagedFileError, InputError, SavedModelError, ZooError
from zoo_core.grammar import Part, Recipe, check_options, parse
from zoo_core.loader import CATCH, normalise
from zoo_core.models.multitask import MultitaskModel
from zoo_core.saved.config import HEADS, SavedConfig, read_config
from zoo_core.saved.tensors import Placement, State, changed, fill, settle, state_of
from zoo_core.seeding import Seeds
from zoo_core.weights.blank import blank, built_for_loading, fillable
from zoo_core.weights.report import Fate, LoadReport
from zoo_core.weights.tensorfile import TensorFile


@dataclass(frozen=True, kw_only=True)
class SavedFiles:
    """The files of a saved model.

    Attributes:
        where: What errors call it.
        source: What the report calls it.
        config: Its ``config.json``.
        weights: Its ``model.safetensors``.
        sha256: The hash that the Hub announced of the weights.
    """

    where: str
    source: str
    config: Path
    weights: Path
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Which classes the heads are to have.

    Attributes:
        classification: Classes, 0 for no head, ``None`` for those of the file.
        segmentation: Classes, 0 for no head, ``None`` for those of the file.
        seed: Fixes the initial weights of heads that the file does not have.

    Raises:
        InputError: If a number is none.
    """

    classification: int | None = None
    segmentation: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for head in HEADS:
            count = getattr(self, head)
            if count is not None and (type(count) is not int or count < 0):
                raise InputError(f"num_classes_{head} must be a whole number from 0, not {count!r}")
        if self.seed is not None and type(self.seed) is not int:
            raise InputError(f"seed must be a whole number, not {self.seed!r}")

    def counts(self, config: SavedConfig) -> dict[str, int]:
        """Give the classes of each head."""
        asked = {head: getattr(self, head) for head in HEADS}
        return {
            head: config.classes[head] if count is None else count for head, count in asked.items()
        }


def restore(files: SavedFiles, heads: Heads) -> MultitaskModel:
    """Load a saved model, in eval mode.

    Names, shapes and types are compared before a tensor is read, and the hash while they are.

    Raises:
        DamagedFileError: If the weights do not have the hash that the Hub announced.
        SavedModelError: If it is no saved model, was changed, or needs a plugin that is missing.
    """
    config = read_config(files.config)
    _check_plugins(config, files.where)
    if torch.get_default_device().type == "meta":
        raise SavedModelError(f"{files.where}: there are no values to load on the meta device")
    try:
        with TensorFile(files.weights, files.sha256 or config.sha256) as file:
            model = _restored(files, config, file, heads)
    except DamagedFileError as error:
        if files.sha256 is not None:
            raise
        raise SavedModelError(str(error)) from error
    except ZooError as error:
        where = "" if isinstance(error, SavedModelError) else f"{files.where}: "
        raise SavedModelError(f"{where}{error} ({_written_with(config)})") from error
    assert model.recipe is not None
    announce(model, model.recipe)
    return model


def _restored(
    files: SavedFiles, config: SavedConfig, file: TensorFile, heads: Heads
) -> MultitaskModel:
    old, new = dict(config.classes), heads.counts(config)
    seed = heads.seed if new != old else 0
    request = request_for(config, new, seed)
    model = blueprint(request)
    here = state_of(model)
    saved = here if new == old else state_of(blueprint(request_for(config, old)))
    plan = settle(file, saved, here)
    _check_hash(file, config)
    whole = {name.partition(".")[0] for name in plan.random} | _unfillable(model)
    if whole:
        model = _built(request, whole)
    try:
        fill(model, file, plan)
    except DamagedFileError as error:
        if files.sha256 is not None:
            raise
        raise changed(file, config, error) from error
    model.load_report = _report(files.source, plan, here, saved, _Reasons(old, new))
    _describe(model, config, new)
    return model.eval()


def _describe(model: MultitaskModel, config: SavedConfig, classes: Mapping[str, int]) -> None:
    """Take over what the configuration knows."""
    kept = [head for head in config.labels if classes[head] == config.classes[head]]
    model.labels = {head: config.labels[head] for head in kept}
    model.preprocessing = config.preprocessing
    model.licence = config.licence
    model.weights_source = config.weights


def _check_plugins(config: SavedConfig, where: str) -> None:
    """Refuse a model whose plugins are not there, naming what to install."""
    installed = {plugin.distribution: plugin for plugin in registry.plugins}
    for name, version in config.distributions.items():
        plugin = installed.get(normalise(name))
        what = f"{where} needs the plugin {name}{f' {version}' if version else ''}"
        if plugin is None:
            raise SavedModelError(f"{what}, which is not installed: pip install {name}")
        if plugin.status == "blocked":
            raise SavedModelError(f"{what}, which is blocked: it is {plugin.reason}")
        if plugin.status == "failed":
            raise SavedModelError(f"{what}, which failed to load: {plugin.reason}")


def _written_with(config: SavedConfig) -> str:
    """Tell which versions wrote a model, and which are here where those differ."""
    here = {plugin.distribution: plugin.version for plugin in registry.plugins}
    here["zoo-core"] = __version__
    told = []
    for name, version in {"zoo-core": config.zoo_core, **config.plugins}.items():
        other = here.get(normalise(name), version)
        told.append(f"{name} {version}" + (f", here {other}" if other != version else ""))
    return f"saved with {'; '.join(told)}"


def request_for(
    config: SavedConfig, classes: Mapping[str, int], seed: int | None = None
) -> Request:
    """Give what to build for a configuration, with other numbers of classes perhaps.

    Raises:
        ZooError: If what is installed does not give it.
    """
    recipe = _with_options(parse(config.recipe, registry), config)
    if classes["segmentation"] and recipe.decoder is None:
        raise SavedModelError(
            f"num_classes_segmentation is {classes['segmentation']}, but the saved model "
            f"{config.recipe!r} has no decoder; compose one that has with zoo.build"
        )
    if recipe.decoder is not None and not classes["segmentation"]:
        recipe = replace(recipe, decoder=None)
    return Request(
        recipe=recipe,
        num_classes_classification=classes["classification"],
        num_classes_segmentation=classes["segmentation"],
        in_channels=config.picture.channels,
        image_size=config.picture.size,
        seed=seed,
    )


# Arguments that the composition gives, and that a model put together by hand may have otherwise.
_OWN_WIRING: Final[Mapping[str, Collection[str]]] = {
    "backbone": {"pooled"},
    "attention": (),
    "decoder": {"backbone_channels"},
}


def _with_options(recipe: Recipe, config: SavedConfig) -> Recipe:
    def filled(part: Part, given: Mapping[str, Any]) -> Part:
        own = _OWN_WIRING[part.spec.kind]
        check_options(part.spec, {key: value for key, value in given.items() if key not in own})
        return replace(part, options=dict(given))

    options = config.options
    if len(options.attention) != len(recipe.attention):
        raise SavedModelError(
            f"options of {len(options.attention)} attentions, but {config.recipe!r} has "
            f"{len(recipe.attention)}"
        )
    if options.decoder and recipe.decoder is None:
        raise SavedModelError(f"options of a decoder, but {config.recipe!r} has none")
    return Recipe(
        backbone=filled(recipe.backbone, options.backbone),
        attention=tuple(map(filled, recipe.attention, options.attention)),
        decoder=filled(recipe.decoder, options.decoder) if recipe.decoder else None,
    )


def blueprint(request: Request) -> MultitaskModel:
    """Build a model to see its tensors: without values as far as that can be.

    Raises:
        ZooError: If it cannot be built.
    """
    try:
        with blank():
            return put_together(request, Seeds(0))
    except CATCH:
        return _built(replace(request, seed=0), ())


def _built(request: Request, whole: Collection[str]) -> MultitaskModel:
    """Build a model, the parts in these roles with values, and others blank if they can be."""

    def making(role: str, construct: Callable[[], Any]) -> Any:
        return construct() if role in whole else built_for_loading(construct)

    return put_together(request, Seeds(request.seed), making=making)


def _unfillable(model: MultitaskModel) -> set[str]:
    """Give the roles of blank parts that a file's values cannot make whole."""
    attention = [part for row in model.attention.values() for part in row.children()]
    parts = [("attention", part) for part in attention]
    parts += [(role, part) for role, part in model.named_children() if role != "attention"]
    return {role for role, part in parts if _is_blank(part) and not fillable(part)}


def _is_blank(part: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in (*part.parameters(), *part.buffers()))


def _check_hash(file: TensorFile, config: SavedConfig) -> None:
    """Refuse a file whose hash is known to be another than the configuration's."""
    if config.checksums is not None and len(config.checksums) != len(file.slots):
        raise SavedModelError(
            f"{file.path}: has {len(file.slots)} tensors, and its configuration "
            f"{len(config.checksums)} checksums"
        )
    if config.sha256 is not None and config.sha256 != file.sha256:
        raise changed(file, config)


@dataclass(frozen=True)
class _Reasons:
    """Tells why a tensor was not taken over: its head has other classes than the file's."""

    old: Mapping[str, int]
    new: Mapping[str, int]

    def __call__(self, name: str) -> str:
        head = "segmentation" if name.startswith("decoder.") else "classification"
        if not self.new[head]:
            return f"the {head} head was left away (num_classes_{head}=0)"
        if not self.old[head]:
            return f"the {head} head is new; the file has none"
        return (
            f"the {head} head was asked for with {self.new[head]} classes; the file has "
            f"{self.old[head]}"
        )


def _report(source: str, plan: Placement, here: State, saved: State, why: _Reasons) -> LoadReport:
    return LoadReport(
        source=source,
        loaded=tuple(Fate(name, here[name].numel()) for name in plan.moves),
        random=tuple(Fate(name, here[name].numel(), why(name)) for name in plan.random),
        dropped=tuple(Fate(name, saved[name].numel(), why(name)) for name in plan.dropped),
    )
