"""Lines for the log of a Prefect run. Their names and reasons may come from strangers; terminals and the web page show them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger

from foreign.text import escape_controls


class EscapedLogger(logging.LoggerAdapter):
    """A logger whose lines command no terminal: control characters, line ends among them, are written as `\\x1b` or `\\n`."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        if self.isEnabledFor(level):
            line = str(msg) % args if args else str(msg)
            self.logger.log(level, "%s", escape_controls(line).replace("\n", "\\n"), **kwargs)


def run_logger() -> EscapedLogger:
    """The logger of the flow or task run that calls this. Raises MissingContextError outside of one."""
    return EscapedLogger(get_run_logger(), {})


SHARD = "shard"  # the name of the tasks that make shards
OF_TASKS = "prefect.task_runs"  # Prefect's logger


@contextmanager
def one_line_for_a_shard() -> Iterator[None]:
    """Leaves out Prefect's "Finished in state Completed()" of shards: the build has a line of its own for each, which says more."""

    def is_said_otherwise(record: logging.LogRecord) -> bool:
        return getattr(record, "task_name", "") != SHARD or not record.getMessage().startswith("Finished in state Completed")

    logger = logging.getLogger(OF_TASKS)
    logger.addFilter(is_said_otherwise)
    try:
        yield
    finally:
        logger.removeFilter(is_said_otherwise)
