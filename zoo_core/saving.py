"""Saved models: a folder with ``config.json``, ``model.safetensors`` and a model card."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub import ModelCard, ModelCardData, constants, hf_hub_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from zoo_core._version import __version__
from zoo_core.catalogue import registry
from zoo_core.compose import Request, assemble, compose
from zoo_core.contracts import ChannelSchedule, Component
from zoo_core.errors import SavedModelError, ZooError
from zoo_core.grammar import WIRED, Part, Recipe, check_options, parse
from zoo_core.manifest import CROP_MODES, INTERPOLATIONS, Preprocessing
from zoo_core.models.multitask import MultitaskModel
from zoo_core.spec import Spec
from zoo_core.targets import resolve

FORMAT: Final = 1
WEIGHTS: Final = constants.SAFETENSORS_SINGLE_FILE
CONFIG: Final = constants.CONFIG_NAME


def to_config(model: MultitaskModel) -> dict[str, Any]:
    """Give all that is needed to build the model again.

    Raises:
        SavedModelError: If a part is a module that no installed plugin gives, or an option cannot
            be written down.
    """
    recipe = describe(model)
    backbone = model.backbone.constructor_arguments
    providers = {part.spec.provider for part in recipe.parts}
    config = {
        "format": FORMAT,
        "zoo_core": __version__,
        "recipe": recipe.canonical,
        "options": {
            "backbone": recipe.backbone.options,
            "attention": [part.options for part in recipe.attention],
            "decoder": recipe.decoder.options if recipe.decoder else {},
        },
        "picture": {"channels": backbone.get("in_channels", 3), "size": backbone.get("image_size")},
        "classes": {
            "classification": model.num_classes_classification or 0,
            "segmentation": model.num_classes_segmentation or 0,
        },
        "labels": {head: list(names) for head, names in model.labels.items()},
        "preprocessing": asdict(model.preprocessing) if model.preprocessing else None,
        "weights": model.load_report.source if model.load_report else None,
        "licence": model.licence,
        "plugins": {
            p.distribution: p.version for p in registry.plugins if p.distribution in providers
        },
    }
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        raise SavedModelError(
            f"an option of the model cannot be written as JSON: {error}"
        ) from None
    return config


def describe(model: MultitaskModel) -> Recipe:
    """Give the recipe that builds the model's parts again, every option written out."""
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
    options: dict[str, Any] = {}
    for key, value in arguments.items():
        settled = key in spec.kwargs or (key in given and _same(value, given[key]))
        if not settled:
            options[key] = list(value) if isinstance(value, tuple) else value
    return Part(spec=spec, options=options)


def _same(value: Any, given: Any) -> bool:
    if isinstance(given, ChannelSchedule):
        return ChannelSchedule(value).strides == given.strides and tuple(value) == tuple(given)
    return bool(value == given)


def _spec_of(kind: str, cls: type, arguments: Mapping[str, Any]) -> Spec | None:
    components = registry.of_kind(kind)
    candidates = [spec for spec in components.listed() if spec.class_name == cls.__name__]
    for source in components.sources():
        if source.target.partition(":")[2] == cls.__name__:
            names = registry.source_names(source)
            candidates += [registry.source_spec(source, name) for name in names]
    for spec in candidates:
        fits = all(arguments.get(key) == value for key, value in spec.kwargs.items())
        if fits and resolve(spec.target, spec.qualified_name) is cls:
            return spec
    return None


