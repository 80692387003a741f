"""What torch's exporters say of themselves, kept from those who did not ask."""

from __future__ import annotations

import io
import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from zoo_core.errors import ExportError

_LONGEST = 300


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what is printed, warned of and logged meanwhile."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def reason(error: BaseException) -> str:
    """Give in one sentence why something failed: the first cause, not what was made of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).partition(". ")[0]
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _TooLong(BaseException):
    """Time is up."""


@contextmanager
def at_most(seconds: float, problem: str) -> Iterator[None]:
    """Break off what computes for longer, in the main thread and not on Windows.

    What other processes take of the cores meanwhile does not count.

    Raises:
        ExportError: With the problem, if it does.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    began = time.thread_time()

    def break_off(*_: Any) -> None:
        if time.thread_time() - began >= seconds:
            raise _TooLong

    before = signal.signal(signal.SIGALRM, break_off)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # and every second after that
    try:
        yield
    except _TooLong:
        raise ExportError(problem) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
