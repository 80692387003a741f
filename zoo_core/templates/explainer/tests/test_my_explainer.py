"""The contract of an explainer, and what is particular to this one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo_core.errors import InputError
from zoo_core.testing import CatalogueTests, ExplainerTests

from my_explainer.model import MyExplainer


class TestCatalogue(CatalogueTests):
    distribution = "my-explainer"


class TestContract(ExplainerTests):
    component = "my_explainer"


def linear(weights: torch.Tensor) -> nn.Module:
    """Give a model of one class whose score is the pictures times the weights."""
    layer = nn.Linear(weights.numel(), 1, bias=False)
    layer.weight.data.copy_(weights.flatten())
    return nn.Sequential(nn.Flatten(), layer)


def test_the_map_of_a_linear_model_is_the_length_of_its_weights() -> None:
    weights = torch.zeros(3, 9, 9)
    weights[:, 4, 4] = torch.tensor([2.0, -3.0, 6.0])
    expected = torch.zeros(1, 9, 9)
    expected[0, 4, 4] = 7
    explainer = MyExplainer(linear(weights), window=1)
    found = explainer.explain(torch.randn(1, 3, 9, 9), target_class=0)
    torch.testing.assert_close(found, expected)


def test_the_window_spreads_a_pixel_over_what_is_around_it() -> None:
    weights = torch.zeros(1, 9, 9)
    weights[0, 4, 4] = 9
    explainer = MyExplainer(linear(weights), window=3)
    found = explainer.explain(torch.randn(1, 1, 9, 9), target_class=0)
    expected = torch.zeros(1, 9, 9)
    expected[0, 3:6, 3:6] = 1
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("window", [0, 4, -1])
def test_a_window_without_a_middle_is_refused(window: int) -> None:
    with pytest.raises(InputError, match=f"window must be odd and positive, not {window}"):
        MyExplainer(window=window)