def write(model: MultitaskModel, folder: Path) -> None:
    """Write configuration and weights, each file whole or not at all."""
    config = json.dumps(to_config(model), indent=2, ensure_ascii=False) + "\n"
    staged = folder / f".{WEIGHTS}.{os.getpid()}"
    try:
        save_model(model, str(staged), metadata={"format": "pt"})
        staged.chmod(0o666 & ~_umask())
        staged.replace(folder / WEIGHTS)
        staged.write_text(config, encoding="utf-8")
        staged.replace(folder / CONFIG)
    finally:
        staged.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read(
    model_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> MultitaskModel:
    """Load a saved model, in eval mode, from a folder or from a repository of the Hub.

    Raises:
        SavedModelError: If the folder is not one, or does not fit what it says it is.
    """

    def located(filename: str) -> Path:
        if Path(model_id).is_dir():
            return Path(model_id, filename)
        return Path(
            hf_hub_download(
                model_id,
                filename,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                token=token,
                local_files_only=local_files_only,
            )
        )

    model = from_config(_read_config(located(CONFIG)), model_id)
    file = located(WEIGHTS)
    try:
        load_model(model, str(file), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise SavedModelError(f"{file}: does not fit the model of {CONFIG}: {text}") from error
    return model.eval()


def check_name(name: str) -> None:
    """Refuse what is neither a folder nor the name of a repository.

    Raises:
        SavedModelError: If it cannot be the name of a repository.
    """
    if Path(name).is_file():
        raise SavedModelError(f"{name} is a file; a saved model is a folder")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise SavedModelError(f"{name or 'an empty path'}: there is no such folder")


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn the Hub client's errors into one of ours."""
    try:
        yield
    except (OSError, HFValidationError, json.JSONDecodeError) as error:
        text = " ".join(str(error).split())
        raise SavedModelError(f"{name} cannot be loaded from the Hub: {text}") from error


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SavedModelError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SavedModelError(f"{file}: is no JSON: {error}") from error
    if not isinstance(config, dict) or "recipe" not in config:
        raise SavedModelError(f"{file}: is not the configuration of a zoo model: no 'recipe' in it")
    if config.get("format") != FORMAT:
        raise SavedModelError(
            f"{file}: is of format {config.get('format')!r}; zoo-core {__version__} reads {FORMAT}"
        )
    return config


def from_config(
    config: Mapping[str, Any],
    where: str,
    build: Callable[[Request], MultitaskModel] = compose,
) -> MultitaskModel:
    """Build the model that a configuration describes, with initial weights.

    Raises:
        SavedModelError: If a plugin is missing, or the configuration is not one.
    """
    try:
        recipe = _with_saved_options(parse(config["recipe"], registry), config["options"])
        size = config["picture"]["size"]
        if isinstance(size, list) and len(size) != 2:
            raise SavedModelError(f"{CONFIG} is damaged: picture.size is {size}")
        request = Request(
            recipe=recipe,
            num_classes_classification=config["classes"]["classification"],
            num_classes_segmentation=config["classes"]["segmentation"],
            in_channels=config["picture"]["channels"],
            image_size=tuple(size) if isinstance(size, list) else size,
            seed=0,
        )
        model = build(request)
        model.labels = {head: tuple(names) for head, names in config["labels"].items()}
        for head, names in model.labels.items():
            if len(names) != config["classes"][head]:
                raise SavedModelError(
                    f"{CONFIG} is damaged: {len(names)} labels for {config['classes'][head]} "
                    f"classes of {head}"
                )
        shown = config["preprocessing"]
        model.preprocessing = _preprocessing(shown) if shown else None
        model.licence = config["licence"]
        model.recipe = recipe
    except ZooError as error:
        raise SavedModelError(f"{where}: {error} (saved with {_wanted(config)})") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SavedModelError(
            f"{where}: {CONFIG} is damaged: {type(error).__name__}: {error}"
        ) from error
    return model


def _wanted(config: Mapping[str, Any]) -> str:
    plugins = config.get("plugins")
    if not isinstance(plugins, dict):
        return "plugins that it does not tell"
    return ", ".join(f"{name} {version}" for name, version in plugins.items())


# Arguments that the composition gives, and that a model put together by hand may have otherwise.
_OWN_WIRING: Final = {"backbone": {"pooled"}, "attention": set(), "decoder": {"backbone_channels"}}


def _with_saved_options(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    def filled(part: Part, given: Mapping[str, Any]) -> Part:
        own = _OWN_WIRING[part.spec.kind]
        check_options(part.spec, {key: value for key, value in given.items() if key not in own})
        return replace(part, options=dict(given))

    attention = zip(recipe.attention, options["attention"], strict=True)
    decoder = recipe.decoder
    return Recipe(
        backbone=filled(recipe.backbone, options["backbone"]),
        attention=tuple(filled(part, given) for part, given in attention),
        decoder=filled(decoder, options["decoder"]) if decoder else None,
    )


def _preprocessing(saved: Mapping[str, Any]) -> Preprocessing:
    height, width = saved["size"]
    numbers = (height, width, saved["crop"], *saved["mean"], *saved["std"])
    known = saved["interpolation"] in INTERPOLATIONS and saved["crop_mode"] in CROP_MODES
    if not known or not all(isinstance(number, int | float) for number in numbers):
        raise SavedModelError(f"{CONFIG} is damaged: preprocessing is {dict(saved)}")
    return Preprocessing(
        size=(height, width),
        crop=saved["crop"],
        crop_mode=saved["crop_mode"],
        interpolation=saved["interpolation"],
        mean=tuple(saved["mean"]),
        std=tuple(saved["std"]),
    )


def check_savable(model: MultitaskModel, folder: Path) -> None:
    """Refuse before anything is written what could not be loaded again.

    Raises:
        SavedModelError: If a part is foreign or was changed after it was constructed, the model
            is on the meta device, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise SavedModelError(f"{folder} is a file; a model is saved to a folder")
    config = to_config(model)
    if any(tensor.is_meta for tensor in model.state_dict().values()):
        raise SavedModelError("the model is on the meta device and has no values to save")
    with torch.device("meta"):
        again = from_config(config, "the model", assemble)
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in one.state_dict().items()}
        for one in (model, again)
    ]
    for name in shapes[0].keys() | shapes[1].keys():
        here, there = (shape.get(name) for shape in shapes)
        if here != there:
            raise SavedModelError(
                f"{name} is {_shape(here)}, and {_shape(there)} in the model that its recipe "
                f"{config['recipe']!r} builds: a part was changed after it was constructed"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))


def model_card(model: MultitaskModel) -> ModelCard:
    """Give a model card with what is known of the model, and nothing else."""
    config = to_config(model)
    data = ModelCardData(
        license=model.licence,
        library_name="zoo-core",
        tags=["zoo", *(f"image-{head}" for head, count in config["classes"].items() if count)],
    )
    heads = ", ".join(
        f"{head} of {count} classes" for head, count in config["classes"].items() if count
    )
    text = f"""---
{data.to_yaml()}
---

# {config["recipe"]}

A model of zoo-core {__version__} with {heads}.

```python
from zoo_core import MultitaskModel

model = MultitaskModel.from_pretrained("<this folder or repository>")
```
"""
    return ModelCard(text, ignore_metadata_errors=True)
