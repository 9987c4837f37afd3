"""The error that a person can fix, and numbers in its words."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to us is wrong: a file, an option, a dataset. `message` is one line that names it, `fix` says what to do about it."""

    def __init__(self, message: str, fix: str = ""):
        super().__init__(f"{message}. {fix}" if fix else message)
        self.message, self.fix = message, fix


def counted(number: int, noun: str) -> str:
    """A number with its noun, for a message.

    >>> counted(1, "process"), counted(2, "process")
    ('1 process', '2 processes')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"
