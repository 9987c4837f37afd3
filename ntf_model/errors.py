"""The error that a person can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to us is wrong: a file, an option, a dataset. One line that names it, and `mend`, what to do about it."""

    def __init__(self, message: str, mend: str = ""):
        super().__init__(f"{message}. {mend}" if mend else message)
        self.mend = mend
