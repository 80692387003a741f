"""Shapes told at a glance are those that torch works out, and nothing is worked out twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_core import shapes
from zoo_core.errors import InputError
from zoo_core.shapes import ShapesOnly, on_meta
from zoo_timm import plan, twin
from zoo_timm.model import TimmBackbone


def _x(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _last(*shape: int) -> Tensor:
    return _x(*shape).permute(0, 3, 1, 2)


KNOWN: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (F.layer_norm, (_x(2, 5, 8), (8,), _x(8), _x(8))),
    (F.layer_norm, (_x(2, 8, 5).mT, [8])),
    (F.layer_norm, (_x(2, 5, 4, 8), (4, 8))),
    (F.batch_norm, (_x(2, 8, 5, 5), _x(8), _x(8), _x(8), _x(8))),
    (F.batch_norm, (_last(2, 5, 5, 8), _x(8), _x(8))),
    (F.linear, (_x(2, 5, 8), _x(3, 8), _x(3))),
    (F.linear, (_x(2, 8, 5).mT, _x(3, 8))),
    (F.gelu, (_x(2, 5),)),
    (F.gelu, (_last(2, 5, 5, 8),)),
    (F.gelu, (_x(2, 5, 8)[:, 1:],)),
    (F.gelu, (_x(1, 8, 5).mT,)),
    (F.gelu, (_last(1, 5, 1, 8),)),
    (F.scaled_dot_product_attention, (_x(2, 3, 5, 8), _x(2, 3, 6, 8), _x(2, 3, 6, 4))),
    (F.scaled_dot_product_attention, (_x(2, 3, 5, 8),) * 3 + (_x(1, 3, 5, 5),)),
    (F.scaled_dot_product_attention, (_x(2, 5, 3, 8).transpose(1, 2),) * 3),
    (F.interpolate, (_x(2, 3, 5, 5), (7, 9), None, "bilinear", False)),
    (F.interpolate, (_x(2, 3, 5, 5), 4, None, "bicubic", True)),
    (F.interpolate, (_last(2, 5, 6, 3), (7, 9), None, "bicubic", None, None, True)),
    (F.conv2d, (_x(2, 4, 9, 7), _x(6, 4, 3, 3))),
    (F.conv2d, (_x(2, 4, 9, 8), _x(6, 2, 3, 2), _x(6), 2, (1, 0), (2, 1), 2)),
    (F.max_pool2d, (_x(2, 4, 9, 8), 3, 2, 1)),
    (F.max_pool2d, (_x(2, 4, 9, 8), (3, 2), None, 0, (2, 1))),
    (torch.cat, ([_x(2, 5, 8), _x(2, 8, 6).mT], -2)),
    (torch.cat, ([_x(2, 5, 3, 3), _x(2, 1, 3, 3)], 1)),
    (Tensor.mean, (_x(2, 5, 3, 4), (2, 3))),
    (Tensor.mean, (_x(2, 5, 3, 4), -1, True)),
    (torch.mean, (_x(2, 5, 3, 4), [1])),
    (Tensor.mean, (_last(2, 5, 5, 8), (2, 3))),
    (Tensor.mean, (_last(2, 5, 5, 8), 1, True)),
    (Tensor.mean, (_x(2, 5, 8)[:, 1:], 1)),
    (torch.roll, (_x(2, 5, 5, 8), (1, 1), (1, 2))),
    (torch.roll, (_last(2, 5, 5, 8), 3)),
    (Tensor.add, (_x(2, 5, 8), _x(2, 5, 8))),
    (Tensor.add, (_x(2, 8, 5).mT, _x(2, 8, 5).mT)),
    (Tensor.add, (_x(2, 8, 5).mT, _x(2, 5, 8))),
    (Tensor.mul, (_last(2, 5, 5, 8), _x(8, 1, 1))),
    (Tensor.mul, (_x(2, 5), 3)),
    (Tensor.sub, (_x(2, 1, 5), _x(2, 5, 1))),
    (Tensor.__iadd__, (_x(2, 5, 8), _x(5, 1))),
    (Tensor.__imul__, (_last(2, 5, 5, 8), 2)),
    (Tensor.mul_, (_x(2, 8, 5).mT, _x(2, 5, 8))),
    (Tensor.sub, (_x(2, 1, 5, dtype=torch.int64), _x(7, 1, 1, 1, dtype=torch.int64))),
    (Tensor.ne, (_x(2, 5), 0)),
    (Tensor.masked_fill, (_x(2, 5, 5), _x(5, 5, dtype=torch.bool), -100.0)),
]

REFUSED: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (F.layer_norm, (_x(2, 5, 8), (5,))),
    (F.layer_norm, (_x(2, 5, 8), (8,), _x(5))),
    (F.linear, (_x(2, 5, 8), _x(3, 5))),
    (F.interpolate, (_x(2, 3, 5, 5), (7, 9), 2.0, "bilinear")),
    (F.conv2d, (_x(2, 4, 9, 7), _x(6, 3, 3, 3))),
    (F.conv2d, (_x(2, 4, 2, 7), _x(6, 4, 3, 3))),
    (F.max_pool2d, (_x(2, 4, 2, 2), 3)),
    (F.max_pool2d, (_x(2, 4, 9, 9), 3, 2, 2)),
    (torch.cat, ([_x(2, 5), _x(3, 4)],)),
    (torch.cat, ([_x(2, 5), _x(2, 5)], 2)),
    (Tensor.mean, (_x(2, 5), 2)),
    (Tensor.mean, (_x(2, 5), (1, 1))),
    (F.scaled_dot_product_attention, (_x(2, 3, 5, 8), _x(2, 3, 6, 8), _x(2, 3, 7, 8))),
    (F.scaled_dot_product_attention, (_x(2, 3, 5, 8),) * 3 + (_x(5, 6),)),
    (Tensor.add, (_x(2, 5), _x(2, 4))),
    (Tensor.masked_fill, (_x(2, 5), _x(4, dtype=torch.bool), 0.0)),
    (Tensor.add_, (_x(2, 5), _x(2, 4))),
]

LEFT: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (F.batch_norm, (_x(2, 8, 5), None, None, None, None, True)),
    (F.linear, (_x(8), _x(3, 8))),
    (F.conv2d, (_last(2, 9, 7, 4), _x(6, 4, 3, 3))),
    (F.conv2d, (_x(2, 4, 9, 7), _x(6, 4, 3, 3), None, 1, "same")),
    (F.conv2d, (_x(2, 4, 9, 7), _x(6, 4, 3, 3), None, 1, -1)),
    (F.conv2d, (_x(4, 9, 7), _x(6, 4, 3, 3))),
    (F.conv2d, (_x(2, 4, 9, 7), _x(6, 4, 3, 3), _x(5))),
    (F.max_pool2d, (_x(2, 4, 9, 8), 3, 2, 1, 1, True)),
    (F.max_pool2d, (_last(2, 9, 7, 4), 3)),
    (torch.cat, ([_last(2, 9, 7, 4), _last(2, 9, 7, 4)], 1)),
    (torch.cat, ([_x(2, 5), _x(0)], 1)),
    (torch.cat, ([_x(2, 5), _x(2, 5, dtype=torch.float64)],)),
    (Tensor.mean, (_x(2, 5),)),
    (F.scaled_dot_product_attention, (_x(2, 3, 5, 8),) * 3 + (None, 0.0, True)),
    (Tensor.add, (_x(1, 5).expand(4, 5), _x(5, 4).mT)),
    (Tensor.add, (_x(2, 5), _x(2, 5, dtype=torch.float64))),
    (Tensor.mul, (_x(2, 5, dtype=torch.int64), 0.5)),
    (Tensor.ne, (_x(2, 5), _x(5))),
    (torch.add, (torch.ones(2), torch.ones(2))),
    (nn.init.ones_, (torch.empty(2),)),
]


def _seen(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


@pytest.mark.parametrize(("function", "args"), KNOWN)
def test_what_is_told_at_a_glance_is_what_torch_works_out(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    told = shapes._SHORTCUTS[function](*args)
    assert told is not None
    with ShapesOnly():
        assert _seen(function(*args)) == _seen(told)
    assert _seen(function(*args)) == _seen(told)


@pytest.mark.parametrize(("function", "args"), REFUSED)
def test_what_torch_refuses_is_still_refused(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    with ShapesOnly(), pytest.raises((RuntimeError, ValueError, IndexError)):
        function(*args)


@pytest.mark.parametrize(("function", "args"), LEFT)
def test_all_else_is_left_to_torch(function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    expected = function(*args)
    with ShapesOnly():
        seen = function(*args)
    assert _seen(seen) == _seen(expected)
    assert seen.is_meta or torch.equal(seen, expected)


def test_arguments_by_name_are_left_to_torch() -> None:
    with ShapesOnly():
        assert F.linear(input=_x(2, 8), weight=_x(3, 8)).shape == (2, 3)


def test_tensors_with_data_get_their_initial_values() -> None:
    torch.manual_seed(0)
    expected = nn.Linear(3, 4)
    torch.manual_seed(0)
    with ShapesOnly():
        layer = nn.Linear(3, 4)
        nn.init.trunc_normal_(layer.bias)
    assert torch.equal(layer.weight, expected.weight)
    assert layer.bias.count_nonzero() == 4


@pytest.mark.parametrize(
    ("name", "in_channels", "image_size"),
    [
        ("resnet18", 3, None),
        ("vit_tiny_patch16_224", 1, None),
        ("swin_tiny_patch4_window7_224", 3, None),
        ("coatnet_pico_rw_224", 3, (300, 200)),
        ("levit_128s", 3, None),
    ],
)
def test_a_plan_is_the_same_without_short_cuts(
    name: str,
    in_channels: int,
    image_size: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = plan.make_plan.__wrapped__
    quick = make(name, in_channels, image_size)
    monkeypatch.setattr(shapes, "_SHORTCUTS", {})
    assert make(name, in_channels, image_size) == quick


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_a_twin_is_constructed_once_and_runs_each_size_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[tuple[int, ...]] = Counter()
    built: list[Any] = []
    construct = twin._construct

    def counted(*args: Any) -> Any:
        model = construct(*args)
        forward = model.forward_intermediates

        def spy(x: Tensor, **options: Any) -> Any:
            runs[tuple(x.shape)] += 1
            return forward(x, **options)

        model.forward_intermediates = spy
        built.append(model)
        return model

    monkeypatch.setattr(twin, "_construct", counted)
    plan.make_plan.__wrapped__(name, 3, None)
    assert len(built) == 1
    assert set(runs.values()) == {1}


def test_arguments_that_a_constructor_swallows_are_not_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def swallowing(name: str, **options: Any) -> Any:
        return timm_create("resnet18", in_chans=options["in_chans"])

    timm_create = timm.create_model
    monkeypatch.setattr(timm, "create_model", swallowing)
    assert plan._flexible_twin("resnet18", 3).options == {"in_chans": 3}


def test_a_name_with_a_tag_is_no_architecture() -> None:
    with pytest.raises(InputError, match=r"no architecture 'resnet50\.a1_in1k'"):
        plan.make_plan("resnet50.a1_in1k", 3, None)


def test_blank_backbones_are_whole_but_for_their_values() -> None:
    with torch.device("meta"):
        blank = TimmBackbone("vit_tiny_patch16_224")
    whole = TimmBackbone("vit_tiny_patch16_224")
    assert all(value.is_meta for value in blank.state_dict().values())
    shapes = [
        {key: (value.shape, value.dtype) for key, value in one.state_dict().items()}
        for one in (blank, whole)
    ]
    assert shapes[0] == shapes[1]
    needing = [[value.requires_grad for value in one.parameters()] for one in (blank, whole)]
    assert needing[0] == needing[1]


def test_on_meta_everything_stands_on_the_meta_device() -> None:
    with on_meta():
        assert nn.Linear(2, 3)(torch.zeros(1, 2)).is_meta
