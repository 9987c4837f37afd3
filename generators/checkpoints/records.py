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


def check_key(key: Any) -> Any:
    """`key` if it may be hashed without risk: flat, and no integer of a size that is made to collide."""
    for part in key if isinstance(key, tuple) else (key,):
        if not isinstance(part, (str, bytes, float, int, Global, Record, type(None))) or (isinstance(part, int) and abs(part) >= 2**61 - 1):
            raise MalformedError(f"uses a {type(part).__name__} as a key")
    return key
