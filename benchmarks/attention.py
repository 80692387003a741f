"""Attention weights of every head and layer, beside transformers' and timm's ways to them.

The limit is a forward pass of the model as it is, with fused attention. All have the same weights,
which begin as transformers' initial ones and are read from its file by the zoo; the run checks that
the attention is equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import timm
import torch
import transformers
from torch import Tensor, nn

import zoo_core as zoo
from benchmarks.comparing import ZOO, Area, Comparison, interleaved
from zoo_core.explainability import AttentionMaps, Explainer

LIMIT: Final = "a forward pass"
CLASSES: Final = 10
SIZES: Final = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
"""Width and heads of a ViT with patches of 16 pixels."""


def models(size: str) -> dict[str, Any]:
    """Give everybody's model, all with the same values."""
    width, heads = SIZES[size]
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    config = library.ViTConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width,
        layer_norm_eps=1e-6, num_labels=CLASSES, initializer_range=0.1,
    )  # fmt: skip
    theirs = library.ViTForImageClassification(config).eval()
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = zoo.build(f"vit_{size}", weights=Path(folder, "model.safetensors")).eval()
    theirs.set_attn_implementation("eager")
    third = timm.create_model(f"vit_{size}_patch16_224", num_classes=CLASSES).eval()
    names = {"backbone.": "", "classifier.": "head."}
    third.load_state_dict(
        {
            name.replace(own, their, 1): value
            for name, value in ours.state_dict().items()
            for own, their in names.items()
            if name.startswith(own)
        }
    )
    return {ZOO: ours, "transformers": theirs, "timm": third}


def of_transformers(model: Any, pictures: Tensor) -> Sequence[Tensor]:
    """Give what transformers' eager attention gives."""
    found: Sequence[Tensor] = model(pictures, output_attentions=True).attentions
    return found


def of_timm(model: Any) -> Callable[[Tensor], Sequence[Tensor]]:
    """Let a model of timm write its attention out, and keep what passes the dropout behind it."""
    kept: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, __, output: kept.append(output))

    def run(pictures: Tensor) -> Sequence[Tensor]:
        kept.clear()
        model(pictures)
        return list(kept)

    return run


@torch.no_grad()
def compared(size: str, batch: int, rounds: int) -> list[Comparison]:
    """Time the weights of all layers, and what the zoo makes of them."""
    pictures = torch.randn(batch, 3, 224, 224)
    contenders = models(size)
    ours: nn.Module = contenders[ZOO]
    maps, rollout = AttentionMaps(ours), Explainer(ours, ["attention_rollout"])

    def of_zoo() -> Sequence[Tensor]:
        # Weights are calculated when they are read.
        return list(maps.explain(pictures, heads="none").values())

    runs: dict[str, Callable[[], Any]] = {
        ZOO: of_zoo,
        "transformers": partial(of_transformers, contenders["transformers"], pictures),
        "timm": partial(of_timm(contenders["timm"]), pictures),
        LIMIT: partial(ours, pictures),
    }
    wanted = of_zoo()
    for name in ("transformers", "timm"):
        for layer, found in zip(wanted, runs[name](), strict=True):
            torch.testing.assert_close(layer, found, atol=1e-5, rtol=1e-3)
    work = f"ViT of size {size}, {batch} of 224 px"
    clock = time.process_time
    followed = {ZOO: lambda: rollout.explain(pictures), LIMIT: runs[LIMIT]}
    return [
        Comparison(f"every head: {work}", interleaved(runs, rounds, clock=clock), limit=LIMIT),
        Comparison(f"rollout: {work}", interleaved(followed, rounds, clock=clock), limit=LIMIT),
    ]


def measure(quick: bool) -> Area:
    """Measure ViTs of two sizes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes, batch, rounds = (("tiny",), 1, 1) if quick else (("small", "base"), 4, 7)
    return Area(
        "attention",
        "Attention",
        "The weights of every head and layer, on one thread and by its own clock: the zoo's "
        "`AttentionMaps` on the model as it is, transformers' `output_attentions` with eager "
        "attention, and timm's unfused attention with a hook in every block. The run checks that "
        "they are equal. Rollout follows them back to the picture. The limit is a forward pass "
        "with fused attention, which gives no weights.",
        comparisons=[one for size in sizes for one in compared(size, batch, rounds)],
        versions={name: version(name) for name in ("transformers", "timm")},
    )
