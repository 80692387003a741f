"""Rules that backbones, attentions and decoders share, since all are modules."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo_core.contracts import Component
from zoo_core.testing.conformance import state
from zoo_core.testing.conformance.comparing import ROUNDING, difference, shapes, share
from zoo_core.testing.conformance.rules import require, rule, trying
from zoo_core.testing.conformance.subject import ModuleSubject, perturb

MODULES = ("backbone", "attention", "decoder")


def add_gradients(outputs: list[Tensor]) -> None:
    """Add the gradients of a random sum of outputs to those that there are."""
    total = sum((x * torch.randn_like(x)).sum() for x in outputs)
    if isinstance(total, Tensor) and total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]


def untrained(module: nn.Module, run: Callable[[], list[Tensor]]) -> list[str]:
    """Give the names of parameters that no gradient reaches in train mode.

    Args:
        module: The module.
        run: Runs it, and gives what the gradients are of.
    """
    learnt = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def left() -> list[str]:
        return [n for n, p in learnt.items() if p.grad is None or not bool(p.grad.any())]

    module.train()
    for attempt in range(4):  # a layer that is dropped by chance gets none in one pass
        torch.manual_seed(attempt)
        perturb(module, attempt)  # a ReLU may give nothing but zeros
        add_gradients(run())
        if not left():
            return []
    unused = [name for name, parameter in learnt.items() if parameter.grad is None]
    module.eval()  # of a few values, a batch norm in train mode leaves nothing but the signs
    for attempt in range(8):
        if unused or not left():
            break
        perturb(module, 4 + attempt)
        add_gradients(run())
    return unused or left()


def values_of(module: nn.Module) -> dict[str, Tensor]:
    """Give a copy of each tensor of a module's state dict."""
    held = module.state_dict().items()
    return {name: value.clone() for name, value in held if isinstance(value, Tensor)}


def listed(names: list[str], most: int = 3) -> str:
    """Give the first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@rule(*MODULES)
def gradients(subject: ModuleSubject) -> None:
    """In training, a gradient reaches every parameter."""
    module = subject.make()
    missing = untrained(module, lambda: subject.run(module, subject.inputs(2)))
    require(
        not missing,
        expected="a gradient at every parameter that requires one",
        found=f"none, or only zeros, at {listed(missing)}",
        change="use the parameter in forward without detaching it, or leave it out",
    )


@rule(*MODULES)
def train_and_eval(subject: ModuleSubject) -> None:
    """It runs in train mode, and in eval mode twice alike and without changing its buffers."""
    module = subject.make()
    with trying("a pass in train mode", "let forward work for a batch in train mode"):
        subject.run(module, subject.inputs(2))
    module.eval()
    modes = sorted(name or "itself" for name, part in module.named_modules() if part.training)
    require(
        not modes,
        expected="all of it in eval mode after eval()",
        found=f"{listed(modes)} in train mode",
        change="let train(mode) reach every submodule",
    )
    before = values_of(module)
    first = subject.infer(module, subject.inputs(2))
    changed = state.changed(before, values_of(module))
    require(
        not changed,
        expected="the same state dict after a pass in eval mode",
        found=f"{listed(changed)} changed",
        change="update buffers only where self.training is true",
    )
    torch.manual_seed(1)
    gap = difference(subject.infer(module, subject.inputs(2)), first)
    require(
        gap == 0,
        expected="the same output of a second pass in eval mode",
        found=f"outputs that differ by {share(gap)}",
        change="draw random numbers, and keep values between passes, in train mode only",
    )


@rule(*MODULES)
def seed(subject: ModuleSubject) -> None:
    """Its initial values depend on torch's seed alone."""
    one = values_of(subject.make(7))
    after_one = torch.get_rng_state()
    differing = state.changed(one, values_of(subject.make(7)))
    require(
        not differing,
        expected="the same initial values after the same torch.manual_seed",
        found=f"others in {listed(differing)}",
        change="draw them from torch's global generator only",
    )
    subject.make(8)
    require(
        not torch.equal(after_one, torch.get_rng_state()),
        expected="torch's generator to go on from the seed that the user set",
        found="the same state of it after construction, whatever the seed was",
        change="never call torch.manual_seed; use a torch.Generator of its own",
    )


