"""Explaining leaves the model, the caller's modes and the process as they were."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo_core.explainability import BaseExplainer, Explainer, GradCAM, VanillaSaliency, explaining

from .conftest import Unruly

QUICK: dict[str, dict[str, Any]] = {
    "grad_cam": {},
    "saliency": {},
    "smoothgrad": {"num_samples": 2},
    "integrated_gradients": {"num_steps": 2},
    "guided_backprop": {},
    "score_cam": {},
    "ablation_cam": {},
    "rise": {"num_masks": 4},
    "occlusion": {"patch_size": 16},
}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that must not change, by value and by identity."""
    modules = dict(model.named_modules())
    return {
        "flags": {name: module.training for name, module in modules.items()},
        "hooks": {(n, h): dict(getattr(m, h)) for n, m in modules.items() for h in HOOKS},
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "tensors": {name: id(t) for name, t in [*model.named_parameters(), *model.named_buffers()]},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "grads": {name: id(p.grad) for name, p in model.named_parameters()},
        "grad values": {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        },
        "random": [
            torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist(),
        ],
        "modes": [
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled(),
        ],
    }  # fmt: skip


def check_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in before.items():
        if "values" in key:
            torch.testing.assert_close(after[key], value, rtol=0, atol=0)
        else:
            assert after[key] == value


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left(unruly: Unruly, pictures: Tensor, method: str, fails: bool) -> None:
    calls: list[int] = []
    unruly.head.register_forward_hook(lambda *_: calls.append(1))
    explainer = Explainer(unruly, {method: QUICK[method]})
    unruly.fails = fails
    before = state(unruly)
    given = pictures.clone()
    if fails:
        with pytest.raises(RuntimeError, match="the model fails"):
            explainer.explain(given)
    else:
        values = explainer.explain(given)[method]
        assert not values.requires_grad
        assert calls
    check_same(before, state(unruly))
    assert torch.equal(given, pictures)
    assert given.grad is None


class Careless(BaseExplainer):
    """As a user may write it: it fills gradients, and forgets its hook."""

    def explain(self, inputs: Tensor, model: nn.Module, target_class: int) -> Tensor:  # type: ignore[override]
        model.requires_grad_(True)
        next(model.children()).register_forward_hook(lambda *_: None)
        inputs.requires_grad_()
        assert inputs.grad is None
        model(inputs)[:, target_class].sum().backward()
        assert inputs.grad is not None
        return inputs.grad


def test_nothing_is_left_by_others_either(unruly: Unruly, pictures: Tensor) -> None:
    before = state(unruly)
    values = Explainer(unruly, [Careless()]).explain(pictures, target_class=1)["Careless"]
    assert values.shape == pictures.shape
    check_same(before, state(unruly))
    expected = VanillaSaliency(unruly).explain(pictures, target_class=1)
    torch.testing.assert_close(values, expected)


def test_a_pending_graph_of_the_user_still_works(unruly: Unruly, pictures: Tensor) -> None:
    loss = unruly(pictures).sum()
    GradCAM(unruly).explain(pictures)
    unruly.zero_grad()
    loss.backward()
    assert unruly.head.weight.grad is not None


def test_the_users_input_keeps_its_graph(unruly: Unruly, pictures: Tensor) -> None:
    leaf = pictures.clone().requires_grad_()
    values = VanillaSaliency(unruly).explain(leaf * 2, target_class=0)
    assert not values.requires_grad
    assert leaf.grad is None


def test_casts_are_not_kept_for_the_callers_next_pass(unruly: Unruly, pictures: Tensor) -> None:
    unruly.eval().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        Explainer(unruly, ["grad_cam", "saliency"]).explain(pictures)
        with torch.no_grad():
            unruly.head.weight.zero_()
            unruly.head.bias.zero_()
        assert not unruly(pictures).any()


def test_flags_are_set_without_what_eval_may_do_beside() -> None:
    class Merging(nn.Module):
        merged = 0

        def train(self, mode: bool = True) -> Merging:
            self.merged += 1
            return super().train(mode)

    model = Merging()
    with explaining(model) as bare:
        assert bare is model
        assert not model.training
    assert model.training
    assert model.merged == 0


