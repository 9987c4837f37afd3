"""A pickle read as data.

Python's own unpickler imports and calls what a file names. This machine knows the same opcodes and does neither: a name stays a `Global`,
an object becomes a `Record` of what was stored about it, and the few calls that build tensors and containers go to functions of ours
(`calls`). Anything else that a file wants called is refused. Work and memory are bounded by the length of the file and by `MAX_OPCODES`:
large byte strings are views of it, and the machine does not recurse.
"""

from __future__ import annotations

import _compat_pickle
import codecs
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_OPCODES = 10_000_000
MAX_NAME = 1_000  # characters of one text argument
MAX_INTEGER = 16  # bytes of one integer
WINDOW = 65_536  # bytes of a line that are looked at together
VIEWED = 4_096  # byte strings from this length on are views of the file, not copies
# What Python and torch hold, under Python 2's names too, is called through `calls` alone, and never taken for somebody's class.
OWN_MODULES = sys.stdlib_module_names | {name.partition(".")[0] for name in _compat_pickle.IMPORT_MAPPING} | {"nt", "torch"}


class MalformedError(Exception):
    """The bytes are not what they should be. The message goes on from the file's name."""


class RefusedError(MalformedError):
    """The file asks for something to be run."""


@dataclass(frozen=True)
class Global:
    """A class or function that the file names. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


@dataclass(eq=False)
class Record:
    """An object of a class that is not built: what its pickle says of it, and nothing run."""

    cls: Global
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)  # of a subclass of list, or the pairs of a subclass of dict


@dataclass(frozen=True)
class Unpickled:
    value: Any
    end: int  # where in the data the pickle ends
    globals: frozenset[Global]


Calls = Mapping[tuple[str, str], Callable[..., Any]]
_MARK = object()


def unpickle(data: memoryview, calls: Calls, persistent: Callable[[Any], Any] | None = None, start: int = 0) -> Unpickled:
    """The value of the pickle at `start`. `calls` are the constructions that are carried out, by the names that files use; `persistent`
    resolves persistent ids. Raises MalformedError, or RefusedError with the name of what the file wants called."""
    machine = _Machine(data, start, calls, persistent)
    try:
        value = machine.run()
    except MalformedError:
        raise
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise MalformedError(f"is no valid pickle: {type(error).__name__} at byte {machine.position}") from None
    return Unpickled(value, machine.position, frozenset(machine.globals))


class _Machine:
    """Stack, memo and position. Methods named `op_XX` carry out the opcode with that byte."""

    def __init__(self, data: memoryview, start: int, calls: Calls, persistent: Callable[[Any], Any] | None):
        self.data, self.position, self.calls, self.persistent = data, start, calls, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: set[Global] = set()
        self.spent = 0
        self.paid: dict[int, bytes] = {}  # byte strings that a call made and nothing has used yet, by id

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            opcode = self.take(1)[0]
            if opcode == 0x2E:  # STOP
                return self.pop()
            operation = _OPERATIONS.get(opcode)
            if operation is None:
                raise MalformedError(f"is no valid pickle: opcode {opcode:#04x} at byte {self.position - 1} is unknown or not accepted")
            operation(self)
        raise MalformedError(f"is a pickle of more than {MAX_OPCODES:,} operations")

    # Reading

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise MalformedError("is cut short")
        part = self.data[self.position : end]
        self.position = end
        return part

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

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
        end, found = self.position, -1
        while found < 0:
            window = bytes(self.data[end : end + WINDOW])
            if not window:
                raise MalformedError("is cut short")
            found = window.find(b"\n")
            end += len(window) if found < 0 else found
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
        if value is _MARK:
            raise ValueError("mark")
        return value

    def top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise ValueError("mark")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                items = self.stack[start + 1 :]
                del self.stack[start:]
                return items
        raise ValueError("no mark")

    # Names and objects

    def name(self, module: Any, name: Any) -> Global:
        for part in (module, name):
            if not isinstance(part, str) or not 0 < len(part) <= MAX_NAME or not part.isprintable():
                raise TypeError("name")
        found = Global(module, name)
        self.globals.add(found)
        return found

    def call(self, target: Any, args: Any) -> Any:
        """What REDUCE builds: by one of `calls`, or a record if `target` looks like a class of somebody's (an enumeration, a path)."""
        return self._make(target, args, {}, lambda module, name: module not in OWN_MODULES and name[:1].isupper())

    def new(self, target: Any, args: Any, kwargs: Any = None) -> Any:
        """What `cls.__new__(cls, ...)` builds: a record, of torch's classes too, but of none that Python itself has."""
        return self._make(target, args, kwargs or {}, lambda module, name: module not in OWN_MODULES or module == "torch")

    def _make(self, target: Any, args: Any, kwargs: dict[str, Any], is_class: Callable[[str, str], bool]) -> Any:
        if not (isinstance(target, Global) and isinstance(args, tuple) and isinstance(kwargs, dict)):
            raise RefusedError(f"wants something called that is not a name ({type(target).__name__})")
        known = self.calls.get((target.module, target.name))
        if known is not None:
            self.spend(args)
            made = known(*args, **kwargs)
            if isinstance(made, bytes):
                self.paid[id(made)] = made
            return made
        if not is_class(target.module.partition(".")[0], target.name.rpartition(".")[2]):
            raise RefusedError(f"wants {target} called, which could run anything")
        return Record(target, args, kwargs or None)

    def spend(self, args: Any) -> None:
        """Counts what a call may copy: all calls together no more than the file is long, so that no file makes more of itself.

        Protocols 0 to 2 write bytes as a text and a call that encodes it. That call counts them; what takes them first does not again.
        """
        for value in args:
            if isinstance(value, (str, bytes, memoryview, list, tuple, dict, set, frozenset)) and self.paid.pop(id(value), None) is None:
                self.spent += len(value)
        if self.spent > len(self.data) + MAX_NAME:
            raise MalformedError("repeats itself beyond its own length")

    def build(self, target: Any, state: Any) -> None:
        if isinstance(target, Record):
            target.state = state
        elif hasattr(target, "set_state"):
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


