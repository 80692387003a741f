"""Which weights may be used for what."""

from __future__ import annotations

import re
from collections.abc import Collection

from zoo_core.errors import WeightsError
from zoo_core.manifest import WeightsEntry


def is_non_commercial(licence: str | None) -> bool:
    """Tell whether an SPDX identifier, such as ``cc-by-nc-4.0``, excludes commercial use."""
    return bool(licence and re.search(r"(^|-)(nc|noncommercial|research)(-|$)", licence.lower()))


def check_licence(entry: WeightsEntry, accepted: Collection[str] | None) -> None:
    """Refuse weights under other licences than the accepted ones; ``None`` accepts all.

    Raises:
        WeightsError: If the entry has another licence, or none is known.
    """
    if accepted is None:
        return
    if (entry.licence or "").lower() not in {licence.lower() for licence in accepted}:
        has = f"licence {entry.licence}" if entry.licence else "no known licence"
        raise WeightsError(
            f"{entry.name} has {has}; accepted are {', '.join(sorted(accepted)) or 'none'} "
            f"(--license)"
        )