def test_layers_that_two_models_share_are_put_back_by_the_last() -> None:
    shared = nn.BatchNorm1d(2)
    one, other = nn.Sequential(shared), nn.Sequential(shared)
    outer, inner = explaining(one), explaining(other)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert not shared.training
    assert one.training
    inner.__exit__(None, None, None)
    assert shared.training


@pytest.fixture
def group(tmp_path: Any) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def plain(model: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
    methods = {name: QUICK[name] for name in ("grad_cam", "smoothgrad")}
    return dict(Explainer(model, methods).explain(pictures, target_class=[0, 1, 2]))


def test_wrapped_models_are_explained_as_they_are(
    two_heads: Callable[[], Any], pictures: Tensor, group: None
) -> None:
    expected = plain(two_heads(), pictures)
    inner = two_heads()
    inner.backbone.compile(backend="eager")
    wrapped = [
        torch.compile(two_heads(), backend="eager"),
        nn.parallel.DistributedDataParallel(two_heads()),
        torch.compile(nn.parallel.DistributedDataParallel(two_heads()), backend="eager"),
        nn.DataParallel(two_heads()),
        inner,
    ]
    for model in wrapped:
        outer: list[nn.Module] = []  # on one rank of many, it would wait for the others
        if model is not inner:
            model.register_forward_pre_hook(lambda module, _, outer=outer: outer.append(module))
        torch.testing.assert_close(plain(model, pictures), expected, rtol=0, atol=0)
        assert all(not module._forward_hooks for module in model.modules())
        assert not outer
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_a_layer_of_a_compiled_model_can_be_named(
    two_heads: Callable[[], Any], pictures: Tensor
) -> None:
    model = two_heads()
    compiled: Any = torch.compile(model, backend="eager")
    expected = GradCAM(model, "backbone.layer3").explain(pictures)
    found = GradCAM(compiled, compiled.backbone.layer3).explain(pictures)
    assert torch.equal(found, expected)


def test_any_mode_of_the_caller_gives_the_same(
    two_heads: Callable[[], Any], pictures: Tensor
) -> None:
    model = two_heads()
    expected = plain(model, pictures)
    with torch.no_grad():
        torch.testing.assert_close(plain(model, pictures), expected, rtol=0, atol=0)
    with torch.inference_mode():
        found = plain(model, pictures.clone())
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not any(value.is_inference() or value.requires_grad for value in found.values())
    model.requires_grad_(False)
    torch.testing.assert_close(plain(model, pictures), expected, rtol=0, atol=0)
    model = model.to(memory_format=torch.channels_last)
    found = plain(model, pictures.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_model_made_in_inference_mode_is_explained(
    two_heads: Callable[[], Any], pictures: Tensor
) -> None:
    with torch.inference_mode():
        model = two_heads()
    assert all(p.is_inference() for p in model.parameters())
    expected = plain(two_heads(), pictures)
    torch.testing.assert_close(plain(model, pictures), expected, rtol=0, atol=0)


@pytest.mark.parametrize("cast_inputs", [False, True])
def test_a_bfloat16_model_is_explained(
    two_heads: Callable[[], Any], pictures: Tensor, cast_inputs: bool
) -> None:
    expected = plain(two_heads(), pictures)
    inputs = pictures.bfloat16() if cast_inputs else pictures
    found = plain(two_heads().bfloat16(), inputs)
    assert found["grad_cam"].dtype == found["smoothgrad"].dtype == torch.float32
    assert (found["grad_cam"] - expected["grad_cam"]).abs().mean() < 0.1


def test_autocast_is_the_callers(two_heads: Callable[[], Any], pictures: Tensor) -> None:
    model = two_heads()
    exact = GradCAM(model).explain(pictures, target_class=1, normalize=False)
    dtypes = set()
    handle = model.backbone.layer4.register_forward_hook(lambda m, i, out: dtypes.add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found = GradCAM(model).explain(pictures, target_class=1, normalize=False)
    handle.remove()
    assert dtypes == {torch.bfloat16}
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.1 * exact.max()