def check_key(key: Any) -> Any:
    """`key` if it may be hashed without risk: flat, and no integer of a size that is made to collide."""
    for part in key if isinstance(key, tuple) else (key,):
        if not isinstance(part, (str, bytes, float, int, Global, Record, type(None))) or (isinstance(part, int) and abs(part) >= 2**61 - 1):
            raise MalformedError(f"uses a {type(part).__name__} as a key")
    return key


def _text(machine: _Machine, count: int) -> None:
    machine.push(str(machine.take(count), "utf-8", "replace"))


def _python2_text(machine: _Machine, count: int) -> None:
    machine.push(str(machine.take(count), "latin-1"))


def _escaped_text(machine: _Machine) -> None:
    text = machine.value_line().decode("raw-unicode-escape")
    machine.push(text.encode("utf-8", "replace").decode())  # without lone surrogates, which nothing could write again


def _quoted(machine: _Machine) -> None:
    body = machine.value_line()
    if len(body) < 2 or body[0] != body[-1] or body[:1] not in (b"'", b'"'):
        raise ValueError("string")
    machine.push(codecs.escape_decode(body[1:-1])[0].decode("latin-1"))


def _integer_line(machine: _Machine) -> None:
    text = machine.line().removesuffix("L")
    if len(text) > 2 * MAX_INTEGER:
        raise MalformedError("holds an overlong integer")
    machine.push({"00": False, "01": True}.get(text, int(text)))


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def make(machine: _Machine) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return make


def _pop(machine: _Machine) -> None:
    machine.stack.pop()


def _dict_from_mark(machine: _Machine) -> None:
    made: dict[Any, Any] = {}
    machine.fill(made, machine.pop_to_mark())
    machine.push(made)


