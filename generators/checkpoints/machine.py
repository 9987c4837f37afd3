"""The state of a pickle while it is read as data: the stack, the memo, the place in the file, and the bounds on all of it.

Nothing here imports or calls what a file names, but for the functions of ours that it is given as `calls`.
"""

from __future__ import annotations

import _compat_pickle
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

from generators.checkpoints.records import Global, MalformedError, Record, RefusedError, TupleKey, check_key

MAX_NAME = 1_000  # characters of one text argument
MAX_GLOBALS = 1_000_000  # characters of all names of classes and functions together
MAX_ARGUMENTS = 16  # arguments of one call that do not count as work; further ones do
MAX_INTEGER = 16  # bytes of one integer
WINDOW = 65_536  # bytes of a line that are looked at together
VIEWED = 4_096  # byte strings from this length on are views of the file, not copies
# What Python and torch hold, under Python 2's names too, is called through `calls` alone, and never taken for somebody's class.
OWN_MODULES = sys.stdlib_module_names | {name.partition(".")[0] for name in _compat_pickle.IMPORT_MAPPING} | {"nt", "torch"}

Calls = Mapping[tuple[str, str], Callable[..., Any]]
SIZED = frozenset({str, bytes, memoryview, list, tuple, dict, set, frozenset, TupleKey})  # what the stack can hold that has a length
MARK = object()  # on the stack, where a run of items begins


class Machine:
    """Stack, memo and position, and what may be done with them. `opcodes` says which opcode does what."""

    def __init__(self, data: memoryview, start: int, calls: Calls, persistent: Callable[[Any], Any] | None):
        self.data, self.position, self.calls, self.persistent = data, start, calls, persistent
        self.length = len(data)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.spent, self.most = 0, len(data) + MAX_NAME
        self.named = 0  # characters of all names in `globals`
        self.paid: dict[int, bytes] = {}  # byte strings that a call has built and nothing has used yet, by id

    # Reading

    def take(self, count: int) -> memoryview:
        start = self.position
        end = start + count
        if count < 0 or end > self.length:
            raise MalformedError("is cut short")
        self.position = end
        return self.data[start:end]

    def number(self, layout: struct.Struct) -> Any:
        start = self.position
        self.position = end = start + layout.size
        if end > self.length:
            raise MalformedError("is cut short")
        return layout.unpack_from(self.data, start)[0]

    def line(self) -> str:
        """The text up to the next newline."""
        window = bytes(self.data[self.position : self.position + MAX_NAME])
        length = window.find(b"\n")
        if length < 0:
            raise MalformedError("is cut short, or has an overlong name")
        self.position += length + 1
        return window[:length].decode("utf-8")

    def value_line(self) -> bytes:
        """The bytes up to the next newline, of a value as protocol 0 writes it, which may be as long as the file."""
        end, newline = self.position, -1
        while newline < 0:
            window = bytes(self.data[end : end + WINDOW])
            if not window:
                raise MalformedError("is cut short")
            newline = window.find(b"\n")
            end += len(window) if newline < 0 else newline
        line = bytes(self.data[self.position : end])
        self.position = end + 1
        return line

    def byte_string(self, count: int) -> bytes | memoryview:
        part = self.take(count)
        return part if count >= VIEWED else bytes(part)

    def long(self, count: int) -> int:
        if count > MAX_INTEGER:
            raise MalformedError(f"holds an integer of {count:,} bytes")
        return int.from_bytes(self.take(count), "little", signed=True)

    # The stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("mark")
        return value

    def top(self) -> Any:
        if self.stack[-1] is MARK:
            raise ValueError("mark")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is MARK:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError("no mark")

    # Names and objects

    def name(self, module: Any, name: Any) -> Global:
        if type(module) is not str or type(name) is not str:
            raise TypeError("name")
        named = self.globals.get((module, name))
        if named is None:
            if not all(0 < len(part) <= MAX_NAME and part.isprintable() for part in (module, name)):
                raise TypeError("name")
            self.named += len(module) + len(name)
            if self.named > MAX_GLOBALS:
                raise MalformedError(f"names classes and functions with more than {MAX_GLOBALS:,} characters")
            named = self.globals[module, name] = Global(module, name)
        return named

    def call(self, target: Any, args: Any) -> Any:
        """What REDUCE builds: by one of `calls`, or a record if `target` looks like a class of somebody's (an enumeration, a path)."""
        return self._build_by_name(target, args, {}, lambda module, name: module not in OWN_MODULES and name[:1].isupper())

    def new(self, target: Any, args: Any, kwargs: Any = None) -> Any:
        """What `cls.__new__(cls, ...)` builds: a record, of torch's classes too, but of none that Python itself has."""
        return self._build_by_name(target, args, kwargs or {}, lambda module, name: module not in OWN_MODULES or module == "torch")

    def _build_by_name(self, target: Any, args: Any, kwargs: dict[str, Any], is_class: Callable[[str, str], bool]) -> Any:
        if not (isinstance(target, Global) and isinstance(args, tuple) and isinstance(kwargs, dict)):
            raise RefusedError(f"wants something called that is not a name ({type(target).__name__})")
        known = self.calls.get((target.module, target.name))
        if known is not None:
            self.spend(args if len(args) <= MAX_ARGUMENTS else args[:MAX_ARGUMENTS])
            if kwargs or len(args) > MAX_ARGUMENTS:
                self.spend_items(len(kwargs) + max(0, len(args) - MAX_ARGUMENTS))
            built = known(*args, **kwargs)
            if isinstance(built, bytes):
                self.paid[id(built)] = built
            return built
        if not is_class(target.module.partition(".")[0], target.name.rpartition(".")[2]):
            raise RefusedError(f"wants {target} called, which could run anything")
        return Record(target, args, kwargs or None)

    def spend(self, args: Any) -> None:
        """Counts what a call may copy: all calls together no more than the file is long, so that no file makes more of itself.

        Protocols 0 to 2 write bytes as a text and a call that encodes it. That call counts them; what takes them first does not again.
        """
        spent, paid = self.spent, self.paid
        for value in args:
            if type(value) in SIZED and not (paid and paid.pop(id(value), None) is not None):
                spent += len(value)
        self.spent = spent
        if spent > self.most:
            raise MalformedError("repeats itself beyond its own length")

    def spend_items(self, count: int) -> None:
        """Counts `count` items of what is copied."""
        self.spent += count
        if self.spent > self.most:
            raise MalformedError("repeats itself beyond its own length")

    def build(self, target: Any, state: Any) -> None:
        if isinstance(target, Record):
            target.state = state
        elif hasattr(target, "set_state"):
            if not isinstance(state, tuple) or len(state) > MAX_ARGUMENTS:
                raise MalformedError("holds an array or a type with a state that makes no sense")
            self.spend(state)
            target.set_state(state)
        elif not isinstance(target, (dict, list, set)):  # those of a state dict carry attributes that nobody needs
            raise RefusedError(f"wants the state of {target if isinstance(target, Global) else type(target).__name__} set")

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, Record):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise TypeError("append")

    def fill(self, target: Any, items: list[Any]) -> None:
        """Keys and values in turn, into a dict."""
        if len(items) % 2:
            raise ValueError("key without a value")
        pairs = [(check_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)]
        if isinstance(target, Record):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            target.update(pairs)
        else:
            raise TypeError("set item")

    def find_persistent(self, key: Any) -> Any:
        if self.persistent is None:
            raise RefusedError("refers to something outside itself by a persistent id")
        return self.persistent(key)
