"""The error that a person can fix. It is one class for the whole project."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to us is wrong: a file, a key, a value, an option.

    `message` is one line that names the thing and says what is wrong with it. `fix` says what to do about it. The command line prints both
    and ends with exit code 2, without a traceback.
    """

    def __init__(self, message: str, fix: str = ""):
        super().__init__(f"{message}. {fix}" if fix else message)
        self.message, self.fix = message, fix
