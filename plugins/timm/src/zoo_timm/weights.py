"""Weights of timm's architectures on the Hugging Face Hub, as timm itself describes them."""

from __future__ import annotations

from difflib import get_close_matches

import timm
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs

from zoo_core.errors import WeightsError
from zoo_core.manifest import Preprocessing, WeightsEntry

_IMAGENET = "imagenet-1k"


def weights_entry(name: str, tag: str | None = None) -> WeightsEntry:
    """Describe the weights of one architecture.

    Revision and hash are left open: timm does not know them.

    Args:
        name: The architecture's name in timm.
        tag: Which of its weights; timm's default without one.

    Raises:
        WeightsError: If timm has no such weights, or they are not on the Hub as safetensors.
    """
    cfg = _find(name, tag)
    if not cfg.hf_hub_id:
        raise WeightsError(f"weights {cfg.tag!r} of 'timm/{name}' are not on the Hugging Face Hub")
    filename = cfg.hf_hub_filename or "model.safetensors"
    if not filename.endswith(".safetensors"):
        raise WeightsError(
            f"weights {cfg.tag!r} of 'timm/{name}' are in {filename} of {cfg.hf_hub_id}; only "
            f".safetensors files are read"
        )
    return WeightsEntry(
        component=f"timm/{name}",
        tag=cfg.tag or "",
        repository=cfg.hf_hub_id,
        filename=filename,
        preprocessing=_preprocessing(cfg),
        classes=cfg.num_classes or None,
        labels=_IMAGENET if cfg.num_classes == 1000 and "in1k" in (cfg.tag or "") else None,
        licence=cfg.license,
        source=f"timm {timm.__version__}",
    )


def _find(name: str, tag: str | None) -> PretrainedCfg:
    cfgs = get_arch_pretrained_cfgs(name) if timm.is_model(name) else {}
    by_tag = {cfg.tag: cfg for cfg in cfgs.values() if cfg.tag and cfg.has_weights}
    if not by_tag:
        raise WeightsError(f"timm {timm.__version__} has no weights of 'timm/{name}'")
    if tag is None:
        return next(iter(by_tag.values()))
    if tag not in by_tag:
        near = get_close_matches(tag, by_tag, n=3) or by_tag
        raise WeightsError(f"'timm/{name}' has no weights {tag!r}; it has {', '.join(near)}")
    return by_tag[tag]


def _preprocessing(cfg: PretrainedCfg) -> Preprocessing:
    _, height, width = cfg.input_size
    return Preprocessing(
        size=(height, width),
        crop=cfg.crop_pct,
        crop_mode=cfg.crop_mode,
        interpolation=cfg.interpolation,
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
    )
