"""The errors that a person can fix."""

from __future__ import annotations

from foreign.errors import InputError

__all__ = ["CheckpointError", "InputError"]


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, unsafe to read, or not of the form that its generator expects."""
