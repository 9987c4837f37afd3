"""`ntf`, the command line: where it begins and ends.

Ctrl-C may come at any moment, also while Python still loads what a command needs. So this file imports next to nothing, looks after the
signals first, and loads the rest (`flows.program`) then.

Exit codes: 0 done, 1 the check failed, 2 the input is wrong, 130 stopped by Ctrl-C, 143 ended by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

STOPPED = 130  # what a shell, and typer, call Ctrl-C
AGAIN = 0.01  # seconds until a Ctrl-C that a library lost is sent again


def main() -> None:
    """Runs the command of `sys.argv`, and ends with its exit code."""
    signals = _Signals()
    try:
        from flows.program import run

        run()
    except KeyboardInterrupt:
        code: Any = STOPPED
    except SystemExit as ended:
        code = ended.code
    except Exception:
        if not signals.is_stopping:
            raise
        code = STOPPED  # Ctrl-C, which a library turned into an error of its own
    else:
        code = 0
    if code == STOPPED:
        signals.is_stopping = True
        sys.stderr.write("stopped. No file is half-written. Run the same command again to go on.\n")
        sys.stderr.flush()
    sys.exit(code)


class _Signals:
    """Ctrl-C unwinds the command, so that locks and files are let go; a second one ends the process at once. SIGTERM ends it the ordinary
    way, so that what it started (Prefect's server of this run) ends with it."""

    def __init__(self) -> None:
        self.is_stopping = False
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._end)
        self._report = sys.unraisablehook
        sys.unraisablehook = self._unraisable

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.is_stopping:
            os._exit(STOPPED)
        self.is_stopping = True
        raise KeyboardInterrupt

    def _end(self, number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    def _unraisable(self, lost: Any) -> None:
        """Where Python can raise nothing (in `__del__`, in a callback of C), it would print the KeyboardInterrupt and go on."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            self._report(lost)
            return
        self.is_stopping = False
        again = threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()


if __name__ == "__main__":
    main()