@rule(*MODULES)
def inputs_kept(subject: ModuleSubject) -> None:
    """What it is given is not changed in place."""
    module = subject.make_ready()
    inputs, given = subject.inputs(2), subject.inputs(2)
    with torch.no_grad():
        subject.adapted(module)(*given)
    require(
        difference(given, inputs) == 0,
        expected="inputs as they were",
        found="other values in them after forward",
        change="begin with an operation that is not in place: x = x * y, not x *= y",
    )


@rule(*MODULES)
def batch_independence(subject: ModuleSubject) -> None:
    """In eval mode, what it gives of a picture does not depend on the others in the batch."""
    module = subject.make_ready()
    inputs = subject.inputs(3)
    whole = subject.infer(module, inputs)
    alone = [subject.infer(module, [x[row : row + 1] for x in inputs]) for row in range(3)]
    gap = difference([torch.cat(rows) for rows in zip(*alone, strict=True)], whole)
    require(
        gap < ROUNDING,
        expected="of each picture alone what the batch gives of it",
        found=f"outputs that differ by {share(gap)}",
        change="take no statistics over the batch (dimension 0) in eval mode",
    )


@rule(*MODULES)
def state_dict(subject: ModuleSubject) -> None:
    """Its state dict, loaded into another one, makes that do the same."""
    module = subject.make_ready()
    learnt = dict(module.named_parameters())
    for name, value in module.state_dict().items():  # its buffers that are stored
        if name not in learnt and isinstance(value, Tensor) and value.is_floating_point():
            value += 0.1
    other = subject.make(1).eval()
    with trying("a state dict that another one of it loads", "keep the names of its tensors"):
        other.load_state_dict(copy.deepcopy(module.state_dict()))
    inputs = subject.inputs(2)
    gap = difference(subject.infer(other, inputs), subject.infer(module, inputs))
    require(
        gap < 1e-6,
        expected="the same output after load_state_dict",
        found=f"outputs that differ by {share(gap)}",
        change="keep what forward reads in parameters and persistent buffers",
    )


@rule(*MODULES)
def by_value(subject: ModuleSubject) -> None:
    """Its constructor's arguments can be written as JSON and construct it again."""
    module = subject.make()
    assert isinstance(module, Component)
    arguments = module.constructor_arguments
    change = "take numbers, texts and lists of them, and do not change them in the constructor"
    with trying("constructor arguments that JSON can hold", change):
        written = json.dumps(arguments, allow_nan=False)
    read: dict[str, Any] = json.loads(written)
    # A schedule follows from the backbone.
    read |= {name: value for name, value in arguments.items() if hasattr(value, "strides")}
    torch.manual_seed(0)
    with trying("a constructor that takes its arguments again", change):
        other = type(module)(**read)
    ours = {name: value.shape for name, value in values_of(module).items()}
    theirs = {name: value.shape for name, value in values_of(other).items()}
    differing = state.changed(ours, theirs)
    require(
        not differing,
        expected="tensors of the same names and shapes when it is constructed again",
        found=f"other ones: {listed(differing)}",
        change=change,
    )


@rule(*MODULES)
def dtypes(subject: ModuleSubject) -> None:
    """Moved to float64 or bfloat16, it gives tensors of that dtype."""
    change = "create tensors in forward with the dtype of its input: x.new_zeros(…)"
    for dtype in (torch.float64, torch.bfloat16):
        module = subject.make_ready().to(dtype)
        with trying(f"a pass in {_short(dtype)}", change):
            outputs = subject.infer(module, [x.to(dtype) for x in subject.inputs(2)])
        found = sorted({_short(x.dtype) for x in outputs} - {_short(dtype)})
        require(
            not found,
            expected=f"{_short(dtype)} of a module and inputs of {_short(dtype)}",
            found=listed(found),
            change=change,
        )


