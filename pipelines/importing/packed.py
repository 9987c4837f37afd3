"""An image as it lies in a package of others."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.images import MAX_BYTES


@dataclass(frozen=True)
class PackedImage:
    """An image as it lies in its package: a name to report it by, its encoded bytes (or why it was not read), and whom it shows."""

    name: str
    data: bytes | None
    identity: str | None = None
    refusal: str = ""


def too_long(size: int) -> str:
    """Why an image of `size` bytes is refused."""
    return f"{size:,} bytes; at most {MAX_BYTES:,} are read"
