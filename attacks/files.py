"""Attacks by the file of weights: whoever publishes it is hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import torch

from attacks import forge
from attacks.attack import Attack, Mount, everywhere
from attacks.forge import State
from attacks.running import Ended
from attacks.stage import FILE, TIMM, TORCHVISION, ZOO, Stage, Trial, written

ESCAPES: Final = "\x1b]0;owned\x07\x1b[2J"


def _of_state(change: Callable[[State], State]) -> dict[str, Mount]:
    """Publish other tensors than the honest ones, in whatever file each library reads."""

    def mount(stage: Stage) -> Trial:
        return Trial(call=stage.serve(stage.written(change(stage.honest))))

    return everywhere(mount)


def _of_file(make: Callable[[State], bytes]) -> dict[str, Mount]:
    """Publish a safetensors file that breaks the format."""

    def mount(stage: Stage) -> Trial:
        return Trial(call=stage.serve(make(stage.honest)))

    return everywhere(mount, TORCHVISION)


def _pickle(stage: Stage) -> Trial:
    return Trial(call=stage.serve(forge.bare_pickle(stage.canary)))


def _zip(stage: Stage) -> Trial:
    content: dict[str, Any] = {**stage.honest, "payload": forge.Payload(stage.canary)}
    return Trial(call=stage.serve(forge.checkpoint(content)))


def _bin(stage: Stage) -> Trial:
    content: dict[str, Any] = {**stage.honest, "payload": forge.Payload(stage.canary)}
    stage.hub.add(
        stage.repository,
        {"pytorch_model.bin": forge.checkpoint(content), "config.json": b'{"width": 200}'},
    )
    return Trial(call=stage.load())


def _local_pickle(stage: Stage) -> Trial:
    content: dict[str, Any] = {**stage.honest, "payload": forge.Payload(stage.canary)}
    file = stage.work / "weights.pth"
    file.write_bytes(forge.checkpoint(content))
    return Trial(call=_local(stage, file.name))


def _local(stage: Stage, name: str) -> Any:
    if stage.victim == ZOO:
        return stage.call("zoo_build", recipe="timm/test_resnet", weights=name)
    return stage.call("timm_model", name="test_resnet", pretrained_cfg_overlay={"file": name})


def _escapes(stage: Stage) -> Trial:
    def printed(ended: Ended) -> str:
        raw = ended.report is not None and "\x1b" in ended.report.message
        return "escape sequences in the message" if raw else ""

    state = {**stage.honest, ESCAPES: torch.zeros(1)}
    return Trial(call=stage.serve(written(stage.victim, state)), harm=printed)


def _in_a_buffer(state: State) -> State:
    name = next(name for name in state if name.endswith("running_mean"))
    return {**state, name: forge.spoilt(state[name], float("nan"))}


def _empty_first(state: State) -> State:
    return forge.first_as(state, lambda tensor: tensor[:0])


def _transposed(state: State) -> State:
    return forge.first_as(state, lambda tensor: tensor.transpose(0, 1).contiguous())


def _overflowing(state: State) -> State:
    return forge.first_as(state, lambda tensor: forge.spoilt(tensor.double(), 1e300))


ATTACKS: Final = [
    Attack(
        name="pickle",
        title=f"a pickle with a payload, named `{FILE}`",
        mounts=everywhere(_pickle),
    ),
    Attack(
        name="zip",
        title=f"a checkpoint of `torch.save` with a payload, named `{FILE}`",
        mounts=everywhere(_zip),
    ),
    Attack(
        name="bin",
        title="a repository with a `pytorch_model.bin` alone, with a payload",
        mounts=everywhere(_bin, TORCHVISION),
    ),
    Attack(
        name="local-pickle",
        title="a local `.pth` file with a payload",
        mounts={ZOO: _local_pickle, TIMM: _local_pickle},
    ),
    Attack(name="empty", title="an empty file", mounts=_of_file(lambda state: b"")),
    Attack(
        name="header-length",
        title="a header that claims 2⁶² bytes",
        mounts=_of_file(lambda state: struct.pack("<Q", 2**62) + b"{}"),
    ),
    Attack(
        name="header-bytes",
        title="a header of 120 MB, of spaces",
        mounts=_of_file(lambda state: forge.long_header(state, 120_000_000)),
    ),
    Attack(
        name="header-depth",
        title="a header of a million lists in one another",
        mounts=_of_file(lambda state: forge.nested()),
    ),
    Attack(
        name="header-names",
        title="a header of 600,000 names, the last one twice",
        mounts=_of_file(lambda state: forge.many_names()),
    ),
    Attack(
        name="header-twice",
        title="a tensor that the header has twice, with two types",
        mounts=_of_file(forge.twice),
    ),
    Attack(
        name="escapes",
        title="a tensor's name that clears the terminal",
        mounts=everywhere(_escapes),
    ),
    Attack(
        name="long-name",
        title="a tensor's name of a million letters",
        mounts=_of_file(lambda state: forge.one_more(state, "a" * 1_000_000, [1], bytes(4))),
    ),
    Attack(name="overlap", title="tensors that overlap", mounts=_of_file(forge.overlapping)),
    Attack(name="gap", title="bytes hidden between tensors", mounts=_of_file(forge.gapped)),
    Attack(
        name="trailing",
        title="bytes hidden behind the tensors",
        mounts=_of_file(lambda state: forge.pack(state) + b"hidden!!" * 8),
    ),
    Attack(
        name="beyond", title="tensors beyond the file's end", mounts=_of_file(forge.beyond_the_end)
    ),
    Attack(name="negative", title="a negative offset", mounts=_of_file(forge.negative)),
    Attack(
        name="shape-overflow",
        title="a shape of 2³² × 2³² numbers in no bytes",
        mounts=_of_file(lambda state: forge.one_more(state, "more", [2**32, 2**32])),
    ),
    Attack(
        name="shape-empty",
        title="a shape of 0 × 2⁶³ numbers",
        mounts=_of_file(lambda state: forge.one_more(state, "more", [0, 2**63])),
    ),
    Attack(
        name="shape-deep",
        title="a tensor of 100,000 dimensions",
        mounts=_of_file(lambda state: forge.one_more(state, "more", [1] * 100_000, bytes(4))),
    ),
    Attack(
        name="integers",
        title="whole numbers where fractions belong",
        mounts=_of_state(lambda state: forge.first_as(state, lambda tensor: tensor.long())),
    ),
    Attack(
        name="float8",
        title="numbers of 8 bits where 32 belong",
        mounts=_of_state(
            lambda state: forge.first_as(state, lambda tensor: tensor.to(torch.float8_e4m3fn))
        ),
    ),
    Attack(
        name="float64",
        title="numbers of 64 bits that are infinite in 32",
        mounts=_of_state(_overflowing),
    ),
    Attack(name="missing", title="a missing tensor", mounts=_of_state(forge.without_first)),
    Attack(
        name="extra",
        title="a tensor too many",
        mounts=_of_state(lambda state: {**state, "more": torch.zeros(1)}),
    ),
    Attack(name="shape", title="a tensor of another shape", mounts=_of_state(_transposed)),
    Attack(name="no-values", title="a tensor without values", mounts=_of_state(_empty_first)),
    Attack(
        name="nan",
        title="a weight that is not a number",
        mounts=_of_state(
            lambda state: forge.first_as(state, lambda tensor: forge.spoilt(tensor, float("nan")))
        ),
    ),
    Attack(
        name="infinite",
        title="an infinite weight",
        mounts=_of_state(
            lambda state: forge.first_as(state, lambda tensor: forge.spoilt(tensor, float("inf")))
        ),
    ),
    Attack(
        name="nan-buffer",
        title="a running mean that is not a number",
        mounts=_of_state(_in_a_buffer),
    ),
]
