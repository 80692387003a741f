"""How a loopback hub speaks HTTP, and does so badly where a test asks it to."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Event, Lock
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from zoo_core.testing.faults import (
    Cut,
    Drip,
    Fault,
    Hang,
    Header,
    NoRange,
    Redirect,
    Request,
    Rules,
    Slow,
    Status,
    Tampered,
    WrongSize,
)
from zoo_core.testing.hub_api import Answer, refuse
from zoo_core.testing.hub_store import PIECE, Blob

STORAGE_HEADERS: Final = ("X-Repo-Commit", "ETag", "X-Linked-Etag", "X-Linked-Size")
SIZES: Final = ("Content-Length", "X-Linked-Size")
STEP: Final = 0.05


class HubServer(ThreadingHTTPServer):
    """Serves a hub on this machine, on a port of its own.

    Attributes:
        answer: Meets a request, whose body it reads.
        rules: The faults.
        log: The requests so far.
        closing: Set when the hub closes; all waiting ends then.
    """

    daemon_threads = False  # closing waits for the handlers, none of which outlasts its connection
    request_queue_size = 64

    def __init__(self, rules: Rules, log: list[Request]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[Request, Iterator[bytes]], Answer]
        self.rules = rules
        self.log = log
        self.closing = Event()
        self._lock = Lock()
        self._connections: set[socket.socket] = set()

    def server_bind(self) -> None:
        """Take a port, without the search for the host's name that HTTP servers begin with."""
        TCPServer.server_bind(self)
        self.server_port = self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection."""
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Stop serving, and end all connections whatever they are at."""
        self.closing.set()
        self.shutdown()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of errors other than a client's going away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def do_GET(self) -> None:
        request = Request(self.command, self.path, self.headers)
        self.server.log.append(request)
        try:
            self._exchange(request, self.server.rules.take(request))
        except ConnectionError:
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _exchange(self, request: Request, faults: list[Fault]) -> None:
        if Hang() in faults:
            self._hang()
        upload = request.method in ("POST", "PUT")
        body = self._receive()
        if upload:
            body = self._disturb(body, faults)
        answer = self._meet(request, body, faults)
        for _ in body:
            pass  # what is left of it would be taken for the next request
        if NoRange() not in faults:
            answer = _narrow(answer, request)
        for fault in faults:
            answer = _spoil(answer, fault, request)
        pieces = answer.pieces()
        self._send_head(answer, faults)
        if request.method != "HEAD" and answer.status not in (204, 304):
            self._send(answer, pieces if upload else self._disturb(pieces, faults))

    def _meet(self, request: Request, body: Iterator[bytes], faults: list[Fault]) -> Answer:
        for fault in faults:
            if isinstance(fault, Status):
                return refuse(fault.code, "", fault.message)
            if isinstance(fault, Redirect) and request.method not in ("GET", "HEAD"):
                return Answer(200, {}, Blob(b""))
        return self.server.answer(request, body)

    def _receive(self) -> Iterator[bytes]:
        """Give the body of the request in pieces."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            yield from self._read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield from self._read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read1(min(size, PIECE))
            if not piece:
                raise ConnectionAbortedError("the client went away")
            size -= len(piece)
            yield piece

    def _disturb(self, pieces: Iterator[bytes], faults: list[Fault]) -> Iterator[bytes]:
        """Let content pass as the faults have it."""
        for fault in faults:
            if isinstance(fault, Slow):
                pieces = self._slow_down(pieces, fault.bytes_per_second)
            elif isinstance(fault, Cut):
                pieces = _stop(pieces, fault.after, self._cut)
            elif isinstance(fault, Hang) and fault.after is not None:
                pieces = _stop(pieces, fault.after, self._hang)
        return pieces

    def _slow_down(self, pieces: Iterator[bytes], rate: float) -> Iterator[bytes]:
        size = max(1, int(rate * STEP))
        for piece in pieces:
            for start in range(0, len(piece), size):
                part = piece[start : start + size]
                self._wait(len(part) / rate)
                yield part

    def _send_head(self, answer: Answer, faults: list[Fault]) -> None:
        phrase = next((s.phrase for s in HTTPStatus if s == answer.status), "")
        lines = [f"HTTP/1.1 {answer.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
        drip = next((fault for fault in faults if isinstance(fault, Drip)), None)
        if drip is None:
            self.wfile.write(head)
            return
        for byte in head:
            self._wait(drip.seconds)
            self.wfile.write(bytes([byte]))

    def _send(self, answer: Answer, pieces: Iterator[bytes]) -> None:
        """Send no more content than the head announces, and hang up if there is less."""
        announced = answer.headers.get("Content-Length", "")
        left = int(announced) if announced.isdecimal() else sys.maxsize
        for piece in pieces:
            self.wfile.write(piece[:left])
            left -= min(left, len(piece))
        self.close_connection |= left > 0

    def _wait(self, seconds: float) -> None:
        if self.server.closing.wait(seconds):
            self._cut()

    def _hang(self) -> NoReturn:
        self.server.closing.wait()
        self._cut()

    def _cut(self) -> NoReturn:
        raise ConnectionAbortedError("cut")


def _stop(pieces: Iterator[bytes], after: int, end: Callable[[], NoReturn]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:after]
        after -= len(piece)
        if after <= 0:
            break
    end()


def _narrow(answer: Answer, request: Request) -> Answer:
    """Give the part of a file that a request asks for, if it asks for one part."""
    size = answer.content.size
    part = _read_range(request.headers.get("Range", "").strip(), size)
    if request.method != "GET" or "Accept-Ranges" not in answer.headers or part is None:
        return answer
    start, stop = part
    if start >= stop:
        return refuse(416, "", "no such range", {"Content-Range": f"bytes */{size}"})
    told = {
        "Content-Range": f"bytes {start}-{stop - 1}/{size}",
        "Content-Length": str(stop - start),
    }
    return replace(answer, status=206, headers={**answer.headers, **told}, start=start, stop=stop)


def _read_range(text: str, size: int) -> tuple[int, int] | None:
    """Give start and stop of the one part that a range means, ``None`` if it means no such."""
    found = re.fullmatch(r"bytes=(?:(\d+)-(\d*)|-(\d+))", text)
    if found is None:
        return None
    first, last, tail = found.groups()
    if tail:
        return max(0, size - int(tail)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _spoil(answer: Answer, fault: Fault, request: Request) -> Answer:
    """Give an answer as a fault has it."""
    match fault:
        case Tampered(at):
            size = answer.content.size
            return replace(answer, flip=at if at >= 0 else size + at)
        case WrongSize(by):
            sizes = {name: int(answer.headers.get(name, -1)) for name in SIZES}
            wrong = {name: str(max(0, size + by)) for name, size in sizes.items() if size >= 0}
            return replace(answer, headers={**answer.headers, **wrong})
        case Redirect(to, code):
            return _redirect(answer, to, code, request)
        case Header(name, value):
            headers = _replace_header(answer.headers, name, value)
            if name.lower() == "etag" and "X-Linked-Etag" in answer.headers:
                headers = _replace_header(headers, "X-Linked-Etag", value)
            return replace(answer, headers=headers)
    return answer


def _redirect(answer: Answer, to: str, code: int, request: Request) -> Answer:
    location = to if urlsplit(to).path.strip("/") else to.rstrip("/") + request.path
    kept = {name: answer.headers[name] for name in STORAGE_HEADERS if name in answer.headers}
    if "ETag" in kept:
        linked = {"X-Linked-Etag": kept["ETag"], "X-Linked-Size": str(answer.content.size)}
        kept = linked | kept
    return Answer(code, {**kept, "Location": location, "Content-Length": "0"}, Blob(b""))


def _replace_header(headers: Mapping[str, str], name: str, value: str | None) -> dict[str, str]:
    kept = {other: text for other, text in headers.items() if other.lower() != name.lower()}
    return kept if value is None else {**kept, name: value}
