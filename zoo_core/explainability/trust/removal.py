"""What becomes of a class when the pixels that a map points at go, or come first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo_core.errors import InputError
from zoo_core.explainability.targets import Classes, Region
from zoo_core.explainability.trust.imputation import impute
from zoo_core.explainability.trust.judging import Judge, judging

Baseline = Literal["blur", "zero"]

_SHARES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_BLUR: Final = 4.5
"""By how many pixels of 100 a baseline is blurred."""


class Curve(NamedTuple):
    """Probabilities while pixels change.

    Attributes:
        area: The area below, ``[B]``: from 0 to 1.
        shares: Shares of the pixels that were changed, ``[steps + 1]``.
        probabilities: ``[steps + 1, B]``.
    """

    area: Tensor
    shares: Tensor
    probabilities: Tensor


def deletion(
    model: nn.Module,
    inputs: Tensor,
    maps: Tensor,
    target_class: Classes = None,
    *,
    steps: int = 50,
    baseline: Baseline | Tensor = "zero",
    task: str | None = None,
    region: Region = None,
) -> Curve:
    """Delete the pixels that matter most first; the sooner the class goes, the smaller the area.

    Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421.

    Args:
        model: The model; it is left as it was.
        inputs: Pictures ``[B, C, H, W]``.
        maps: ``[B, H, W]``, or ``[B, C, H, W]`` whose absolute values are summed.
        target_class: One class, one for each picture, or ``None`` for the predicted ones.
        steps: In how many steps.
        baseline: What deleted pixels become: ``"zero"``, which is the mean colour where pictures
            are normalised, ``"blur"``, or pictures ``[B, C, H, W]`` of one's own.
        task: ``classification`` or ``segmentation``, for a model with both.
        region: In segmentation, the pixels whose probabilities are averaged.

    Raises:
        InputError: If an argument cannot be.
    """
    with judging(model, inputs, maps, target_class, task, region) as judge:
        return _curve(judge, judge.inputs, _baseline(judge.inputs, baseline), steps)


def insertion(
    model: nn.Module,
    inputs: Tensor,
    maps: Tensor,
    target_class: Classes = None,
    *,
    steps: int = 50,
    baseline: Baseline | Tensor = "blur",
    task: str | None = None,
    region: Region = None,
) -> Curve:
    """Insert the pixels that matter most first; the sooner the class comes, the larger the area.

    Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421. Arguments as for :func:`deletion`; the
    pictures begin as ``baseline``.

    Raises:
        InputError: If an argument cannot be.
    """
    with judging(model, inputs, maps, target_class, task, region) as judge:
        return _curve(judge, _baseline(judge.inputs, baseline), judge.inputs, steps)


def road(
    model: nn.Module,
    inputs: Tensor,
    maps: Tensor,
    target_class: Classes = None,
    *,
    shares: Sequence[float] = _SHARES,
    noise: float = 0.01,
    seed: int = 0,
    task: str | None = None,
    region: Region = None,
) -> Tensor:
    """Give how much more is lost with the most relevant pixels than with the least, ``[B]``.

    ROAD of Rong et al. 2022, https://arxiv.org/abs/2202.00449: removed pixels are filled in from
    their neighbours, so that the removal's shape tells nothing. It is half the difference of the
    class's probabilities, from -0.5 to 0.5, averaged over ``shares``; 0 is chance.

    Args:
        model: The model; it is left as it was.
        inputs: Pictures ``[B, C, H, W]``.
        maps: ``[B, H, W]``, or ``[B, C, H, W]`` whose absolute values are summed.
        target_class: One class, one for each picture, or ``None`` for the predicted ones.
        shares: Shares of the pixels that are removed.
        noise: Standard deviation of the noise on what is filled in.
        seed: Of the noise, which is drawn for each picture and share.
        task: ``classification`` or ``segmentation``, for a model with both.
        region: In segmentation, the pixels whose probabilities are averaged.

    Raises:
        InputError: If an argument cannot be.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"shares must be above 0 and below 1, not {tuple(shares)}")
    with judging(model, inputs, maps, target_class, task, region) as judge:
        places = _places(judge.maps)
        pixels = places[0].numel()
        counts = torch.tensor([round(share * pixels) for share in shares], device=places.device)

        def change(rows: Tensor, ways: Tensor) -> Tensor:
            share, is_least = ways % len(shares), (ways >= len(shares))[:, None, None]
            place = torch.where(is_least, pixels - 1 - places[rows], places[rows])
            removed = place < counts[share][:, None, None]
            pictures = judge.inputs[rows]
            drawn = [_drawn(pictures[0], seed, int(r), int(w)) for r, w in zip(rows, ways)]  # noqa: B905
            filled = impute(pictures, removed) + noise * torch.stack(drawn)
            return torch.where(removed[:, None], filled, pictures)

        most, least = judge.of_changed(2 * len(shares), change).chunk(2)
        return (least - most).mean(0) / 2


def _curve(judge: Judge, start: Tensor, end: Tensor, steps: int) -> Curve:
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a positive whole number, not {steps!r}")
    places = _places(judge.maps)
    shares = torch.linspace(0, 1, steps + 1, device=places.device)
    counts = (shares * places[0].numel()).round()

    def change(rows: Tensor, ways: Tensor) -> Tensor:
        is_changed = places[rows] < counts[ways][:, None, None]
        return torch.where(is_changed[:, None], end[rows], start[rows])

    probabilities = judge.of_changed(steps + 1, change)
    return Curve(torch.trapezoid(probabilities, shares, dim=0), shares, probabilities)


def _places(maps: Tensor) -> Tensor:
    """Give the place of each pixel in the order of how much it matters, ``[B, H, W]``."""
    order = maps.flatten(1).argsort(stable=True, dim=1, descending=True)
    counted = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, counted).reshape(maps.shape)


def _baseline(inputs: Tensor, baseline: Baseline | Tensor) -> Tensor:
    if isinstance(baseline, Tensor):
        if baseline.shape[-3:] != inputs.shape[-3:]:
            raise InputError(
                f"the baseline must be like the pictures, {list(inputs.shape)}, not "
                f"{list(baseline.shape)}"
            )
        return baseline.to(inputs).expand_as(inputs)
    if baseline == "zero":
        return torch.zeros_like(inputs)
    if baseline != "blur":
        raise InputError(f"baseline is 'blur', 'zero' or pictures, not {baseline!r}")
    from torchvision.transforms.v2.functional import gaussian_blur  # takes long to import

    sigma = max(inputs.shape[-2:]) * _BLUR / 100
    # The kernel reaches as far as the picture lets it be reflected at its edges.
    sides = [min(2 * int(2 * sigma) + 1, 2 * side - 1) for side in inputs.shape[:-3:-1]]
    blurred: Tensor = gaussian_blur(inputs, sides, [sigma, sigma])
    return blurred


def _drawn(picture: Tensor, seed: int, row: int, way: int) -> Tensor:
    """Give the noise of one picture and share, whatever else is computed beside it."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + row) * 1_000_003 + way)
    return torch.randn(picture.shape, generator=generator).to(picture)
