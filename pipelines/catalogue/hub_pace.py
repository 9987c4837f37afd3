"""The Hub's library with the bounds of `pace`: its own timeouts bound each wait for bytes, and not the whole."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
from huggingface_hub import get_session

from pipelines.catalogue.pace import HeaderWatch, at_pace


def hold_to_pace() -> None:
    """Lets the library's present client raise SlowServer for a server that drips. The library may replace its client after a fault, so
    this is asked for before each use."""
    client = get_session()
    hooks = client.event_hooks
    if _watch not in hooks["request"]:
        client.event_hooks = {"request": [*hooks["request"], _watch], "response": [*hooks["response"], _pace]}


class _Paced(httpx2.SyncByteStream):
    """The body of an answer, at a pace."""

    def __init__(self, inner: httpx2.SyncByteStream):
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        return at_pace(iter(self._inner))

    def close(self) -> None:
        self._inner.close()


def _watch(request: httpx2.Request) -> None:
    request.extensions["trace"] = HeaderWatch()
    request.headers["Connection"] = "close"  # each request opens the connection that its watch is to cut


def _pace(response: httpx2.Response) -> None:
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _Paced(response.stream)