@rule(*MODULES)
def devices(subject: ModuleSubject) -> None:
    """Constructed on or moved to another device, it runs there: meta, and CUDA where there is."""
    change = "create tensors in forward on the device of its input, and read no values of them"
    reference = subject.infer(subject.make_ready(), subject.inputs(2))
    with trying("construction within torch.device('meta')", change), torch.device("meta"):
        blank = subject.make().eval()
    for what, module in (("constructed", blank), ("moved", subject.make_ready().to("meta"))):
        with trying(f"a pass on the meta device of a module that was {what} there", change):
            outputs = subject.infer(module, [x.to("meta") for x in subject.inputs(2)])
        require(
            shapes(outputs) == shapes(reference) and all(x.is_meta for x in outputs),
            expected=f"{shapes(reference)} on the meta device",
            found=f"{shapes(outputs)} on {listed(sorted({str(x.device) for x in outputs}))}",
            change=change,
        )
    if torch.cuda.is_available():
        with trying("a pass on the device cuda", change):
            outputs = subject.infer(
                subject.make_ready().to("cuda"), [x.to("cuda") for x in subject.inputs(2)]
            )
        gap = difference([x.cpu() for x in outputs], reference)
        require(
            gap < 100 * ROUNDING,  # tf32 and other algorithms
            expected="what the CPU gives",
            found=f"outputs that differ by {share(gap)}",
            change=change,
        )


@rule(*MODULES)
def compiles(subject: ModuleSubject) -> None:
    """torch.compile makes one graph of it that does the same."""
    module = subject.make_ready()
    inputs = subject.inputs(2)
    expected = subject.infer(module, inputs)
    compiled = torch.compile(subject.adapted(module), backend="eager", fullgraph=True)
    change = "keep forward to tensor operations: no print, no .item(), no branch on values"
    try:
        with trying("one graph of torch.compile", change), torch.no_grad():
            found = list(compiled(*subject.inputs(2)))
    finally:
        torch._dynamo.reset()
    gap = difference(found, expected)
    require(
        gap < ROUNDING,
        expected="the same output compiled",
        found=f"outputs that differ by {share(gap)}",
        change=change,
    )


@rule(*MODULES)
def exports(subject: ModuleSubject) -> None:
    """torch.export makes a program of it, with an open batch, that does the same."""
    module = subject.adapted(subject.make_ready())
    inputs = tuple(subject.inputs(2))
    open_batch = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
    change = "keep forward to tensor operations, and read sizes from x.shape in it"
    with trying("a program of torch.export", change), torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=open_batch).module()
    with torch.no_grad():
        expected = list(module(*subject.inputs(3)))
        with trying("a program that takes another batch than the example's", change):
            found = list(program(*subject.inputs(3)))
    gap = difference(found, expected)
    require(
        gap < ROUNDING,
        expected="the same output exported",
        found=f"outputs that differ by {share(gap)}",
        change=change,
    )


@rule(*MODULES)
def global_state(subject: ModuleSubject) -> None:
    """Constructing and running it changes nothing of the process around it."""
    everything = {**state.SETTINGS, **state.GENERATORS}
    torchs = "torch's random numbers"
    before = state.read(everything)
    module = subject.make()
    add_gradients(subject.run(module, subject.inputs(2)))
    changed = [name for name in state.changed(before, state.read(everything)) if name != torchs]
    doing = "constructing and training it"
    if not changed:
        module.eval()
        before = state.read(everything)
        subject.infer(module, subject.inputs(1))
        changed = state.changed(before, state.read(everything))
        doing = "a pass in eval mode"
    require(
        not changed,
        expected="the process as it was",
        found=f"{doing} changed {listed(changed)}",
        change="leave settings and random numbers of the process to its user",
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
