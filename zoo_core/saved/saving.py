"""Saved models: a folder with ``config.json``, ``model.safetensors`` and a model card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from zoo_core._version import __version__
from zoo_core.catalogue import registry
from zoo_core.contracts import Attention, Backbone, ChannelSchedule, Component, Decoder
from zoo_core.errors import DamagedFileError, SavedModelError, WeightsError, ZooError
from zoo_core.grammar import WIRED, Part, Recipe
from zoo_core.manifest import RULES, Preprocessing
from zoo_core.models.multitask import MultitaskModel
from zoo_core.saved.config import MAX_BYTES, SavedConfig, check_config
from zoo_core.saved.restoring import Heads, SavedFiles, blueprint, request_for, restore
from zoo_core.saved.tensors import checksums
from zoo_core.spec import Spec
from zoo_core.store.download import hash_file
from zoo_core.store.snapshot import Query, Snapshot, discard_damaged, fetch_files
from zoo_core.targets import resolve
from zoo_core.weights.tensorfile import DTYPES, TensorFile

FORMAT: Final = 2
WEIGHTS: Final = constants.SAFETENSORS_SINGLE_FILE
CONFIG: Final = constants.CONFIG_NAME
CARD: Final = "README.md"
FILES: Final = (CARD, CONFIG, WEIGHTS)
_ASIDE: Final = ".saving-"

_KINDS: Final = {"backbone": Backbone, "attention": Attention, "decoder": Decoder}


def to_config(model: MultitaskModel) -> dict[str, Any]:
    """Give all that is needed to build the model again, but for what tells its values.

    Raises:
        SavedModelError: If a part is a module that no installed plugin gives, or something that
            the model says of itself cannot be.
    """
    recipe = describe(model)
    backbone = model.backbone.constructor_arguments
    size = backbone.get("image_size")
    config = {
        "format": FORMAT,
        "zoo_core": __version__,
        "recipe": recipe.canonical,
        "options": {
            "backbone": recipe.backbone.options,
            "attention": [part.options for part in recipe.attention],
            "decoder": recipe.decoder.options if recipe.decoder else {},
        },
        "picture": {"channels": backbone.get("in_channels", 3), "size": _as_json(size)},
        "classes": {
            "classification": model.num_classes_classification or 0,
            "segmentation": model.num_classes_segmentation or 0,
        },
        "labels": _labels(model),
        "preprocessing": _as_json(_preprocessing(model)),
        "weights": model.weights_source,
        "licence": model.licence,
        "plugins": _plugins(model, recipe),
    }
    _check_config(config)
    return config


def _check_config(config: Mapping[str, Any]) -> SavedConfig:
    """Refuse what would be refused when it is read."""
    whole = {**config, "sha256": "0" * 64, "checksums": ""}
    try:
        written = json.loads(json.dumps(whole, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SavedModelError(f"the model cannot be described in JSON: {error}") from None
    return check_config(written, "the model")


def _labels(model: MultitaskModel) -> dict[str, Any]:
    if not isinstance(model.labels, Mapping):
        raise SavedModelError(f"model.labels maps heads to class names; it is {model.labels!r}")
    return {
        head: list(names) if isinstance(names, list | tuple) else names
        for head, names in model.labels.items()
    }


def _preprocessing(model: MultitaskModel) -> dict[str, Any] | None:
    given = model.preprocessing
    if given is None:
        return None
    if not isinstance(given, Preprocessing):
        raise SavedModelError(f"model.preprocessing is a zoo_core.Preprocessing, not {given!r}")
    return asdict(given)


def _plugins(model: MultitaskModel, recipe: Recipe) -> dict[str, str]:
    """Give the distributions that the parts, and the parts of parts, come from."""
    needed = {part.spec.provider for part in recipe.parts}
    needed |= {spec.provider for spec in _specs_within(model)}
    return {p.distribution: p.version for p in registry.plugins if p.distribution in needed}


def describe(model: MultitaskModel) -> Recipe:
    """Give the recipe that builds the model's parts again, every option written out.

    Raises:
        SavedModelError: If a part is a module that no installed plugin gives.
    """
    schedule = ChannelSchedule(model.backbone.get_channel_schedule())
    arguments = model.backbone.constructor_arguments
    wired = {key: arguments[key] for key in WIRED["backbone"] if key in arguments}
    if "pooled" in wired:
        wired["pooled"] = bool(model.classifier) and not model.attends_last
    backbone = _part("backbone", model.backbone, wired)
    attention: list[Part] = []
    for level, modules in model.attention.items():
        given = {"in_channels": schedule[int(level) - 1]}
        levels = "last" if int(level) == len(schedule) else level
        parts = (_part("attention", module, given) for module in modules.children())
        attention += [replace(part, levels=levels) for part in parts]
    decoder = None
    if model.decoder is not None:
        wired = {"backbone_channels": schedule, "output_channels": model.num_classes_segmentation}
        decoder = _part("decoder", model.decoder, wired)
    return Recipe(backbone=backbone, attention=tuple(attention), decoder=decoder)


def _part(kind: str, module: nn.Module, given: Mapping[str, Any]) -> Part:
    """Find the component that a module is, and the options that make it this one.

    Arguments that the composition gives again, being equal to ``given``, are left out.
    """
    name = type(module).__name__
    if not isinstance(module, Component):
        raise SavedModelError(
            f"the {kind} {name} is not a zoo component, so it cannot be saved by value; save the "
            f"state dict yourself, or make it a plugin"
        )
    arguments = module.constructor_arguments
    spec = _spec_of(kind, type(module), arguments)
    if spec is None:
        raise SavedModelError(
            f"the {kind} {name} of {type(module).__module__} is given by no installed plugin, so "
            f"it cannot be saved by value"
        )
    # What an option calls by its plain name is to be the same whatever else is installed.
    within = {part.name: part.qualified_name for part in _specs_within(module)}
    options: dict[str, Any] = {}
    for key, value in arguments.items():
        settled = key in spec.kwargs or (key in given and _same(value, given[key]))
        if not settled:
            value = within.get(value, value) if isinstance(value, str) else value
            options[key] = _option(spec, key, value)
    return Part(spec=spec, options=options)


def _option(spec: Spec, key: str, value: Any) -> Any:
    """Give an option as JSON will give it back."""
    plain = _as_json(value)
    try:
        same = bool(json.loads(json.dumps(plain, allow_nan=False)) == plain)
    except (TypeError, ValueError):
        same = False
    if not same:
        raise SavedModelError(
            f"{spec.kind} {spec.name!r}: its option {key}={value!r} cannot be written as JSON"
        )
    return plain


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value


def _same(value: Any, given: Any) -> bool:
    if isinstance(given, ChannelSchedule):
        return ChannelSchedule(value).strides == given.strides and tuple(value) == tuple(given)
    return bool(value == given)


def _specs_within(module: nn.Module) -> Iterator[Spec]:
    """Give the components that stand inside a module, as an attention does in a decoder."""
    for part in module.modules():
        if part is not module and isinstance(part, Component):
            kind = next(kind for kind, base in _KINDS.items() if isinstance(part, base))
            spec = _spec_of(kind, type(part), part.constructor_arguments)
            if spec is not None:
                yield spec


def _spec_of(kind: str, cls: type, arguments: Mapping[str, Any]) -> Spec | None:
    components = registry.of_kind(kind)
    candidates = [spec for spec in components.listed() if spec.class_name == cls.__name__]
    for source in components.sources():
        if source.target.partition(":")[2] == cls.__name__:
            names = registry.source_names(source)
            candidates += [registry.source_spec(source, name) for name in names]
    # What says more of itself first: a named variant before the one of any shape.
    for spec in sorted(candidates, key=lambda spec: -len(spec.kwargs)):
        fits = all(arguments.get(key) == value for key, value in spec.kwargs.items())
        if fits and resolve(spec.target, spec.qualified_name) is cls:
            return spec
    return None


def check_folder(folder: Path) -> None:
    """Refuse to save a model to what is no folder.

    Raises:
        SavedModelError: If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise SavedModelError(f"{folder} is a file; a model is saved to a folder")


