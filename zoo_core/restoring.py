"""Building a saved model again: blank where that can be, then filled from the file."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from zoo_core._version import __version__
from zoo_core.assembly import Request, put_together
from zoo_core.catalogue import registry
from zoo_core.compose import announce
from zoo_core.errors import DamagedFileError, InputError, SavedModelError, ZooError
from zoo_core.grammar import Part, Recipe, check_options, parse
from zoo_core.loader import CATCH, normalise
from zoo_core.models.multitask import MultitaskModel
from zoo_core.saved_config import HEADS, SavedConfig, read_config
from zoo_core.seeding import Seeds
from zoo_core.store.header import Slot
from zoo_core.weights.blank import assign, blank, built_for_loading, fillable
from zoo_core.weights.report import Fate, LoadReport
from zoo_core.weights.tensorfile import DTYPES, TensorFile

State = Mapping[str, Tensor]

_BLOCK: Final = 4 * 1024 * 1024


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
    here = _state(model)
    saved = here if new == old else _state(blueprint(request_for(config, old)))
    plan = _plan(file, saved, here)
    _check_hash(file, config)
    whole = {name.partition(".")[0] for name in plan.random} | _unfillable(model)
    if whole:
        model = _built(request, whole)
    try:
        _fill(model, file, plan)
    except DamagedFileError as error:
        if files.sha256 is not None:
            raise
        raise _changed(file, config, error) from error
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


def _state(model: nn.Module) -> State:
    return model.state_dict(keep_vars=True)


def _ties(state: State) -> dict[str, str]:
    """Give, for each name, the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


@dataclass(frozen=True)
class _Plan:
    """Which tensors go where.

    Attributes:
        moves: The model's name of each tensor that is loaded, and the file's.
        random: The model's tensors that the file has nothing for.
        dropped: The file's tensors that the model has no place for.
    """

    moves: dict[str, str] = field(default_factory=dict)
    random: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def _plan(file: TensorFile, saved: State, here: State) -> _Plan:
    """Settle where each tensor goes, before any is read.

    Args:
        file: The file.
        saved: The tensors of the model that was saved.
        here: The tensors of the model that is built, which may have other heads.

    Raises:
        SavedModelError: If the file does not have the very tensors that were saved.
    """
    ties = _ties(saved)
    stored: dict[str, str] = {}
    problems = []
    for slot in file.slots.values():
        problem = _problem(slot, saved.get(slot.name))
        if not problem and ties[slot.name] in stored:
            problem = f"{slot.name} is in the file and so is {stored[ties[slot.name]]}, its tie"
        if problem:
            problems.append(problem)
        stored.setdefault(ties.get(slot.name, slot.name), slot.name)
    lost = [name for name, first in ties.items() if first == name and name not in stored]
    problems += [f"{name} is in the model but not in the file" for name in lost]
    if problems:
        more = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise SavedModelError(
            f"{file.path}: does not fit the model: {'; '.join(problems[:4])}{more}"
        )
    plan = _Plan()
    for name, first in _ties(here).items():
        if name == first and name in saved and saved[name].shape == here[name].shape:
            plan.moves[name] = stored[ties[name]]
        elif name == first:
            plan.random.append(name)
    used = set(plan.moves.values())
    plan.dropped.extend(name for name in file.slots if name not in used)
    return plan


def _problem(slot: Slot, target: Tensor | None) -> str:
    if target is None:
        return f"{slot.name} is in the file but not in the model"
    if slot.shape != tuple(target.shape):
        here, there = list(target.shape), list(slot.shape)
        return f"{slot.name} is {there} in the file and {here} in the model"
    given = DTYPES[slot.dtype]
    same = given.is_floating_point and target.is_floating_point()
    return (
        ""
        if same or given == target.dtype
        else (f"{slot.name} is {given} in the file and {target.dtype} in the model")
    )


def _check_hash(file: TensorFile, config: SavedConfig) -> None:
    """Refuse a file whose hash is known to be another than the configuration's."""
    if config.checksums is not None and len(config.checksums) != len(file.slots):
        raise SavedModelError(
            f"{file.path}: has {len(file.slots)} tensors, and its configuration "
            f"{len(config.checksums)} checksums"
        )
    if config.sha256 is not None and config.sha256 != file.sha256:
        raise _changed(file, config)


def _fill(model: MultitaskModel, file: TensorFile, plan: _Plan) -> None:
    """Read the tensors and put them in their places, with the file's types."""
    _convert(model, file)
    state = _state(model)
    parameters = {name for name in plan.moves if isinstance(state[name], nn.Parameter)}
    infinite = {stored for name, stored in plan.moves.items() if name not in parameters}
    with file.begin(set(plan.moves.values()), infinite) as reading:
        tensors = reading.result()
    device = torch.get_default_device()
    with torch.no_grad():
        for name, stored in plan.moves.items():
            _put(model, name, state[name], tensors.pop(stored), device)


def _put(model: nn.Module, name: str, target: Tensor, value: Tensor, device: torch.device) -> None:
    if target.is_meta:
        assign(model, name, value.to(device))
    elif target.dtype == value.dtype:
        target.copy_(value)
    else:
        target.data = value.to(target.device)


def _convert(model: nn.Module, file: TensorFile) -> None:
    """Make the model of the file's type, with what is no part of the file, if it has one type."""
    given = {DTYPES[slot.dtype] for slot in file.slots.values()}
    floating = [dtype for dtype in given if dtype.is_floating_point]
    own = {tensor.dtype for tensor in _state(model).values() if tensor.is_floating_point()}
    if len(floating) == 1 and own != set(floating):
        model.to(floating[0])


def _changed(
    file: TensorFile, config: SavedConfig, error: DamagedFileError | None = None
) -> SavedModelError:
    """Give the error for a file with another hash: the tensors that were changed, by name."""
    names = [
        name
        for (name, found), saved in zip(checksums(file), config.checksums or (), strict=True)
        if found != saved
    ]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    if names:
        return SavedModelError(
            f"{file.path}: these tensors do not have the values that were saved: "
            f"{', '.join(names[:4])}{more}; save the model again with save_pretrained to keep such "
            f"a change"
        )
    reason = str(error) if error else f"{file.path}: its sha256 is not {config.sha256}"
    return SavedModelError(f"{reason}, though no tensor was changed: it was written by other means")


def checksums(file: TensorFile) -> Iterator[tuple[str, str]]:
    """Give the CRC-32 of each tensor's bytes, in the order of the names."""
    buffer = memoryview(bytearray(_BLOCK))
    for name, slot in sorted(file.slots.items()):
        checksum = 0
        for start in range(slot.start, slot.start + slot.size, _BLOCK):
            block = buffer[: min(_BLOCK, slot.start + slot.size - start)]
            file.read_into(block, start)
            checksum = zlib.crc32(block, checksum)
        yield name, f"{checksum:08x}"


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


def _report(source: str, plan: _Plan, here: State, saved: State, why: _Reasons) -> LoadReport:
    return LoadReport(
        source=source,
        loaded=tuple(Fate(name, here[name].numel()) for name in plan.moves),
        random=tuple(Fate(name, here[name].numel(), why(name)) for name in plan.random),
        dropped=tuple(Fate(name, saved[name].numel(), why(name)) for name in plan.dropped),
    )
