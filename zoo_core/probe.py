"""Proving, on a small picture, that the parts of a composition do what their kinds must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo_core.assembly import levels_of
from zoo_core.contracts import Backbone, ChannelSchedule, Decoder
from zoo_core.errors import ContractError, ZooError
from zoo_core.grammar import Part, Recipe
from zoo_core.loader import CATCH, describe
from zoo_core.shapes import ShapesOnly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo_core.models.multitask import MultitaskModel

SIZE = (64, 96)


def check_parts(model: MultitaskModel, recipe: Recipe) -> None:
    """Run each part once, in eval mode and without gradients, and check what it gives.

    A backbone without values gives shapes, which is all that is looked at.

    Raises:
        ContractError: Naming the part, what was expected and what was found.
    """
    who = f"backbone {recipe.backbone.spec.qualified_name}"
    schedule = ChannelSchedule(model.backbone.get_channel_schedule())
    _check_declared(recipe.backbone, schedule, who)
    parameter = next(model.parameters(), torch.empty(0))
    channels = getattr(model.backbone, "constructor_arguments", {}).get("in_channels", 3)
    image = torch.zeros(1, channels, *SIZE, device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad(), ShapesOnly(), _evaluating(model):
        maps = _check_backbone(model, image, schedule, who)
        names = _attention_names(recipe, len(schedule), model.decoder)
        for level, modules in model.attention.items():
            index = int(level) - 1
            for module, name in zip(modules, names[int(level)], strict=True):  # type: ignore[call-overload]
                features = _beside(module, maps[index])
                maps[index] = _check_attention(module, features, f"attention {name}")
        if recipe.decoder is not None and model.decoder is not None:
            maps = [_beside(model.decoder, item) for item in maps]
            _check_decoder(model, maps, f"decoder {recipe.decoder.spec.qualified_name}")


def _check_declared(part: Part, schedule: ChannelSchedule, who: str) -> None:
    if part.options:
        return  # what is declared holds without options: output_stride changes strides
    for what, given in (("channels", tuple(schedule)), ("strides", schedule.strides)):
        declared = getattr(part.spec, what)
        if declared and declared != given:
            raise ContractError(
                f"{who}: its catalogue says {what} {list(declared)}, and it gives {list(given)}"
            )


def _check_backbone(
    model: MultitaskModel, image: Tensor, schedule: ChannelSchedule, who: str
) -> list[Tensor]:
    pools = model.classifier is not None and not model.attends_last
    if pools and type(model.backbone).forward_features is not Backbone.forward_features:
        features = _run(who, model.backbone.forward_features, image)
        if not isinstance(features, tuple) or len(features) != 2:
            raise ContractError(
                f"{who}: forward_features must give Features, maps and a pooled vector, not "
                f"{_shape(features)}"
            )
        maps, pooled = features
    else:
        maps, pooled = _run(who, model.backbone, image), None
    if not isinstance(maps, list) or not all(isinstance(item, Tensor) for item in maps):
        raise ContractError(f"{who}: forward must give a list of tensors, not {_shape(maps)}")
    height, width = SIZE
    expected_maps = [
        (1, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(schedule, schedule.strides, strict=True)
    ]
    found = [tuple(item.shape) for item in maps]
    if found != expected_maps:
        raise ContractError(
            f"{who}: for a picture of {height}×{width} its schedule {schedule} promises maps "
            f"{expected_maps}, and it gives {found}"
        )
    if pools:
        pooled = maps[-1].mean((-2, -1)) if pooled is None else pooled
        expected = (1, model.backbone.pooled_channels)
        if not isinstance(pooled, Tensor) or tuple(pooled.shape) != expected:
            raise ContractError(f"{who}: its pooled vector is {_shape(pooled)}, not {expected}")
    return maps


def _beside(module: nn.Module, features: Tensor) -> Tensor:
    """Give features where the module is: a blank backbone's have shapes only."""
    parameter = next(module.parameters(), None)
    if not features.is_meta or (parameter is not None and parameter.is_meta):
        return features
    return torch.zeros(
        features.shape,
        dtype=features.dtype,
        device=torch.get_default_device() if parameter is None else parameter.device,
    )


def _check_attention(module: nn.Module, features: Tensor, who: str) -> Tensor:
    result = _run(who, module, features)
    if not isinstance(result, Tensor) or result.shape != features.shape:
        raise ContractError(
            f"{who}: forward must keep the shape {tuple(features.shape)}, and gives "
            f"{_shape(result)}"
        )
    return result


def _check_decoder(model: MultitaskModel, maps: Sequence[Tensor], who: str) -> None:
    result = _run(who, model.decoder, list(maps), output_size=SIZE)
    expected = (1, model.num_classes_segmentation, *SIZE)
    if not isinstance(result, Tensor) or tuple(result.shape) != expected:
        raise ContractError(f"{who}: forward must give {expected}, and gives {_shape(result)}")


def _attention_names(recipe: Recipe, count: int, decoder: Decoder | None) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for part in recipe.attention:
        for level in levels_of(part, count, decoder):
            names.setdefault(level, []).append(part.spec.qualified_name)
    return names


def _run(who: str, call: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> Any:
    assert call is not None
    try:
        return call(*args, **kwargs)
    except ZooError:
        raise
    except CATCH as error:
        raise ContractError(
            f"{who}: fails on a picture of {SIZE[0]}×{SIZE[1]}: {describe(error)}"
        ) from error


def _shape(value: object) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return type(value).__name__


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Within it the model is in eval mode; afterwards every module's own flag is as before."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
