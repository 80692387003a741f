"""What my-explainer gives; no torch here, because ``zoo list`` imports it."""

from zoo_core import Spec, hookimpl

ZOO_API = (1, 0)  # the version of the plugin API that this was written for


@hookimpl
def zoo_specs() -> list[Spec]:
    """Give the explainer."""
    return [
        Spec(
            kind="explainer",
            name="my_explainer",
            aliases=("my-explainer",),
            target="my_explainer.model:MyExplainer",
            summary="how steeply the score changes at each place",
            options={"window": "pixels, along each side, that are averaged over"},
        )
    ]
