"""What a server owes that is asked for a file: all headers of its answer within a time, and a least speed of what follows them.

The timeouts of an HTTP client bound each wait for the next bytes. A server that sends a byte now and then never meets them.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

HEADER_SECONDS = 60.0  # from the end of a request to the end of the answer's headers
SLOWEST = 1024  # bytes a second: a server that sends less counts as silent
PACE_SECONDS = 60.0  # of waiting for bytes, over which that is measured
_OPENED = ("connect_tcp.complete", "start_tls.complete")
_WAITING = "receive_response_headers"


class SlowServer(OSError):
    """A server that sends, but too slowly."""


class HeaderWatch:
    """The extension `trace` of a request of httpx or httpx2, on a connection of its own: cuts it, so that SlowServer is raised, where the
    headers of the answer are not all there after HEADER_SECONDS."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._timer: threading.Timer | None = None
        self._is_late = False

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Takes in an event, such as "http11.receive_response_headers.started"."""
        _, _, what = event.partition(".")
        if what in _OPENED:
            self._stream = info["return_value"]
        elif what == f"{_WAITING}.started":
            self._timer = threading.Timer(HEADER_SECONDS, self._cut)
            self._timer.daemon = True
            self._timer.start()
        elif what in (f"{_WAITING}.complete", f"{_WAITING}.failed") and self._timer is not None:
            self._timer.cancel()
            if self._is_late and what.endswith("failed"):
                raise SlowServer(f"the server has not sent the headers of its answer within {HEADER_SECONDS:g} seconds")

    def _cut(self) -> None:
        self._is_late = True
        own = self._stream and self._stream.get_extra_info("socket")
        if own is not None:
            with suppress(OSError):  # it was closed at this very moment
                socket.socket.shutdown(own, socket.SHUT_RDWR)  # below TLS, whose own end would wait for the server


def at_pace(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """`blocks`, as long as they come fast enough; then SlowServer. Only the time that is spent on waiting for them counts."""
    waited, come = 0.0, 0
    while True:
        asked = time.monotonic()
        block = next(blocks, None)
        if block is None:
            return
        waited, come = waited + time.monotonic() - asked, come + len(block)
        yield block
        if waited >= PACE_SECONDS:
            if come < SLOWEST * waited:
                raise SlowServer(f"the server sends less than {SLOWEST:,} bytes a second")
            waited, come = 0.0, 0
