"""timm's attention modules and the options of each, told without importing timm."""

from __future__ import annotations

from typing import Final

_HIDDEN: Final = ("rd_ratio", "rd_channels", "rd_divisor")
_KERNEL: Final = ("gamma", "beta")
_COORDINATE: Final = (*_HIDDEN, "se_factor", "bias", "gate_layer", "has_skip")
_HEADS: Final = ("num_heads", "dim_head")

MODULES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "se": ("squeeze and excitation", (*_HIDDEN, "add_maxpool", "bias", "gate_layer")),
    "ese": ("squeeze and excitation in one layer", ("add_maxpool", "gate_layer")),
    "eca": ("efficient channel attention", (*_KERNEL, "gate_layer")),
    "ecam": ("eca with a hidden layer", (*_KERNEL, "gate_layer", *_HIDDEN)),
    "ceca": ("eca with its channels in a circle", (*_KERNEL, "gate_layer")),
    "gc": ("global context, multiplied", (*_HIDDEN, "use_attn", "gate_layer")),
    "gca": ("global context, added", (*_HIDDEN, "use_attn")),
    "cbam": (
        "channel, then spatial attention",
        (*_HIDDEN, "spatial_kernel_size", "gate_layer", "mlp_bias"),
    ),
    "lcbam": ("cbam with its pools averaged", (*_HIDDEN, "spatial_kernel_size", "mlp_bias")),
    "coord": ("coordinate attention", _COORDINATE),
    "scoord": ("coordinate attention without norms", _COORDINATE),
    "ela": ("efficient local attention", ("kernel_size", "bias", "gate_layer", "has_skip")),
    "strip": ("strip attention", ("kernel_size", "bias", "gate_layer", "has_skip", "use_conv")),
    "sk": ("selective kernel convolution", (*_HIDDEN, "keep_3x3", "split_input")),
    "splat": ("split-attention convolution", (*_HIDDEN, "kernel_size", "bias", "radix")),
    "lambda": ("lambda layer", (*_HEADS, "r")),
    "halo": (
        "self-attention in blocks",
        (*_HEADS, "block_size", "halo_size", "scale_pos_embed"),
    ),
    "nl": ("non-local attention", (*_HIDDEN, "use_scale")),
}
"""Name in timm to what it is and its options; :class:`zoo_timm.attention.TimmAttention` says which
of timm's modules are not here, and why."""

NUMBER: Final = "a positive number"
WHOLE: Final = "a positive whole number"
ODD: Final = "an odd positive whole number"
FLAG: Final = "true or false"
GATE: Final = "the name of one of timm's activations, such as hard_sigmoid"

OPTIONS: Final[dict[str, tuple[str, str]]] = {
    "rd_ratio": ("hidden channels per channel", NUMBER),
    "rd_channels": ("hidden channels", WHOLE),
    "rd_divisor": ("what rd_ratio's hidden channels are made a multiple of", WHOLE),
    "add_maxpool": ("whether maxima count beside averages", FLAG),
    "bias": ("whether the convolutions have biases", FLAG),
    "mlp_bias": ("whether the channel network has biases", FLAG),
    "gate_layer": ("what makes the weights", GATE),
    "gamma": ("how slowly the kernel grows with the channels", NUMBER),
    "beta": ("where the growth of the kernel starts", NUMBER),
    "use_attn": ("whether the average over places is weighed", FLAG),
    "spatial_kernel_size": ("side of the spatial kernel", ODD),
    "kernel_size": ("side of the kernel", ODD),
    "se_factor": ("what rd_ratio is multiplied by", NUMBER),
    "has_skip": ("whether the map itself is added to the result", FLAG),
    "use_conv": ("whether averages of rows and columns are convolved", FLAG),
    "keep_3x3": ("whether wider kernels are dilated ones of 3×3", FLAG),
    "split_input": ("whether each kernel sees its share of the channels only", FLAG),
    "radix": ("how many splits are weighed against each other", WHOLE),
    "num_heads": ("heads of the attention", WHOLE),
    "dim_head": ("channels of a head's queries and keys", WHOLE),
    "r": ("side of the surroundings, in pixels", ODD),
    "block_size": ("side of the blocks, in pixels", WHOLE),
    "halo_size": ("how far around its block a pixel sees, in pixels", WHOLE),
    "scale_pos_embed": ("whether the position terms are scaled too", FLAG),
    "use_scale": ("whether products are scaled", FLAG),
}
"""Option to what it means and what it must be."""
