"""What a vision transformer is built of; modules and their tensors have timm's names."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """``x · sigmoid(1.702 x)``, which CLIP was first trained with (Radford et al. 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        """Give values of the same shape."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens ``[B, N, D]``."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens of the same shape."""
        batch, count, dim = x.shape
        heads = self.qkv(x).reshape(batch, count, 3, self.num_heads, dim // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        tokens: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, dim))
        return tokens


class MLP(nn.Module):
    """Two linear layers on each token."""

    def __init__(self, dim: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens of the same shape."""
        tokens: Tensor = self.fc2(self.act(self.fc1(x)))
        return tokens


class LayerScale(nn.Module):
    """A learnt factor for each channel (Touvron et al. 2021, https://arxiv.org/abs/2103.17239)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens of the same shape."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a shortcut."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        *,
        activation: str,
        eps: float,
        layer_scale: float | None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, num_heads)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(dim, mlp_dim, activation)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens ``[B, N, D]`` of the same shape."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        scaled: Tensor = self.ls2(self.mlp(self.norm2(x)))
        return x + scaled


class PatchEmbed(nn.Module):
    """Turns each patch of a picture into a vector."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, *, bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give ``[B, D, ceil(H / P), ceil(W / P)]``; beyond the picture a patch is zero."""
        side = self.proj.stride[0]
        height, width = x.shape[-2:]
        # Without negative numbers, whose remainder is another one in ONNX.
        right, below = ((side - length % side) % side for length in (width, height))
        patches: Tensor = self.proj(F.pad(x, (0, right, 0, below)))
        return patches


def resampled(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample position embeddings ``[1, D, h, w]``, bicubic with antialias, as timm does."""
    # Antialiasing is not offered for halves everywhere.
    resized = F.interpolate(grid.float(), size=size, mode="bicubic", antialias=True)
    return resized.to(grid.dtype)
