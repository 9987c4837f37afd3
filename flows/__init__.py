"""What people and schedulers start: the command line, and thin Prefect flows over plain functions."""

import os

# Prefect reads these once, when it is imported. A user's own settings stand.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")  # its 20 s are short on a busy machine
os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "2")  # of `ntf serve`; with its 10 s a refresh waits long
