"""The Hub: whether it answers, and whether it takes the token."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

from zoo_core.doctor.finding import Finding, note, ok, problem
from zoo_core.errors import WeightsError
from zoo_core.loader import describe
from zoo_core.store.hub import Hub, is_private

LIMIT: Final = 5.0  # seconds for the whole answer


def examine() -> Iterator[Finding]:
    """Ask the Hub at ``HF_ENDPOINT`` who asks, which is cheap to answer."""
    try:
        hub = Hub()
    except WeightsError as error:
        variable = str(error).partition(" ")[0]  # HF_ENDPOINT, or HF_HOME with its tokens
        yield problem("endpoint", str(error), f"unset {variable}")
        return
    if hub.offline:
        found = f"{hub.endpoint} is not asked: HF_HUB_OFFLINE is set, so nothing is fetched"
        yield note("endpoint", found, "unset HF_HUB_OFFLINE")
        return
    yield from _ask(hub.endpoint)


def _ask(endpoint: str) -> Iterator[Finding]:
    outcome: list[Any] = []
    # A head sent in crumbs outlasts any timeout of the client.
    thread = threading.Thread(target=_request, args=(endpoint, outcome), daemon=True)
    thread.start()
    thread.join(LIMIT)
    answer = outcome[0] if outcome else f"no answer within {LIMIT:.0f} s"
    if not isinstance(answer, int):
        yield _unreachable(endpoint, answer)
    elif answer >= 500:
        yield _unreachable(endpoint, f"it answers {answer}")
    else:
        yield ok("endpoint", f"{endpoint} answers")
    if answer == 200:
        yield ok("token", "it is taken")
    elif answer in (401, 403) and _token(endpoint):
        yield problem("token", f"{endpoint} does not take it ({answer})", "hf auth login")


def _unreachable(endpoint: str, reason: str) -> Finding:
    found = f"{endpoint} cannot be reached ({reason}), so only cached weights can be had"
    mend = "export HF_ENDPOINT=… with a mirror, or HF_HUB_OFFLINE=1 to do without"
    return problem("endpoint", found, mend)


def _request(endpoint: str, outcome: list[Any]) -> None:
    """Append the answer's status, or the reason why there is none."""
    from huggingface_hub import get_session

    token = _token(endpoint)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = get_session().get(f"{endpoint}/api/whoami-v2", headers=headers, timeout=LIMIT)
        outcome.append(answer.status_code)
    except Exception as error:  # whatever it is, it is shown
        outcome.append(describe(error))


def _token(endpoint: str) -> str | None:
    """Give the token, if it may be sent to this address."""
    from huggingface_hub import get_token

    return get_token() if is_private(endpoint) else None
