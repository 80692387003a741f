"""The methods of captum (https://github.com/pytorch/captum) that the zoo has not of its own."""

from collections.abc import Iterable
from typing import Final

from zoo_captum.methods import METHODS, SCALE
from zoo_core.hookspecs import hookimpl
from zoo_core.spec import Source, Spec

ZOO_API = (1, 0)

_TARGET: Final = "zoo_captum.explainer:CaptumExplainer"


def _spec(name: str) -> Spec:
    """Describe one method by its name after the prefix."""
    method = METHODS[name]
    lines = {option: about.line for option, about in method.options.items()}
    return Spec(
        kind="explainer",
        name=f"captum/{name}",
        target=_TARGET,
        kwargs={"method": name},
        summary=method.summary,
        options={**lines, **SCALE},
    )


@hookimpl
def zoo_sources() -> Iterable[Source]:
    """Give the methods."""
    yield Source(
        kind="explainer",
        prefix="captum/",
        names=lambda: tuple(METHODS),
        spec=_spec,
        target=_TARGET,
        summary="captum's methods",
    )
