"""What each stage of a model gives and costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from zoo_core.models.multitask import MultitaskModel


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of a summary.

    Attributes:
        stage: ``backbone``, ``attention``, ``decoder`` or ``head``, or ``map`` for one of the
            backbone's.
        name: The component's name.
        shape: Shape of what it gives for one picture.
        parameters: Number of its parameters.
        flops: Floating-point operations for one picture, a multiply and an add counting as two,
            as torch counts them: convolutions and matrix products.
    """

    stage: str
    name: str
    shape: tuple[int, ...]
    parameters: int = 0
    flops: int = 0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The stages of a model for one input shape."""

    input_shape: tuple[int, ...]
    stages: tuple[Stage, ...]
    parameters: int
    flops: int
    forward_seconds: float


def summarise(model: MultitaskModel, size: tuple[int, int]) -> Summary:
    """Run a model once in eval mode on one black picture of ``size`` and look at each stage."""
    parameter = next(model.parameters(), torch.empty(0))
    channels = model.backbone.constructor_arguments.get("in_channels", 3)
    image = torch.zeros(1, channels, *size, device=parameter.device, dtype=parameter.dtype)
    training = model.training
    model.eval()
    start = time.perf_counter()
    try:
        with torch.no_grad():  # in inference mode, operations come as wholes of several
            stages = tuple(_stages(model, image))
    finally:
        model.train(training)
    return Summary(
        input_shape=tuple(image.shape),
        stages=stages,
        parameters=_count(model),
        flops=sum(stage.flops for stage in stages),
        forward_seconds=time.perf_counter() - start,
    )


def _stages(model: MultitaskModel, image: Tensor) -> list[Stage]:
    names = _names(model)
    pooled = model.classifier is not None and not model.attends_last
    call = model.backbone.forward_features if pooled else model.backbone
    features, flops = _counted(call, image)
    maps, vector = features if pooled else (features, None)
    shape = tuple(maps[-1].shape) if vector is None else tuple(vector.shape)
    stages = [
        Stage(
            stage="backbone",
            name=names["backbone"],
            shape=shape,
            parameters=_count(model.backbone),
            flops=flops,
        )
    ]
    strides = model.backbone.get_channel_schedule().strides
    for level, (item, stride) in enumerate(zip(maps, strides, strict=True), 1):
        stages.append(Stage(stage="map", name=f"{level}, stride {stride}", shape=tuple(item.shape)))
    maps = list(maps)
    for key, modules in model.attention.items():
        for module, name in zip(modules.children(), names[key], strict=True):
            index = int(key) - 1
            maps[index], flops = _counted(module, maps[index])
            stages.append(
                Stage(
                    stage="attention",
                    name=f"{name}@{key}",
                    shape=tuple(maps[index].shape),
                    parameters=_count(module),
                    flops=flops,
                )
            )
    if model.decoder is not None:
        logits, flops = _counted(model.decoder, maps, output_size=tuple(image.shape[-2:]))
        stages.append(
            Stage(
                stage="decoder",
                name=names["decoder"],
                shape=tuple(logits.shape),
                parameters=_count(model.decoder),
                flops=flops,
            )
        )
    if model.classifier is not None:
        vector = maps[-1].mean((-2, -1)) if vector is None else vector
        logits, flops = _counted(model.classifier, vector)
        stages.append(
            Stage(
                stage="head",
                name="classification",
                shape=tuple(logits.shape),
                parameters=_count(model.classifier),
                flops=flops,
            )
        )
    return stages


def _names(model: MultitaskModel) -> dict[str, Any]:
    """Give the parts' names: as the recipe calls them, else those of their classes."""
    names: dict[str, Any] = {
        "backbone": type(model.backbone).__name__,
        "decoder": type(model.decoder).__name__,
    }
    for level, modules in model.attention.items():
        names[level] = [type(module).__name__ for module in modules.children()]
    if model.recipe is None:
        return names
    names["backbone"] = model.recipe.backbone.spec.name
    if model.recipe.decoder:
        names["decoder"] = model.recipe.decoder.spec.name
    count = len(model.backbone.get_channel_schedule())
    for key in model.attention:
        names[key] = [
            part.spec.name for part in model.recipe.attention if int(key) in part.placed(count)
        ]
    return names


def _counted(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, int]:
    with _Flops() as counter:
        result = call(*args, **kwargs)
    return result, counter.total


class _Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts as torch's ``FlopCounterMode``, which would import torch's compiler for it.

    That takes as long as importing torch.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](
                *args, **(kwargs or {}), out_val=result
            )
        return result


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
