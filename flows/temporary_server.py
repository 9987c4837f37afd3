"""The server that Prefect starts for a flow where none is named: what it says is kept in a file, and does not stand between our lines.

Ctrl-C reaches it as it reaches the flow, and its own farewell ("Aborted!") would look like ours. Prefect has no setting for its output, so
this wraps the method that starts it; the project pins Prefect exactly, and tests Ctrl-C in a flow.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from generators.errors import InputError
from pipelines.files import cache_folder

LOG = "temporary-server.log"


def hush() -> None:
    """From now on, a temporary server writes to `temporary-server.log` in the cache. InputError if it cannot be written."""
    from prefect.server.api.server import SubprocessASGIServer

    original = SubprocessASGIServer._run_uvicorn_command
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def start(self: Any) -> Any:
        file = cache_folder() / LOG
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise InputError(f"cannot write {file}: {error.strerror}", "Set NTF_CACHE to a folder that can be written") from None
        ours = os.dup(2)
        try:
            os.dup2(log, 2)
            return original(self)
        finally:
            os.dup2(ours, 2)
            os.close(ours)
            os.close(log)

    SubprocessASGIServer._run_uvicorn_command = start
