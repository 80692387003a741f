"""What the score loses where the picture is covered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.inquiry import Inquiry
from zoo_saliency.base import SampledAttribution
from zoo_saliency.baselines import Baseline, baseline_of

Side = int | tuple[int, int] | None


class Occlusion(SampledAttribution):
    """What the score loses, ``[B, H, W]``, where a patch covers the picture.

    Zeiler and Fergus 2013 (https://arxiv.org/abs/1311.2901). The patch covers all channels, so
    that there is one value a place: the average over the patches that cover it.

    Args:
        model: The model to explain; optional if each call has one.
        patch_size: Side, or height and width, of the patch; an eighth of the picture without it.
        stride: Pixels from one patch to the next, or down and across; half a patch without it.
        baseline: What the patch shows; see :class:`IntegratedGradients`, though here zero, the
            mean colour of normalised pictures, is the default.
        chunk_size: Patches that are run at once; without it, as many as fit.

    Raises:
        InputError: If an argument is out of range.
    """

    name: ClassVar[str] = "occlusion"

    def __init__(
        self,
        model: nn.Module | None = None,
        patch_size: Side = None,
        stride: Side = None,
        baseline: Baseline = "zero",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(model, chunk_size=chunk_size)
        self.patch_size = self._pair("patch_size", patch_size)
        self.stride = self._pair("stride", stride)
        self.baseline = baseline

    def _pair(self, name: str, given: Side) -> tuple[int, int] | None:
        if given is None:
            return None
        sides = tuple(given) if isinstance(given, tuple | list) else (given, given)
        if len(sides) != 2:
            raise InputError(f"{name} of Occlusion is one side, or height and width, not {given!r}")
        self._check_counts(**{name: sides[0]})
        self._check_counts(**{name: sides[1]})
        return sides

    def values(self, inquiry: Inquiry) -> tuple[Tensor, Mapping[str, Any]]:
        """Give the losses."""
        height, width = inquiry.size
        patch = self.patch_size or (-(-height // 8), -(-width // 8))
        stride = self.stride or (-(-patch[0] // 2), -(-patch[1] // 2))
        if patch[0] > height or patch[1] > width:
            raise InputError(
                f"a patch of {patch[0]}×{patch[1]} is larger than the picture, {height}×{width}"
            )
        name, hidden = baseline_of(inquiry, self.baseline)
        inputs = inquiry.inputs
        covers = _covers((height, width), patch, stride, inputs.device)
        score = inquiry.target.score(inquiry.logits)

        def part(rows: Tensor, places: list[int]) -> Tensor:
            cover = covers[0][places][:, :, None] & covers[1][places][:, None]
            pictures = torch.where(cover[:, None], hidden[rows], inputs[rows])
            losses = score[rows] - inquiry.scores(pictures, rows)
            return losses[:, None, None] * cover

        total = self.added_up(inquiry, len(covers[0]), part, graph=False)
        often = torch.einsum("ph,pw->hw", *(cover.to(total.dtype) for cover in covers))
        details = {"baseline": name, "patch_size": patch, "stride": stride}
        return total / often.clamp(min=1), details


def _covers(
    size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Give for each patch which rows, ``[P, H]``, and which columns, ``[P, W]``, it covers."""
    along = []
    for side, length, step in zip(size, patch, stride, strict=True):
        begins = torch.arange(-(-(side - length) // step) + 1, device=device) * step
        pixels = torch.arange(side, device=device)
        along.append((pixels >= begins[:, None]) & (pixels < begins[:, None] + length))
    rows, columns = along
    return rows.repeat_interleave(len(columns), 0), columns.repeat(len(rows), 1)
