"""The error that a person can fix. It is one class for the whole project."""

from __future__ import annotations

import errno
from typing import Self

from foreign.text import escape_controls, without_source

# Of OSError.errno: faults of a path or a disk. Trying again does not help: a person has to change something.
OF_THE_DISK = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    | {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)
CHECK_THE_DISK = "Check the folder, its permissions and the disk"  # how a person mends such a fault
LONGEST = 2_000  # characters of a message; a name or a cell of a stranger may have millions


class InputError(ValueError):
    """Something given to us is wrong: a file, a key, a value, an option.

    `message` is one line that names the thing and says what is wrong with it. `fix` says what to do about it. The command line prints both
    and ends with exit code 2, without a traceback. Control characters are escaped and a long text loses its middle here, whatever a message
    is made of.
    """

    def __init__(self, message: str, fix: str = ""):
        message, fix = _bounded(message), _bounded(fix)
        super().__init__(f"{message}. {fix}" if fix else message)
        self.message, self.fix = message, fix

    @classmethod
    def unwritable(cls, act: str, error: OSError) -> Self:
        """The error for what a path or a disk refused. `act` says what was tried, with the file: "write /a/b"."""
        return cls(f"cannot {act}: {error.strerror or error}", CHECK_THE_DISK)


def _bounded(text: str) -> str:
    text = without_source(text)
    kept = LONGEST // 2
    return escape_controls(text if len(text) <= LONGEST else f"{text[:kept]}...{text[-kept:]}")
