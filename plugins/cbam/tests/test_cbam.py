"""CBAM against timm's."""

from __future__ import annotations

import pytest
import torch
from timm.layers.cbam import CbamModule

from zoo_cbam.model import CBAM
from zoo_core.errors import InputError


@pytest.mark.parametrize(("channels", "reduction"), [(64, 16), (256, 8), (10, 16)])
@pytest.mark.parametrize("training", [False, True])
def test_same_weights_give_timms_result(channels: int, reduction: int, training: bool) -> None:
    torch.manual_seed(0)
    ours = CBAM(channels, reduction).double().train(training)
    theirs = CbamModule(channels, rd_channels=max(1, channels // reduction)).double()
    theirs.train(training)
    for mine, other in zip(
        ours.channel.mlp[::2], (theirs.channel.fc1, theirs.channel.fc2), strict=True
    ):
        other.load_state_dict(mine.state_dict())
    theirs.spatial.conv.conv.load_state_dict(ours.spatial.conv.state_dict())
    theirs.spatial.conv.bn.load_state_dict(ours.spatial.norm.state_dict())
    x = torch.randn(2, channels, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shape_and_dtype_are_kept_and_every_parameter_learns(dtype: torch.dtype) -> None:
    cbam = CBAM(32, reduction=4).to(dtype)
    x = torch.randn(2, 32, 5, 11, dtype=dtype)
    result = cbam(x)
    assert result.shape == x.shape
    assert result.dtype == dtype
    result.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cbam.parameters())


@pytest.mark.parametrize("arguments", [(0, 16), (64, 0), (64, 2.5)])
def test_wrong_arguments_are_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="of CBAM must be a positive whole number, not"):
        CBAM(*arguments)
