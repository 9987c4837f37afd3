"""The file of `ntf --log`: what a command said, line by line with the time, between the command and its exit code."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TextIO

from foreign.errors import InputError
from foreign.secrets import without_secrets
from foreign.text import escape_controls, visible

SETTING = re.compile(r"((?:token|password|secret|auth|key)[a-z_-]*=)(?!\.\.\.)\S+", re.IGNORECASE)


class Journal:
    """An open log file. Lines are written as they come, so that a killed command leaves what it said."""

    def __init__(self, stream: TextIO, words: Sequence[str]):
        self._stream = stream
        self._start = time.monotonic()
        self._handler = _OfLibraries(self)
        logging.getLogger().addHandler(self._handler)
        command = SETTING.sub(r"\1...", without_secrets(" ".join(map(visible, words[1:]))))
        self.write(f"ntf {command} (version {metadata.version('natural-trace-foundry')})")

    @classmethod
    def open(cls, file: Path, words: Sequence[str]) -> Journal:
        """Goes on at the end of `file`. `words` are the command line. InputError if it cannot be written."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return cls(file.open("a", encoding="utf-8", errors="backslashreplace"), words)
        except OSError as error:
            raise InputError(f"cannot write the log {file}: {error.strerror}", "Name another file for --log") from None

    def write(self, text: str) -> None:
        """Writes every line of `text` behind the time, addresses without their secrets. A full disk ends the log and not the command."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        lines = [f"{now} {line.rstrip()}\n" for line in escape_controls(without_secrets(text)).splitlines() if line.strip()]
        try:
            self._stream.writelines(lines)
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def close(self, code: object) -> None:
        """Ends the log with the exit code (None: 0) and the seconds that the command took."""
        self.write(f"exit code {code or 0} after {time.monotonic() - self._start:.1f} s")
        logging.getLogger().removeHandler(self._handler)
        self._stream.close()


class _OfLibraries(logging.Handler):
    """Takes what libraries log into a journal."""

    def __init__(self, journal: Journal):
        super().__init__(logging.INFO)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.write(f"{record.name}: {record.getMessage()}")
