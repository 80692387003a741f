"""What each token of a transformer attends to."""

from typing import Final

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)

_ROLLOUT: Final = {"normalize": "whether each picture's values are scaled to 0-1"}

_METHODS: Final = {
    "attention": (
        "maps:AttentionMaps",
        "attention weights of each layer of any transformer",
        {
            "heads": "what is made of the heads: mean, max, min, or none to keep them",
            "normalize": "whether rows are made to sum to one",
            "layers": "names or patterns of the layers; all without it",
            "gradients": "whether the score's gradients at the weights are taken too",
        },
    ),
    "attention_rollout": (
        "rollout:AttentionRollout",
        "what the output attends to through all layers",
        {"heads": "what is made of the heads: mean, max or min", **_ROLLOUT},
    ),
    "gradient_rollout": (
        "rollout:GradientRollout",
        "what the output attends to through all layers and what speaks for a class",
        _ROLLOUT,
    ),
}


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give all methods."""
    return [
        Spec(
            kind="explainer",
            name=name,
            target=f"zoo_attention_maps.{target}",
            summary=summary,
            options=options,
        )
        for name, (target, summary, options) in _METHODS.items()
    ]
