"""The error that a person can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Something given to us is wrong: a file, a key, a value.

    The message is one line that names the thing and what is wrong with it; `mend` says what to do about it. The command line
    prints both and ends with exit code 2, without a traceback.
    """

    def __init__(self, message: str, mend: str = ""):
        super().__init__(f"{message}. {mend}" if mend else message)
        self.mend = mend


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, unsafe to read, or not of the form that its generator expects."""
