"""The error that a person can fix: what it says of a disk, and that it is bounded."""

from __future__ import annotations

import errno
import os

from foreign.errors import CHECK_THE_DISK, LONGEST, InputError


class Refusal(InputError):
    """A kind of InputError, as other rooms have."""


def test_what_a_disk_refused_is_told_with_the_file_and_the_fix() -> None:
    error = Refusal.unwritable("write /a/b", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert isinstance(error, Refusal)
    assert error.message == f"cannot write /a/b: {os.strerror(errno.ENOSPC)}"
    assert error.fix == CHECK_THE_DISK
    assert InputError.unwritable("write s3://a/b", OSError("no such bucket")).message.endswith(": no such bucket"), "one without a number"


def test_a_message_is_bounded_and_moves_no_cursor() -> None:
    error = InputError("\x1b[2J" + "x" * 2 * LONGEST, "\x07")
    assert "\x1b" not in str(error)
    assert "\x07" not in str(error)
    assert len(error.message) < LONGEST + 20
