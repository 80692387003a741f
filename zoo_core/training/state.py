"""What a run is at one moment, as plain tensors and numbers, and back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo_core.errors import CheckpointError
from zoo_core.training.parallel import like, whole

Tensors = dict[str, Tensor]


def optimizer_state(optimizer: Optimizer, names: Mapping[Tensor, str]) -> tuple[Tensors, Any]:
    """Give an optimizer's state by the names of its parameters: tensors, and the rest.

    Every process has to ask: shards are gathered.
    """
    tensors: Tensors = {}
    numbers: dict[str, Any] = {}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            place = f"{key}/{names[parameter]}"
            if isinstance(value, Tensor):
                tensors[place] = whole(value)
            else:
                numbers[place] = value
    groups = []
    for group in optimizer.param_groups:
        settings = {key: _plain(value) for key, value in group.items() if key != "params"}
        groups.append(settings | {"params": [names[parameter] for parameter in group["params"]]})
    return tensors, {"numbers": numbers, "groups": groups}


def restore_optimizer(
    optimizer: Optimizer, names: Mapping[Tensor, str], tensors: Tensors, rest: Any
) -> None:
    """Give an optimizer its state again.

    Raises:
        CheckpointError: If its groups are of other parameters.
    """
    groups = optimizer.param_groups
    found = [[names[parameter] for parameter in group["params"]] for group in groups]
    wanted = [group["params"] for group in rest["groups"]]
    if found != wanted:
        raise CheckpointError(
            f"the optimizer's {len(found)} groups of parameters are others than the checkpoint's "
            f"{len(wanted)}; make model and optimizer as they were made for that run"
        )
    parameters = {name: parameter for parameter, name in names.items()}
    for group, settings in zip(optimizer.param_groups, rest["groups"], strict=True):
        for key, value in settings.items():
            if key == "params":
                continue
            if isinstance(group.get(key), Tensor):
                group[key].fill_(value)
            else:
                group[key] = tuple(value) if isinstance(group.get(key), tuple) else value
    optimizer.state.clear()
    for place, value in {**rest["numbers"], **tensors}.items():
        key, _, name = place.partition("/")
        parameter = parameters[name]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = like(value, parameter)
        elif isinstance(value, Tensor) and value.numel() > 1:
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value


def model_state(model: nn.Module) -> Tensors:
    """Give a model's tensors, whole; every process has to ask."""
    return {name: whole(tensor) for name, tensor in model.state_dict().items()}


@torch.no_grad()
def restore_model(model: nn.Module, tensors: Tensors) -> None:
    """Give a model its tensors again.

    Raises:
        CheckpointError: If it has others.
    """
    own = model.state_dict()
    for name in [*own, *tensors]:
        if name not in tensors or name not in own or own[name].shape != tensors[name].shape:
            there = tuple(tensors[name].shape) if name in tensors else "nothing"
            here = tuple(own[name].shape) if name in own else "nothing"
            raise CheckpointError(
                f"the checkpoint is of another model: {name} is {there} there and {here} here"
            )
    for name, tensor in own.items():
        tensor.copy_(like(tensors[name], tensor))


def generators_state(device: torch.device) -> tuple[Tensors, Any]:
    """Give the state of this process's generators: Python's, NumPy's, torch's and its GPU's."""
    kind, keys, *rest = np.random.get_state()
    version, words, gauss = random.getstate()
    tensors = {
        "torch": torch.default_generator.get_state(),
        "numpy": torch.from_numpy(np.asarray(keys, np.int64)),
        "python": torch.tensor(words),
    }
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    return tensors, {"numpy": [kind, *rest], "python": [version, gauss]}


def restore_generators(device: torch.device, tensors: Tensors, rest: Any) -> None:
    """Give this process's generators their state again."""
    torch.default_generator.set_state(tensors["torch"])
    kind, *more = rest["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), *more))
    version, gauss = rest["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
