"""A flow run ends with the worker that started it.

Prefect's workers start each run in a session of its own, and one that is killed leaves its runs behind: they would go on without anyone to
cancel them, and hold their dataset. What such a run has written is kept, and the next one goes on from there.
"""

from __future__ import annotations

import os
import threading
import time
from functools import cache

CHECK_EVERY = 1.0  # seconds


@cache
def end_with_worker() -> None:
    """Watches, from a thread, that the worker or `ntf serve` that started this process is there. Does nothing where none did."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(),), name="end-with-worker", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK_EVERY)
    os._exit(1)
