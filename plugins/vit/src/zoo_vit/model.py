"""The vision transformer as a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch
from torch import Tensor, nn

from zoo_core import Backbone, ChannelSchedule
from zoo_core.contracts import Features
from zoo_core.errors import InputError
from zoo_vit import variants
from zoo_vit.blocks import ACTIVATIONS, Block, PatchEmbed, resampled
from zoo_vit.layouts import READABLE, arranged

if TYPE_CHECKING:
    from zoo_core.manifest import WeightsEntry
    from zoo_core.weights.arranging import Arrangement


_HEADLESS: Final = dict.fromkeys(
    ("head.weight", "head.bias"),
    "the classifier reads a class token, and this backbone pools its map",
)


class VisionTransformer(Backbone):
    """ViT (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929) with maps of one stride.

    The maps ``[B, hidden_dim, ceil(H / patch_size), ceil(W / patch_size)]`` are the tokens behind
    blocks at even distances, the last one behind the final layer norm; the pooled vector is the
    class token. Pictures of any size are taken: what the patch does not divide is filled up with
    zeros at the right and at the bottom, and position embeddings are resampled.

    With ``pre_norm`` and an ``eps`` of 1e-5 it is the picture half of CLIP (Radford et al. 2021,
    https://arxiv.org/abs/2103.00020), with ``layer_scale`` and patches of 14 DINOv2 (Oquab et al.
    2023, https://arxiv.org/abs/2304.07193), which has ``num_registers`` (Darcet et al. 2023,
    https://arxiv.org/abs/2309.16588) in one form. The state dict has timm's names.

    Args:
        image_size: Side, or height and width, in pixels, of the pictures that the position
            embeddings are for.
        patch_size: Side of a patch in pixels: the stride of all maps.
        num_layers: Number of blocks.
        hidden_dim: Length of a token, and channels of each map.
        num_heads: Heads of each attention; they divide ``hidden_dim``.
        mlp_dim: Hidden width of each block's MLP.
        pretrained: Fill it with the default weights of the variant that has this shape.
        in_channels: Channels of the pictures; a pretrained first convolution is adapted.
        num_levels: Number of maps; at most ``num_layers``.
        activation: ``gelu``, or ``quick_gelu`` as OpenAI's CLIP has it.
        eps: Epsilon of the layer norms.
        pre_norm: A layer norm before the first block, and patches without a bias, as in CLIP.
        layer_scale: Initial value of a learnt factor behind each attention and MLP; ``None`` for
            none.
        num_registers: Number of tokens beside the class token that stand for no patch.
        class_token: Whether there is a class token; without one the pooled vector is the average
            of the last map.

    Raises:
        InputError: If an argument is out of range.
        WeightsError: If pretrained weights cannot be had.
    """

    layouts: ClassVar[tuple[str, ...]] = READABLE
    first_conv = "patch_embed.proj"
    classifier: str | None = "head"

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        num_layers: int = 12,
        hidden_dim: int = 768,
        num_heads: int = 12,
        mlp_dim: int = 3072,
        pretrained: bool = False,
        in_channels: int = 3,
        num_levels: int = 4,
        activation: str = "gelu",
        eps: float = 1e-6,
        pre_norm: bool = False,
        layer_scale: float | None = None,
        num_registers: int = 0,
        class_token: bool = True,
    ) -> None:
        super().__init__()
        _check_whole(
            patch_size=patch_size,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            in_channels=in_channels,
            num_levels=num_levels,
        )
        for name, flag in (("pre_norm", pre_norm), ("class_token", class_token)):
            if not isinstance(flag, bool):
                raise InputError(f"{name} must be true or false, not {flag!r}")
        if num_registers:
            _check_whole(num_registers=num_registers)
        self._grid = _grid(image_size, patch_size)
        if hidden_dim % num_heads:
            raise InputError(f"num_heads must divide hidden_dim {hidden_dim}, not {num_heads!r}")
        if num_levels > num_layers:
            raise InputError(f"num_levels is {num_levels}, but there are {num_layers} blocks")
        if activation not in ACTIVATIONS:
            raise InputError(f"activation must be gelu or quick_gelu, not {activation!r}")
        for name, number in (("eps", eps), ("layer_scale", layer_scale)):
            if number is not None and not (_is_number(number) and number > 0):
                raise InputError(f"{name} must be a positive number, not {number!r}")
        self._patch_size = patch_size
        # Of 12 blocks and 4 maps: behind the 3rd, 6th, 9th and 12th.
        self._taps = [num_layers * (level + 1) // num_levels - 1 for level in range(num_levels)]
        if not class_token:
            self.classifier, self.left_out = None, _HEADLESS
        if pretrained:
            from zoo_core.weights import blank, load_pretrained

            component = _variant(self.constructor_arguments)
            with blank():
                self._construct()
            load_pretrained(self, f"zoo-vit:{component}")
        else:
            self._construct()

    def _construct(self) -> None:
        given = self.constructor_arguments
        dim, pre_norm, eps = given["hidden_dim"], given["pre_norm"], given["eps"]
        registers, has_class = given["num_registers"], given["class_token"]
        self.patch_embed = PatchEmbed(
            given["in_channels"], dim, self._patch_size, bias=not pre_norm
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if has_class else None
        self.reg_token = nn.Parameter(torch.zeros(1, registers, dim)) if registers else None
        # As timm has it, the class token has a position of its own unless there are registers.
        self._class_has_position = has_class and not registers
        count = self._grid[0] * self._grid[1] + self._class_has_position
        self.pos_embed = nn.Parameter(torch.zeros(1, count, dim))
        self.norm_pre = nn.LayerNorm(dim, eps=eps) if pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                dim,
                given["num_heads"],
                given["mlp_dim"],
                activation=given["activation"],
                eps=eps,
                layer_scale=given["layer_scale"],
            )
            for _ in range(given["num_layers"])
        )
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.apply(_initialise)
        for token in (self.cls_token, self.reg_token, self.pos_embed):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the maps of pictures ``[B, C, H, W]``."""
        return self._run(x)[0]

    def forward_features(self, x: Tensor) -> Features:
        """Give the maps, and the class token behind the final norm, of pictures."""
        maps, tokens = self._run(x)
        pooled = maps[-1].mean((-2, -1)) if self.cls_token is None else tokens[:, 0]
        return Features(maps, pooled)

    def tokens(self, x: Tensor) -> Tensor:
        """Give all tokens behind the final norm: class token, registers, patches ``[B, N, D]``."""
        return self._run(x)[1]

    def get_channel_schedule(self) -> ChannelSchedule:
        """Give channels and strides of the maps."""
        count = len(self._taps)
        return ChannelSchedule([self.norm.normalized_shape[0]] * count, [self._patch_size] * count)

    @classmethod
    def constructed_for(cls, entry: WeightsEntry) -> dict[str, Any]:
        """Give what weights ask for: activation, eps, and the size of the position embeddings."""
        given = {"activation": entry.activation, "eps": entry.eps}
        size = {"image_size": entry.preprocessing.size}
        return size | {name: value for name, value in given.items() if value is not None}

    def arrange(self, file: Mapping[str, torch.Size], layout: str | None) -> Arrangement:
        """Tell which of a file's tensors make each of the backbone's; see :class:`Backbone`."""
        return arranged(self, file, layout)

    def adaptation(
        self, name: str, given: torch.Size, wanted: torch.Size
    ) -> tuple[Callable[[Tensor], Tensor], str] | None:
        """Give how position embeddings of square pictures of another size are made to fit."""
        if name != "pos_embed" or len(given) != 3 or given[-1] != wanted[-1]:
            return super().adaptation(name, given, wanted)
        side = round((given[1] - self._class_has_position) ** 0.5)
        if side * side + self._class_has_position != given[1]:
            return None
        height, width = self._grid
        change = partial(self._positions_for, grid=(side, side), size=self._grid)
        return change, f"{side}×{side} → {height}×{width} positions"

    def _positions_for(
        self, positions: Tensor, grid: tuple[int, int], size: tuple[int, int]
    ) -> Tensor:
        """Resample position embeddings ``[1, N, D]`` from one grid to another."""
        first = positions[:, : self._class_has_position]
        rest = positions[:, self._class_has_position :]
        plane = rest.reshape(1, *grid, -1).permute(0, 3, 1, 2)
        resized = resampled(plane, size).flatten(2).transpose(1, 2)
        return torch.cat([first, resized], 1) if self._class_has_position else resized

    def _embedded(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Give tokens with positions, and the grid of their patches."""
        patches = self.patch_embed(x)
        size = (patches.shape[-2], patches.shape[-1])
        tokens = patches.flatten(2).transpose(1, 2)
        positions: Tensor = self.pos_embed
        # An exported program is for all sizes, so that it must not ask for this one.
        if torch.compiler.is_exporting() or size != self._grid:
            positions = self._positions_for(positions, self._grid, size)
        first = positions[:, : self._class_has_position]
        tokens = tokens + positions[:, self._class_has_position :]
        if self.cls_token is not None or self.reg_token is not None:
            begin = []
            if self.cls_token is not None:
                token = self.cls_token + first if self._class_has_position else self.cls_token
                begin.append(token)
            if self.reg_token is not None:
                begin.append(self.reg_token)
            begin = [token.expand(x.shape[0], -1, -1) for token in begin]
            tokens = torch.cat([*begin, tokens], 1)
        return self.norm_pre(tokens), size

    def _run(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        tokens, size = self._embedded(x)
        taken = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            if index in self._taps[:-1]:
                taken.append(tokens)
        tokens = self.norm(tokens)
        return [self._map(item, size) for item in (*taken, tokens)], tokens

    def _map(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        others = int(self.cls_token is not None)
        if self.reg_token is not None:
            others += self.reg_token.shape[1]
        patches = tokens[:, others:]
        return patches.transpose(1, 2).reshape(tokens.shape[0], -1, *size)


class ViTSpatial(VisionTransformer):
    """A vision transformer whose pooled vector is the average of its last map.

    The same blocks and weights as :class:`VisionTransformer`, class token and all. What reads the
    pooled vector reads every patch behind the last block, so that class-activation maps have
    gradients there. A classifier in the file is left out: it reads the class token.

    Args:
        image_size: Side, or height and width, in pixels, of the pictures that the position
            embeddings are for; the others are those of :class:`VisionTransformer`.
    """

    classifier = None
    left_out = _HEADLESS

    def forward_features(self, x: Tensor) -> Features:
        """Give the maps, and the average of the last one, of pictures."""
        maps = self(x)
        return Features(maps, maps[-1].mean((-2, -1)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check_whole(**numbers: object) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name} must be a positive whole number, not {number!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _grid(image_size: object, patch_size: int) -> tuple[int, int]:
    sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2:
        raise InputError(f"image_size is one side, or height and width, not {image_size!r}")
    for side in sides:
        _check_whole(image_size=side)
    return -(-sides[0] // patch_size), -(-sides[1] // patch_size)


def _variant(given: Mapping[str, Any]) -> str:
    """Give the named variant that constructor arguments make.

    Raises:
        InputError: If there is none, so that there are no pretrained weights.
    """
    plain = {"pre_norm": False, "layer_scale": None, "num_registers": 0, "class_token": True}
    for name, arguments in variants().items():
        if all(given[key] == value for key, value in {**plain, **arguments}.items()):
            return name
    raise InputError(
        f"pretrained=True is for the shapes of {', '.join(variants())}; others are filled by "
        f"zoo_core.weights.load"
    )
