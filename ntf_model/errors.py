"""The error that a person can fix, and numbers in its words."""

from __future__ import annotations

from foreign.errors import InputError

__all__ = ["InputError", "counted"]


def counted(number: int, noun: str) -> str:
    """A number with its noun, for a message.

    >>> counted(1, "process"), counted(2, "process")
    ('1 process', '2 processes')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"