def check_savable(model: MultitaskModel) -> None:
    """Refuse before anything is written what could not be loaded again.

    Raises:
        SavedModelError: If a part is foreign or was changed after it was constructed, a tensor
            holds what it must not, or what the model says of itself cannot be.
    """
    config = to_config(model)
    state = model.state_dict(keep_vars=True)
    for name, value in state.items():
        _check_value(name, value)
    _check_parts(config, state)


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise SavedModelError(f"{name} is no tensor but {type(value).__name__}; it cannot be saved")
    if is_lazy(value):
        raise SavedModelError(f"{name} has no shape yet; run the model once before it is saved")
    if value.is_meta:
        raise SavedModelError("the model is on the meta device and has no values to save")
    if value.dtype not in DTYPES.values() or value.layout != torch.strided:
        raise SavedModelError(f"{name} is {value.dtype} of {value.layout}; it cannot be saved")
    if not value.numel() or not value.is_floating_point():
        return
    low, high = value.detach().aminmax()
    if low.isnan():
        raise SavedModelError(f"{name} holds NaN, so the model is not saved")
    if isinstance(value, nn.Parameter) and (low.isinf() or high.isinf()):
        raise SavedModelError(f"{name} holds infinite values, so the model is not saved")


def _check_parts(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse a model whose recipe builds other tensors."""
    checked = _check_config(config)
    try:
        again = blueprint(request_for(checked, checked.classes)).state_dict()
    except ZooError as error:
        raise SavedModelError(f"the model cannot be built again: {error}") from error
    for name in dict.fromkeys([*state, *again]):
        here, there = (_shape(some.get(name)) for some in (state, again))
        if here != there:
            raise SavedModelError(
                f"{name} is {here}, and {there} in the model that its recipe "
                f"{config['recipe']!r} builds: a part was changed after it was constructed"
            )


def _shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else str(list(tensor.shape))


def write(model: MultitaskModel, folder: Path) -> None:
    """Write configuration and weights."""
    config = to_config(model)
    weights = folder / WEIGHTS
    save_file(_tensors(model), weights, metadata={"format": "pt"})
    weights.chmod(0o666 & ~_umask())
    config["sha256"] = hash_file(weights)
    with TensorFile(weights) as file:
        config["checksums"] = " ".join(checksum for _, checksum in checksums(file))
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, whose files then take their places in another; or none do.

    A model card that stands there already stays. A process that is killed leaves the model that
    was there or the new one, never half of each: see :func:`saved_files`.

    Raises:
        SavedModelError: If something cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=_ASIDE, dir=folder) as aside:
            yield Path(aside)
            _finish(folder)
            for name in (WEIGHTS, CONFIG, CARD):
                if name != CARD or not (folder / CARD).exists():
                    Path(aside, name).replace(folder / name)
    except (OSError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise SavedModelError(f"{folder}: the model cannot be saved: {text}") from error


def saved_files(folder: Path) -> dict[str, Path]:
    """Give the files of the model that is saved in a folder, by name, as far as they are there.

    Where a save was killed after its weights had taken their place, its configuration still
    stands aside, without them.
    """
    files = {name: folder / name for name in FILES if (folder / name).exists()}
    for aside in _cut_short(folder):
        files[CONFIG] = aside / CONFIG
    return files


def _cut_short(folder: Path) -> list[Path]:
    """Give where a save that was killed left its configuration, but no weights."""
    return [
        aside
        for aside in folder.glob(f"{_ASIDE}*")
        if (aside / CONFIG).is_file() and not (aside / WEIGHTS).exists()
    ]


def _finish(folder: Path) -> None:
    """Put in its place what a save that was killed left aside."""
    for aside in _cut_short(folder):
        (aside / CONFIG).replace(folder / CONFIG)
        shutil.rmtree(aside)


def _tensors(model: MultitaskModel) -> dict[str, Tensor]:
    """Give the tensors to write: tied ones once, and each in memory of its own."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    memories: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        value = tensor.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if memory in memories else value
        memories.add(memory)
    return tensors


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_folder(folder: Path, heads: Heads) -> MultitaskModel:
    """Load a saved model from a folder.

    Raises:
        SavedModelError: If the folder is not one, or does not fit what it says it is.
    """
    config = saved_files(folder).get(CONFIG)
    if config is None:
        raise SavedModelError(f"{folder}: there is no saved model here: it has no {CONFIG}")
    where = str(folder)
    files = SavedFiles(where=where, source=where, config=config, weights=folder / WEIGHTS)
    return restore(files, heads)


def read_hub(name: str, heads: Heads, **options: Any) -> MultitaskModel:
    """Load a saved model from a repository of the Hub, or from the cache.

    Args:
        name: The repository.
        heads: Which classes the heads are to have.
        **options: Those of :class:`zoo_core.store.snapshot.Query`.

    Raises:
        SavedModelError: If it cannot be had, or is no saved model.
    """
    try:
        query = Query(repository=name, largest={CONFIG: MAX_BYTES, WEIGHTS: 10**15}, **options)
        snapshot = fetch_files(query)
        try:
            return restore(_saved_files(snapshot), heads)
        except DamagedFileError as error:
            discard_damaged(query, snapshot.files[WEIGHTS], error)
            again = replace(query, revision=snapshot.commit, force_download=False)
            return restore(_saved_files(fetch_files(again)), heads)
    except WeightsError as error:
        raise SavedModelError(f"{name} cannot be loaded from the Hub: {error}") from error


def _saved_files(snapshot: Snapshot) -> SavedFiles:
    weights = snapshot.files[WEIGHTS]
    return SavedFiles(
        where=snapshot.repository,
        source=f"{snapshot.repository} ({snapshot.commit})",
        config=snapshot.files[CONFIG].path,
        weights=weights.path,
        sha256=weights.sha256,
    )


def check_name(name: str) -> None:
    """Refuse what is neither a folder nor the name of a repository.

    Raises:
        SavedModelError: If it cannot be the name of a repository.
    """
    if Path(name).is_file():
        raise SavedModelError(f"{name} is a file; a saved model is a folder")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise SavedModelError(f"{name or 'an empty path'}: there is no such folder")
    problem = RULES["repository"](name)
    if problem:
        raise SavedModelError(f"there is no such folder, and {problem}")
