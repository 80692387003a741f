"""What can go wrong with a loopback hub's answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from email.message import Message

# The client asks this once a process, before whatever it does first: no test means it.
UNDISTURBED: Final = "/api/agent-harnesses"


@dataclass(frozen=True)
class Request:
    """A request that a hub received.

    Attributes:
        method: ``HEAD``, ``GET``, ``POST`` or ``PUT``.
        path: What was asked for, as it was sent: quoted, with its query.
        headers: Its headers, found in any case: ``"authorization" in request.headers``.
    """

    method: str
    path: str
    headers: Message

    @property
    def place(self) -> str:
        """The path without its query, still quoted."""
        return self.path.partition("?")[0]


class Fault:
    """Something that goes wrong with answers: the base of all faults."""

    def concerns(self, request: Request) -> bool:
        """Whether the fault can show in the answer to a request."""
        return True


class _ContentFault(Fault):
    def concerns(self, request: Request) -> bool:
        return request.method != "HEAD"


@dataclass(frozen=True)
class Status(Fault):
    """Refuses the request with a status code, and does nothing of what it asks.

    Attributes:
        code: The status code.
        message: The error message that goes with it.
    """

    code: int
    message: str = ""


@dataclass(frozen=True)
class Hang(Fault):
    """Leaves the client waiting until it, or the hub, closes the connection.

    Attributes:
        after: Bytes of content after which it stops, counted as for :class:`Cut`; with ``None``
            there is no answer at all.
    """

    after: int | None = None

    def concerns(self, request: Request) -> bool:
        """Whether there is an answer, or content, to wait for."""
        return self.after is None or request.method != "HEAD"


@dataclass(frozen=True)
class Cut(_ContentFault):
    """Closes the connection amid the content: of the answer, or of a POST or PUT itself.

    Attributes:
        after: Bytes of content that pass before.
    """

    after: int = 0


@dataclass(frozen=True)
class Slow(_ContentFault):
    """Gives the content of the answer slowly, or takes that of a POST or PUT slowly.

    Attributes:
        bytes_per_second: How fast the content passes.
    """

    bytes_per_second: float


@dataclass(frozen=True)
class Drip(Fault):
    """Gives the head of the answer byte by byte.

    Attributes:
        seconds: Time between two bytes.
    """

    seconds: float = 0.1


@dataclass(frozen=True)
class Tampered(Fault):
    """Changes a byte of the content, under the honest ETag and size.

    Attributes:
        at: Which byte of the file, counted from its end if it is negative. The last one leaves
            the structure of a safetensors file sound.
    """

    at: int = -1

    def concerns(self, request: Request) -> bool:
        """Whether content is asked for."""
        return request.method == "GET"


@dataclass(frozen=True)
class WrongSize(Fault):
    """Announces another size than the content has.

    Of too large a size, the rest never comes; of too small a one, the rest is held back. Give
    ``method="HEAD"`` to have the announcement wrong and the download right.

    Attributes:
        by: Bytes to add to the true size, or to take off it.
    """

    by: int


@dataclass(frozen=True)
class NoRange(Fault):
    """Answers a request for a part with the whole, as a server without ranges does."""

    def concerns(self, request: Request) -> bool:
        """Whether a part is asked for."""
        return request.method == "GET" and "Range" in request.headers


@dataclass(frozen=True)
class Redirect(Fault):
    """Sends the client elsewhere, with the headers that the Hub's redirects to its storage have.

    Attributes:
        to: The address; an origin alone, such as another hub's ``endpoint``, gets the path asked
            for.
        code: The status code.
    """

    to: str
    code: int = 302


@dataclass(frozen=True)
class Header(Fault):
    """Replaces a header of the answer; several may apply to one answer, beside another fault.

    Attributes:
        name: The header. ``ETag`` means ``X-Linked-Etag`` too where the answer has that, for it is
            the one that the client goes by.
        value: What it becomes; ``None`` leaves it out.
    """

    name: str
    value: str | None


@dataclass
class Rule:
    """A fault that a hub was given, and what it applies to.

    Attributes:
        fault: What goes wrong.
        method: The method of the requests that it applies to; ``None`` means any.
        path: A pattern of their paths, unquoted and without the query; ``*`` matches ``/`` too.
        times: How often it applies; ``None`` means always.
        hits: How often it has applied.
    """

    fault: Fault
    method: str | None = None
    path: str = "*"
    times: int | None = None
    hits: int = 0

    def matches(self, request: Request) -> bool:
        """Whether the fault applies to a request, and is not used up."""
        return (
            (self.times is None or self.hits < self.times)
            and self.method in (None, request.method)
            and fnmatchcase(unquote(request.place), self.path)
            and self.fault.concerns(request)
        )


@dataclass
class Rules:
    """The faults of a hub, in the order in which it was given them."""

    rules: list[Rule] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def take(self, request: Request) -> list[Fault]:
        """Give the faults of a request, the headers behind the other one, and count them."""
        if request.place == UNDISTURBED:
            return []
        with self._lock:
            matching = [rule for rule in self.rules if rule.matches(request)]
            taken = [rule for rule in matching if not isinstance(rule.fault, Header)][:1]
            taken += [rule for rule in matching if isinstance(rule.fault, Header)]
            for rule in taken:
                rule.hits += 1
        return [rule.fault for rule in taken]
