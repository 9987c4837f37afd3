"""What ends a command with exit code 1: the input was right, and the result is not good enough."""

from __future__ import annotations


class CheckFailed(Exception):
    """A build that fell short, a gate that closed, a store that does not verify. One line that says what, and what was kept."""
