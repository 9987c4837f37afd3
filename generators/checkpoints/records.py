"""What a pickle may hold that no library builds here: names, records of objects, and the errors about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class MalformedError(Exception):
    """The bytes are not what they should be. The message goes on from the file's name."""


class RefusedError(MalformedError):
    """The file asks for something to be run."""


@dataclass(frozen=True)
class Global:
    """A class or function that the file names. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(eq=False)
class Record:
    """An object of a class that is not built: what its pickle says of it, and nothing run."""

    cls: Global
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)  # of a subclass of list, or the pairs of a subclass of dict


class TupleKey(str):
    """A key that was a tuple, as a text of its parts. Anyone can find tuples of numbers that hash alike, and no one can find such texts."""

    __slots__ = ()


MAX_KEY = 1_000  # characters of a key
MAX_KEY_PARTS = 16


def check_key(key: Any) -> Any:
    """`key` in a form that may be hashed without risk: a text of bounded length, an integer of no size that is made to collide."""
    if isinstance(key, tuple):
        if len(key) > MAX_KEY_PARTS or any(isinstance(part, tuple) for part in key):
            raise MalformedError("uses a tuple of tuples, or of many parts, as a key")
        return TupleKey("\x1f".join(f"{type(part).__name__} {id(part) if isinstance(part, Record) else check_key(part)}" for part in key))
    if isinstance(key, float):
        return repr(key)
    if not isinstance(key, (str, bytes, int, Global, Record, type(None))) or (isinstance(key, int) and abs(key) >= 2**61 - 1):
        raise MalformedError(f"uses a {type(key).__name__} as a key")
    if isinstance(key, (str, bytes)) and len(key) > MAX_KEY:
        raise MalformedError(f"uses a text of {len(key):,} characters as a key")
    return key
