"""A server that sends more than anybody asked for."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

BLOCK: Final = 2**20
COUNT: Final = 16


@cache
def bomb() -> bytes:
    """Give a gigabyte of zeros as gzip packs it: a megabyte."""
    block = bytes(2**26)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # Behind a full flush the next block is packed as the first one was.
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(COUNT):
        checksum = zlib.crc32(block, checksum)
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    tail = packer.flush() + struct.pack("<II", checksum, COUNT * len(block))
    return head + packed * COUNT + tail


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        try:
            if self.path.startswith("/gzip"):
                self._send_bomb()
            else:
                self._send_endlessly()
        except ConnectionError:
            self.close_connection = True

    def _send_bomb(self) -> None:
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(bomb())))
        self.end_headers()
        self.wfile.write(bomb())

    def _send_endlessly(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = b"%x\r\n" % BLOCK + bytes(BLOCK) + b"\r\n"
        while True:
            self.wfile.write(block)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""


@contextmanager
def firehose() -> Iterator[str]:
    """Serve ``/gzip``, a bomb, and whatever else, an endless file; give the address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
