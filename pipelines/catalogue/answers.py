"""What the headers of an answer say of a file: its length, its version, which part of it comes, when to ask again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx


def goes_on(response: httpx.Response, have: int, known: Mapping[str, Any]) -> bool:
    """Whether an answer with a part of the file (206) begins after the `have` bytes that are here, in the version that is `known` by its
    `validator` and `total`. Some servers answer with a part of any version, whatever If-Range says."""
    unit, begin, total = _content_range(response)
    if unit != "bytes" or begin != str(have):
        return False
    if have == 0:
        return True
    if known.get("total") and is_number(total) and int(total) != known["total"]:
        return False
    wanted = str(known.get("validator"))
    sent = response.headers.get("ETag", "").removeprefix("W/") if wanted.startswith('"') else response.headers.get("Last-Modified", "")
    return sent in ("", wanted)


def place_of(response: httpx.Response, have: int) -> tuple[int, int | None]:
    """Where the body begins in the file, and the length of the file if it is known."""
    if response.status_code == 206:
        total = _content_range(response)[2]
        return have, int(total) if is_number(total) else None
    return 0, length_of(response)


def length_of(response: httpx.Response) -> int | None:
    """The bytes of the body, if the server says how many."""
    length = response.headers.get("Content-Length", "")
    return int(length) if is_number(length) else None


def validator_of(response: httpx.Response) -> str | None:
    """What tells this version of the file from the next: a strong ETag, or the time of its last change."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def retry_after(response: httpx.Response) -> float:
    """The seconds that the server asks to wait, given as a number or as a date; 0 if it says nothing that can be read."""
    value = response.headers.get("Retry-After", "")
    if is_number(value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return 0.0


def is_number(text: str) -> bool:
    """Whether the value of a header is a whole number. Python's own test takes `²` for one."""
    return text.isascii() and text.isdigit()


def _content_range(response: httpx.Response) -> tuple[str, str, str]:
    """The unit, the first byte and the length of the whole, as the server writes them: "bytes", "100" and "300" or "*"."""
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    place, _, total = rest.partition("/")
    return unit, place.partition("-")[0], total
