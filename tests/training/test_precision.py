"""Half precision with true gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.training import MixedPrecisionManager

HALF = [torch.float16, torch.bfloat16]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def batches(count: int = 12) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(32, 8, generator=generator),
            torch.randint(3, (32,), generator=generator),
        )
        for _ in range(count)
    ]


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def train(
    amp: MixedPrecisionManager, loader: list[tuple[Tensor, Tensor]], *, zero: bool
) -> nn.Module:
    """The snippet of the manager's description, letter for letter but for the loss."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for batch in loader:
        if zero:
            optimizer.zero_grad()
        with amp.autocast():
            loss = loss_of(model, batch)
        amp.backward(loss)
        optimizer.step()
    return model


def distance(one: nn.Module, other: nn.Module) -> float:
    return max(
        float((a - b).detach().abs().max())
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_the_snippet_trains_as_float32_does(dtype: torch.dtype, zero: bool) -> None:
    exact = train(MixedPrecisionManager(enabled=False), batches(), zero=zero)
    found = train(MixedPrecisionManager(dtype=dtype, device="cpu"), batches(), zero=zero)
    moved = distance(network(), exact)
    bound = {torch.float32: 0.0, torch.float16: 0.003, torch.bfloat16: 0.03}[dtype]
    assert moved > 0.1
    assert distance(exact, found) <= bound * moved


@pytest.mark.parametrize("dtype", HALF)
def test_gradients_are_true_and_add_up(dtype: torch.dtype) -> None:
    amp = MixedPrecisionManager(dtype=dtype, device="cpu")
    model, exact = network(), network()
    for batch in batches(3):
        with amp.autocast():
            loss = loss_of(model, batch)
        amp.backward(loss)
        loss_of(exact, batch).backward()  # type: ignore[no-untyped-call]
    for found, wanted in zip(model.parameters(), exact.parameters(), strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(found.grad, wanted.grad, atol=1e-2, rtol=1e-2)


def test_clipping_sees_true_gradients() -> None:
    norms = []
    for dtype in (torch.float32, torch.float16):
        amp, model = MixedPrecisionManager(dtype=dtype, device="cpu"), network()
        with amp.autocast():
            loss = loss_of(model, batches()[0])
        amp.backward(loss)
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.01)))
    assert norms[1] == pytest.approx(norms[0], rel=1e-2)


def overflowing(amp: MixedPrecisionManager, model: nn.Module) -> None:
    with amp.autocast():
        loss = model(torch.randn(4, 8)).sum() * 1e30
    amp.backward(loss.float() * 1e10)


def test_an_overflowed_step_is_skipped_and_the_scale_is_halved() -> None:
    amp, model = MixedPrecisionManager(dtype=torch.float16, device="cpu"), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    first, second = batches(2)
    amp.backward(loss_of(model, first))
    optimizer.step()  # now there is momentum, which would move the weights
    optimizer.zero_grad()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scale = amp.scaler.get_scale()
    overflowing(amp, model)
    optimizer.step()
    assert amp.scaler.get_scale() == scale / 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    amp.backward(loss_of(model, second))
    optimizer.step()
    assert not torch.equal(model.state_dict()["0.weight"], before["0.weight"])


def test_gradients_before_an_overflow_are_kept_or_zeroed_as_asked() -> None:
    amp, model = MixedPrecisionManager(dtype=torch.float16, device="cpu"), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    amp.backward(loss_of(model, batches()[0]))
    weight = next(model.parameters())
    assert weight.grad is not None
    grad = weight.grad.clone()
    overflowing(amp, model)
    before = weight.detach().clone()
    optimizer.step()
    assert torch.equal(weight, before)
    assert torch.equal(weight.grad, grad)
    optimizer.step()  # only one is skipped
    assert torch.equal(weight, before.add(grad, alpha=-0.1))  # rounded once, as SGD does
    optimizer.zero_grad()
    assert weight.grad is None


def test_only_optimizers_of_what_overflowed_are_held_back() -> None:
    amp = MixedPrecisionManager(dtype=torch.float16, device="cpu")
    model, other = network(), network()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other)]
    amp.backward(loss_of(other, batches()[0]))
    overflowing(amp, model)
    for optimizer in optimizers:
        optimizer.step()
    assert distance(model, network()) == 0
    assert distance(other, network()) > 0


def test_a_cpu_stays_in_float32_unless_told_otherwise() -> None:
    amp = MixedPrecisionManager(enabled=True, device="cpu")
    assert amp.dtype == torch.float32
    assert not amp.enabled
    with amp.autocast():
        assert network()(torch.randn(2, 8)).dtype == torch.float32
    with MixedPrecisionManager(dtype=torch.bfloat16, device="cpu").autocast():
        assert network()(torch.randn(2, 8)).dtype == torch.bfloat16


def test_the_scale_is_taken_up_again() -> None:
    amp = MixedPrecisionManager(dtype=torch.float16, device="cpu")
    overflowing(amp, network())
    again = MixedPrecisionManager(dtype=torch.float16, device="cpu")
    again.load_state_dict(amp.state_dict())
    assert again.scaler.get_scale() == 32768
    torch.optim.SGD(network().parameters(), lr=0.1).step()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: torch.randn(2, 3, requires_grad=True), r"not of shape \(2, 3\)"),
        (lambda: {"classification": torch.ones(())}, "not {'classification'"),
        (lambda: torch.ones(()), "requires a gradient"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_no_loss_is_refused(
    wrong: Callable[[], Tensor], message: str, dtype: torch.dtype
) -> None:
    with pytest.raises(InputError, match=message):
        MixedPrecisionManager(dtype=dtype, device="cpu").backward(wrong())


def test_another_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"not torch\.float64"):
        MixedPrecisionManager(dtype=torch.float64)
