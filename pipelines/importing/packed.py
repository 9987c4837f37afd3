"""An image as it lies in a package of others."""

from __future__ import annotations

from dataclasses import dataclass

from foreign.errors import InputError
from foreign.lists import plain
from foreign.text import visible
from pipelines.images import MAX_BYTES


@dataclass(frozen=True)
class PackedImage:
    """An image as it lies in its package: a name to report it by, its encoded bytes or why it was not read, whom it shows, its caption."""

    name: str
    data: bytes | None
    identity: str | None = None
    refusal: str = ""
    caption: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """What is no image for an import, by kind, such as "hidden" or ".txt", and how many files are."""

    kind: str
    count: int = 1


def identity_of(value: object, where: str) -> str | None:
    """Whom a field `identity` names: text or a whole number; None where it is empty. InputError, beginning with `where`, for all else."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: the identity {visible(repr(value), 60)} is neither text nor a whole number", "Write it as text")
    return plain(str(value))


def too_long(size: int) -> str:
    """Why an image of `size` bytes is refused."""
    return f"{size:,} bytes; at most {MAX_BYTES:,} are read"
