"""Prefect's temporary server, which it starts for a flow where no server is named, and Ctrl-C.

A terminal sends Ctrl-C to everything that runs in it. The server would end before the flow has told it that it was stopped, and both would
say so in many lines. So the server starts with SIGINT blocked; it ends by SIGTERM, as Prefect does it at the end of the process. Prefect
has no setting for that, so this wraps the method that starts it; the project pins Prefect exactly, and tests Ctrl-C in a flow.
"""

from __future__ import annotations

import functools
import logging
import signal
from typing import Any

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def stop_quietly() -> None:
    """From now on, Ctrl-C reaches the flow of this process alone, and Prefect says nothing of it."""
    from prefect.server.api.server import SubprocessASGIServer

    original = SubprocessASGIServer._run_uvicorn_command
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def start(self: Any) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child process takes it over
        try:
            return original(self)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    SubprocessASGIServer._run_uvicorn_command = start
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_is_no_interrupt)


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    return "aborted by an interrupt signal" not in record.getMessage()
