"""A web server on loopback for tests, whose answers are those of a handler."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

State = TypeVar("State")


@contextmanager
def serving_with(handler: type[BaseHTTPRequestHandler], state_at: Callable[[str], State]) -> Iterator[State]:
    """A server on a free port for the time of the block, and the state that `state_at` makes for its address, which the handler finds as
    `self.server.state`."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    state = state_at(f"http://127.0.0.1:{http.server_port}")
    http.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
