"""What users may set of each of smp's decoders, and which values it can take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from zoo_core.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Option:
    """One argument of a decoder.

    Its name in the zoo is that of smp's model class or, where that has none, ``decoder_`` and the
    name of the decoder class's parameter.

    Attributes:
        parameter: The parameter of smp's decoder class.
        default: The value without it, smp's own.
        line: One line of documentation.
        wanted: What can be given, in words.
        fits: Tells whether a value is of that kind.
    """

    parameter: str
    default: Any
    line: str
    wanted: str
    fits: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _count(parameter: str, default: int, line: str, multiple: int = 1) -> Option:
    return Option(
        parameter=parameter,
        default=default,
        line=line,
        wanted=f"a positive multiple of {multiple}" if multiple > 1 else "a positive whole number",
        fits=lambda value: _is_count(value) and value % multiple == 0,
    )


def _counts(parameter: str, default: tuple[int, ...], line: str) -> Option:
    def fits(value: Any) -> bool:
        is_list = isinstance(value, list | tuple) and len(value) == len(default)
        return is_list and all(map(_is_count, value))

    wanted = f"{len(default)} positive whole numbers"
    return Option(parameter=parameter, default=default, line=line, wanted=wanted, fits=fits)


def _share(parameter: str, default: float, line: str) -> Option:
    return Option(
        parameter=parameter,
        default=default,
        line=line,
        wanted="a number from 0 to below 1",
        fits=lambda value: type(value) in (int, float) and 0 <= value < 1,
    )


def _switch(parameter: str, default: bool, line: str) -> Option:
    return Option(
        parameter=parameter,
        default=default,
        line=line,
        wanted="true or false",
        fits=lambda value: isinstance(value, bool),
    )


def _choice(parameter: str, line: str, *choices: str | None) -> Option:
    """Give an option whose default is the first of its values."""
    words = ["null" if choice is None else choice for choice in choices]
    wanted = f"{', '.join(words[:-1])} or {words[-1]}"
    return Option(
        parameter=parameter,
        default=choices[0],
        line=f"{line}: {wanted}",
        wanted=wanted,
        fits=lambda value: (value is None or isinstance(value, str)) and value in choices,
    )


_MODES: Final = ("nearest", "bilinear", "bicubic", "area", "nearest-exact")
_NORM: Final = _choice(
    "use_norm", "what follows convolutions", "batchnorm", "identity", "instancenorm"
)
_INTERPOLATION: Final = _choice("interpolation_mode", "how maps are upsampled", *_MODES)
_ATTENTION: Final = _choice("attention_type", "attention of every block", None, "scse")
_STEPS: Final = _counts(
    "decoder_channels", (256, 128, 64, 32, 16), "widths of the five steps, deep to shallow"
)
_ASPP: Final = {
    "decoder_channels": _count("out_channels", 256, "width of the atrous pyramid and after it"),
    "decoder_atrous_rates": _counts("atrous_rates", (12, 24, 36), "the three dilation rates"),
    "decoder_aspp_separable": _switch(
        "aspp_separable", False, "whether atrous convolutions are depthwise separable"
    ),
    "decoder_aspp_dropout": _share("aspp_dropout", 0.5, "dropout behind the atrous pyramid"),
}
_CENTER: Final = "whether two convolutions stand on the deepest map"

OPTIONS: Final[Mapping[str, Mapping[str, Option]]] = {
    "unet": {
        "decoder_channels": _STEPS,
        "decoder_use_norm": _NORM,
        "decoder_attention_type": _ATTENTION,
        "decoder_interpolation": _INTERPOLATION,
        "decoder_add_center_block": _switch("add_center_block", False, _CENTER),
    },
    "unetplusplus": {
        "decoder_channels": _STEPS,
        "decoder_use_norm": _NORM,
        "decoder_attention_type": _ATTENTION,
        "decoder_interpolation": _INTERPOLATION,
        "decoder_center": _switch("center", False, _CENTER),
    },
    "manet": {
        "decoder_channels": _STEPS,
        "decoder_use_norm": _NORM,
        "decoder_pab_channels": _count("pab_channels", 64, "width of the position-wise attention"),
        "decoder_reduction": _count("reduction", 16, "how many times fewer channels gates have"),
        "decoder_interpolation": _INTERPOLATION,
    },
    "linknet": {
        "decoder_use_norm": _NORM,
        "decoder_prefinal_channels": _count("prefinal_channels", 32, "width of the last step"),
    },
    "fpn": {
        "decoder_pyramid_channels": _count("pyramid_channels", 256, "width of the pyramid"),
        "decoder_segmentation_channels": _count(
            "segmentation_channels", 128, "width of what is merged, a multiple of 32", multiple=32
        ),
        "decoder_merge_policy": _choice("merge_policy", "how levels are merged", "add", "cat"),
        "decoder_dropout": _share("dropout", 0.2, "dropout behind the merging"),
        "decoder_interpolation": _INTERPOLATION,
    },
    "pspnet": {
        "psp_out_channels": _count("out_channels", 512, "width behind the pyramid pooling"),
        "psp_dropout": _share("dropout", 0.2, "dropout behind the pyramid pooling"),
        "decoder_use_norm": _NORM,
    },
    "deeplabv3": _ASPP,
    "deeplabv3plus": {
        **_ASPP,
        "decoder_aspp_separable": _switch(
            "aspp_separable", True, _ASPP["decoder_aspp_separable"].line
        ),
    },
    "pan": {
        "decoder_channels": _count("decoder_channels", 32, "width of the decoder"),
        "decoder_interpolation": _choice(
            "interpolation_mode",
            "how maps are upsampled",
            "bilinear",
            *(mode for mode in _MODES if mode != "bilinear"),
        ),
    },
    "upernet": {
        "decoder_channels": _count("decoder_channels", 256, "width of the decoder"),
        # Instance norm has nothing to go by in the pooled map of one pixel.
        "decoder_use_norm": _choice(
            "use_norm", "what follows convolutions", "batchnorm", "identity"
        ),
    },
    "segformer": {
        "decoder_segmentation_channels": _count(
            "segmentation_channels", 256, "width that every level is brought to"
        ),
    },
    "dpt": {
        "decoder_intermediate_channels": _counts(
            "intermediate_channels", (256, 512, 1024, 1024), "widths of the levels, shallow to deep"
        ),
        "decoder_fusion_channels": _count("fusion_channels", 256, "width of the fusion"),
    },
}


def checked(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give every parameter of decoder ``name`` that users may set, with the value it gets.

    Raises:
        InputError: If the decoder has no such option, or an option cannot have its value.
    """
    options = OPTIONS[name]
    for option, value in given.items():
        if option not in options:
            near = get_close_matches(option, options, 1, cutoff=0.75)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(options)}"
            raise InputError(f"smp/{name} has no option {option!r}; {hint}")
        if not options[option].fits(value):
            raise InputError(
                f"{option} of smp/{name} must be {options[option].wanted}, not {value!r}"
            )
    return {
        option.parameter: given.get(spelling, option.default)
        for spelling, option in options.items()
    }
