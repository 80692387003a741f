"""The tensors of a saved model: where each goes, and which were changed by hand."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from zoo_core.errors import DamagedFileError, SavedModelError
from zoo_core.saved.config import SavedConfig
from zoo_core.store.header import Slot
from zoo_core.weights.blank import assign
from zoo_core.weights.tensorfile import DTYPES, TensorFile

State = Mapping[str, Tensor]

_BLOCK: Final = 4 * 1024 * 1024


def state_of(model: nn.Module) -> State:
    """Give a model's own tensors by name."""
    return model.state_dict(keep_vars=True)


def _ties(state: State) -> dict[str, str]:
    """Give, for each name, the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


@dataclass(frozen=True)
class Placement:
    """Which tensors go where.

    Attributes:
        moves: The model's name of each tensor that is loaded, and the file's.
        random: The model's tensors that the file has nothing for.
        dropped: The file's tensors that the model has no place for.
    """

    moves: dict[str, str] = field(default_factory=dict)
    random: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def settle(file: TensorFile, saved: State, here: State) -> Placement:
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
    plan = Placement()
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


def fill(model: nn.Module, file: TensorFile, plan: Placement) -> None:
    """Read the tensors and put them in their places, with the file's types.

    Raises:
        DamagedFileError: If the file has another hash, or was changed meanwhile.
        WeightsError: If a tensor holds what it must not.
    """
    _convert(model, file)
    state = state_of(model)
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
    own = {tensor.dtype for tensor in state_of(model).values() if tensor.is_floating_point()}
    if len(floating) == 1 and own != set(floating):
        model.to(floating[0])


def changed(
    file: TensorFile, config: SavedConfig, error: DamagedFileError | None = None
) -> SavedModelError:
    """Give the error for a file with another hash: the tensors that were changed, by name."""
    if config.checksums is None:
        return SavedModelError(str(error))
    names = [
        name
        for (name, found), saved in zip(checksums(file), config.checksums, strict=True)
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
