"""Reading by a library that may take all memory or crash on damaged bytes, in a process of its own that may die.

A Parquet file of a few bytes can ask for gigabytes. The child runs a function of ours that yields records, within a limit on its memory
and time, and writes them to a pipe as JSON and raw bytes. No pickle passes, so a child that is not itself any more can say wrong things
and do no more.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from foreign.errors import InputError
from foreign.text import reason, visible

MEMORY_FREE, MEMORY_RATIO = (
    768 * 2**20,
    16,
)  # bytes of memory that a child may take, beside those it starts with: free, and for each of the file
SECONDS_FREE, SECONDS_PER_MB = 60, 1
MAX_HEADER = 2**20
ERROR = "error"


class Record(NamedTuple):
    """What a child says of one thing: plain facts, and bytes (or None)."""

    facts: dict[str, Any]
    data: bytes | None


def read_in_child(module: str, path: Path, length: int, arguments: list[str], most: int) -> Iterator[Record]:
    """The records that `python -m MODULE ARGUMENTS` writes with `write_records`; `length` is that of the files at `path`.

    Records of more than `most` bytes are refused. Raises InputError that names `path` if the child says so, or dies.
    """
    root = str(Path(__file__).parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    command = [sys.executable, "-m", module, str(length), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment) as child:
        try:
            assert child.stdout is not None
            while (record := _next(child.stdout, path, most)) is not None:
                if ERROR in record.facts:
                    raise InputError(str(record.facts[ERROR]), str(record.facts.get("fix", "")))
                yield record
            code = child.wait()
        finally:
            child.kill()
    if code:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise InputError(f"{visible(path)} is damaged: the process that read it ended {how}", "Fetch it again")


def write_records(records: Iterator[Record], length: int) -> None:
    """In the child: writes records to standard output, within the bounds for files of `length` bytes. An InputError becomes a record."""
    _limit(length)
    out = os.fdopen(os.dup(1), "wb")
    try:
        for record in records:
            _write(out, record)
    except InputError as error:
        _write(out, Record({ERROR: error.message, "fix": error.fix}, None))
    except (Exception, MemoryError) as error:
        _write(out, Record({ERROR: f"a file is damaged ({reason(error)})", "fix": "Fetch it again"}, None))
    out.flush()


def _limit(length: int) -> None:
    started = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 2**32
    resource.setrlimit(resource.RLIMIT_AS, (started + MEMORY_FREE + MEMORY_RATIO * length,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_FREE + SECONDS_PER_MB * length // 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write(out: IO[bytes], record: Record) -> None:
    facts = json.dumps({**record.facts, "has_data": record.data is not None}).encode()
    out.write(struct.pack("<IQ", len(facts), len(record.data or b"")) + facts + (record.data or b""))


def _next(stream: IO[bytes], path: Path, most: int) -> Record | None:
    head = stream.read(12)
    if not head:
        return None
    damaged = InputError(f"{visible(path)} is damaged: the process that read it stopped in the middle", "Fetch it again")
    if len(head) < 12:
        raise damaged
    facts_length, length = struct.unpack("<IQ", head)
    if facts_length > MAX_HEADER or length > most:
        raise damaged
    text, data = stream.read(facts_length), stream.read(length)
    try:
        facts = json.loads(text)
    except ValueError:
        raise damaged from None
    if len(data) < length or not isinstance(facts, dict):
        raise damaged
    return Record(facts, data if facts.pop("has_data", False) else None)
