"""Which weights may be used for what."""

from __future__ import annotations

import re
from collections.abc import Collection

from zoo_core.errors import WeightsError
from zoo_core.manifest import WeightsEntry


def is_non_commercial(licence: str | None) -> bool:
    """Tell whether an SPDX identifier, such as ``cc-by-nc-4.0``, excludes commercial use."""
    return bool(licence and re.search(r"(^|-)(nc|noncommercial|research)(-|$)", licence.lower()))


def is_accepted(entry: WeightsEntry, accepted: Collection[str] | None) -> bool:
    """Tell whether weights are under one of the accepted licences; ``None`` accepts all."""
    if accepted is None:
        return True
    return (entry.licence or "").lower() in {licence.lower() for licence in accepted}


def check_licence(entry: WeightsEntry, accepted: Collection[str] | None) -> None:
    """Refuse weights under other licences than the accepted ones; ``None`` accepts all.

    Raises:
        WeightsError: If the entry has another licence, or none is known.
    """
    if accepted is None or is_accepted(entry, accepted):
        return
    has = f"licence {entry.licence}" if entry.licence else "no known licence"
    raise WeightsError(
        f"{entry.name} has {has}; accepted are {', '.join(sorted(accepted)) or 'none'} (--license)"
    )
