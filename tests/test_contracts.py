"""What third-party components rely on in the base classes."""

from __future__ import annotations

import copy
import multiprocessing
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo_core as zoo
from zoo_core import Attention, Backbone, BaseExplainer, ChannelSchedule, Features
from zoo_core.errors import InputError


class Scale(Attention):
    """Takes arguments of every kind."""

    def __init__(self, in_channels: int, factor: float = 2.0, *rest: int, **more: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_constructor_arguments_are_remembered_by_name() -> None:
    assert Scale(8).constructor_arguments == {"in_channels": 8, "factor": 2.0}
    assert Scale(8, 3.0, 4, 5, extra=6).constructor_arguments == {
        "in_channels": 8, "factor": 3.0, "rest": (4, 5), "extra": 6,
    }  # fmt: skip
    twin = copy.deepcopy(Scale(in_channels=3))
    assert twin.constructor_arguments == {"in_channels": 3, "factor": 2.0}
    twin.constructor_arguments["in_channels"] = 9
    assert twin.constructor_arguments["in_channels"] == 3


class OneMap(Backbone):
    """The least that a backbone must have."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x[:, :, ::4, ::4]]

    def get_channel_schedule(self) -> ChannelSchedule:
        return ChannelSchedule([3])


def test_a_backbone_pools_its_last_map_unless_it_says_otherwise() -> None:
    x = torch.randn(2, 3, 8, 12)
    features = OneMap().forward_features(x)
    assert isinstance(features, Features)
    torch.testing.assert_close(features.pooled, x[:, :, ::4, ::4].mean((2, 3)))
    assert OneMap().pooled_channels == 3


def test_a_backbone_without_its_methods_cannot_be_made() -> None:
    class Half(Backbone):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x]

    with pytest.raises(TypeError, match=r"abstract method '?get_channel_schedule'?"):
        Half()


class MyExplainer(BaseExplainer):
    """As a user writes it, with positional arguments and no constructor."""

    def explain(self, inputs: Tensor, model: nn.Module, target_class: int) -> Tensor:  # type: ignore[override]
        return model(inputs)[:, target_class, None, None].expand(-1, *inputs.shape[2:])


def test_an_explainer_needs_nothing_but_explain() -> None:
    model = zoo.build("resnet18", num_classes_classification=4, seed=0).eval()
    inputs = torch.randn(2, 3, 32, 40)
    assert MyExplainer().explain(inputs, model, 1).shape == (2, 32, 40)
    assert MyExplainer().explain(inputs, model=model, target_class=1).shape == (2, 32, 40)


@pytest.mark.parametrize(
    ("channels", "strides", "message"),
    [
        ([], None, "needs positive channels and strides, not [] and []"),
        ([8, 0], None, "needs positive channels and strides, not [8, 0] and [4, 8]"),
        ([8, 16], [4], "2 channels but 1 strides in a schedule: [8, 16] and [4]"),
        ([8, 16], [8, 4], "strides go from shallow to deep, not [8, 4]"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(
    channels: list[int], strides: list[int] | None, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        ChannelSchedule(channels, strides)
    assert message in str(caught.value)


def answer(model: nn.Module, queue: Any) -> None:
    with torch.no_grad():
        queue.put(model(torch.ones(1, 3, 32, 32)).tolist())


def test_a_model_can_be_sent_to_another_process() -> None:
    model = zoo.build("resnet18", num_classes_classification=3, seed=0).eval()
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    child = spawn.Process(target=answer, args=(model, queue))
    child.start()
    with torch.no_grad():
        torch.testing.assert_close(
            torch.tensor(queue.get(timeout=120)), model(torch.ones(1, 3, 32, 32))
        )
    child.join()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_are_built_in_the_default_dtype(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        model = zoo.build("resnet18+cbam+unet", seed=0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize(
    "recipe", ["resnet18+cbam@all+unet", "timm/swin_tiny_patch4_window7_224+unet"]
)
def test_dtype_and_memory_format_do_not_change_the_answer(recipe: str) -> None:
    model = zoo.build(recipe, seed=0).eval()
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = model(images)
        last = model.to(memory_format=torch.channels_last)
        found = last(images.to(memory_format=torch.channels_last))
        half = model.bfloat16()(images.bfloat16())
    for head, logits in expected.items():
        torch.testing.assert_close(found[head], logits, atol=1e-4, rtol=1e-4)
        assert half[head].dtype == torch.bfloat16
        assert half[head].isfinite().all()
