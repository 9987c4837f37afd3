"""A pickle read as data.

Python's own unpickler imports and calls what a file names. This one knows the same opcodes and does neither: a name stays a `Global`,
an object becomes a `Record` of what was stored about it, and the few calls that build tensors and containers go to functions of ours
(`calls`). Anything else that a file wants called is refused. Work and memory are bounded by the length of the file and by `MAX_OPCODES`:
large byte strings are views of it, and nothing recurses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from generators.checkpoints.machine import Calls, Machine
from generators.checkpoints.opcodes import OPERATIONS
from generators.checkpoints.records import Global, MalformedError

MAX_OPCODES = 10_000_000
_TABLE = [OPERATIONS.get(opcode) for opcode in range(256)]


@dataclass(frozen=True)
class Unpickled:
    value: Any
    end: int  # where in the data the pickle ends
    globals: frozenset[Global]


def unpickle(data: memoryview, calls: Calls, persistent: Callable[[Any], Any] | None = None, start: int = 0) -> Unpickled:
    """The value of the pickle at `start`. `calls` are the constructions that are carried out, by the names that files use; `persistent`
    resolves persistent ids. Raises MalformedError, or RefusedError with the name of what the file wants called."""
    machine = Machine(data, start, calls, persistent)
    try:
        value = _run(machine)
    except MalformedError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise MalformedError(f"is no valid pickle: {type(error).__name__} at byte {machine.position}") from None
    return Unpickled(value, machine.position, frozenset(machine.globals.values()))


def _run(machine: Machine) -> Any:
    """The value on the stack when the pickle says STOP."""
    data, length = machine.data, len(machine.data)
    for _ in range(MAX_OPCODES):
        place = machine.position
        if place >= length:
            raise MalformedError("is cut short")
        opcode = data[place]
        machine.position = place + 1
        if opcode == 0x2E:  # STOP
            return machine.pop()
        operation = _TABLE[opcode]
        if operation is None:
            raise MalformedError(f"is no valid pickle: opcode {opcode:#04x} at byte {place} is unknown or not accepted")
        operation(machine)
    raise MalformedError(f"is a pickle of more than {MAX_OPCODES:,} operations")