def _set_from_mark(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.push(frozenset(check_key(item) for item in items))


def _add_items(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    if not isinstance(machine.top(), set):
        raise TypeError("add")
    machine.top().update(check_key(item) for item in items)


def _append(machine: _Machine) -> None:
    item = machine.pop()
    machine.extend(machine.top(), [item])


def _appends(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.extend(machine.top(), items)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill(machine.top(), [key, value])


def _set_items(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.fill(machine.top(), items)


def _global_line(machine: _Machine) -> None:
    module = machine.line()
    machine.push(machine.name(module, machine.line()))


def _global_from_stack(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.name(module, name))


def _reduce(machine: _Machine) -> None:
    args, target = machine.pop(), machine.pop()
    machine.push(machine.call(target, args))


def _new_object(machine: _Machine) -> None:
    args, target = machine.pop(), machine.pop()
    machine.push(machine.new(target, args))


def _new_object_with_kwargs(machine: _Machine) -> None:
    kwargs, args, target = machine.pop(), machine.pop(), machine.pop()
    machine.push(machine.new(target, args, kwargs))


def _instance(machine: _Machine) -> None:
    module = machine.line()
    target = machine.name(module, machine.line())
    machine.push(machine.new(target, tuple(machine.pop_to_mark())))


def _object(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.push(machine.new(items[0], tuple(items[1:])))


def _build(machine: _Machine) -> None:
    state = machine.pop()
    machine.build(machine.top(), state)


def _protocol(machine: _Machine) -> None:
    if machine.take(1)[0] > 5:
        raise MalformedError("is a pickle of a later protocol than 5")


def _memoize(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.top()


# The opcodes of protocols 0 to 5 (see `pickletools`) but the extension registry and out-of-band buffers, which no checkpoint uses.
_OPERATIONS: dict[int, Callable[[_Machine], None]] = {
    ord(code): operation
    for code, operation in {
        "(": lambda m: m.push(_MARK),
        "0": _pop,
        "1": lambda m: m.pop_to_mark() and None,
        "2": lambda m: m.push(m.top()),
        "\x80": _protocol,
        "\x95": lambda m: m.take(8) and None,
        # values
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": _integer_line,
        "L": _integer_line,
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.number("<B")),
        "M": lambda m: m.push(m.number("<H")),
        "\x8a": lambda m: m.push(m.long(m.number("<B"))),
        "\x8b": lambda m: m.push(m.long(m.number("<I"))),
        "F": lambda m: m.push(float(m.line())),
        "G": lambda m: m.push(m.number(">d")),
        "S": _quoted,
        "T": lambda m: _python2_text(m, m.number("<I")),
        "U": lambda m: _python2_text(m, m.number("<B")),
        "B": lambda m: m.push(m.byte_string(m.number("<I"))),
        "C": lambda m: m.push(m.byte_string(m.number("<B"))),
        "\x8e": lambda m: m.push(m.byte_string(m.number("<Q"))),
        "\x96": lambda m: m.push(m.byte_string(m.number("<Q"))),
        "V": _escaped_text,
        "X": lambda m: _text(m, m.number("<I")),
        "\x8c": lambda m: _text(m, m.number("<B")),
        "\x8d": lambda m: _text(m, m.number("<Q")),
        # containers
        "]": lambda m: m.push([]),
        "}": lambda m: m.push({}),
        ")": lambda m: m.push(()),
        "\x8f": lambda m: m.push(set()),
        "l": lambda m: m.push(m.pop_to_mark()),
        "d": _dict_from_mark,
        "t": lambda m: m.push(tuple(m.pop_to_mark())),
        "\x85": _tuple_of(1),
        "\x86": _tuple_of(2),
        "\x87": _tuple_of(3),
        "\x91": _set_from_mark,
        "\x90": _add_items,
        "a": _append,
        "e": _appends,
        "s": _set_item,
        "u": _set_items,
        # names and objects
        "c": _global_line,
        "\x93": _global_from_stack,
        "R": _reduce,
        "\x81": _new_object,
        "\x92": _new_object_with_kwargs,
        "i": _instance,
        "o": _object,
        "b": _build,
        "P": lambda m: m.push(m.find_persistent(m.line())),
        "Q": lambda m: m.push(m.find_persistent(m.pop())),
        # memo
        "p": lambda m: _put(m, int(m.line()[:20])),
        "q": lambda m: _put(m, m.number("<B")),
        "r": lambda m: _put(m, m.number("<I")),
        "\x94": _memoize,
        "g": lambda m: m.push(m.memo[int(m.line()[:20])]),
        "h": lambda m: m.push(m.memo[m.number("<B")]),
        "j": lambda m: m.push(m.memo[m.number("<I")]),
    }.items()
}
