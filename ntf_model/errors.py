"""The error that a person can fix."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to us is wrong: a file, an option, a dataset. `message` is one line that names it, `fix` says what to do about it."""

    def __init__(self, message: str, fix: str = ""):
        super().__init__(f"{message}. {fix}" if fix else message)
        self.message, self.fix = message, fix
