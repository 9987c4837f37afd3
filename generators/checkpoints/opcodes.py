"""What each opcode of a pickle does to the machine that reads it as data."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from struct import Struct
from typing import Any

from generators.checkpoints.machine import MARK, MAX_INTEGER, Machine
from generators.checkpoints.records import MalformedError, check_key

INT32, UINT8, UINT16, UINT32, UINT64, FLOAT64 = map(Struct, ("<i", "<B", "<H", "<I", "<Q", ">d"))


def _text(machine: Machine, count: int) -> None:
    machine.push(str(machine.take(count), "utf-8", "replace"))


def _python2_text(machine: Machine, count: int) -> None:
    machine.push(str(machine.take(count), "latin-1"))


def _escaped_text(machine: Machine) -> None:
    text = machine.value_line().decode("raw-unicode-escape")
    machine.push(text.encode("utf-8", "replace").decode())  # without lone surrogates, which nothing could write again


def _quoted(machine: Machine) -> None:
    body = machine.value_line()
    if len(body) < 2 or body[0] != body[-1] or body[:1] not in (b"'", b'"'):
        raise ValueError("string")
    machine.push(codecs.escape_decode(body[1:-1])[0].decode("latin-1"))


def _integer_line(machine: Machine) -> None:
    text = machine.line().removesuffix("L")
    if len(text) > 2 * MAX_INTEGER:
        raise MalformedError("holds an overlong integer")
    machine.push({"00": False, "01": True}.get(text, int(text)))


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def make(machine: Machine) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return make


def _pop(machine: Machine) -> None:
    machine.stack.pop()


def _dict_from_mark(machine: Machine) -> None:
    pairs: dict[Any, Any] = {}
    machine.fill(pairs, machine.pop_to_mark())
    machine.push(pairs)


def _set_from_mark(machine: Machine) -> None:
    items = machine.pop_to_mark()
    machine.push(frozenset(check_key(item) for item in items))


def _add_items(machine: Machine) -> None:
    items = machine.pop_to_mark()
    if not isinstance(machine.top(), set):
        raise TypeError("add")
    machine.top().update(check_key(item) for item in items)


def _append(machine: Machine) -> None:
    item = machine.pop()
    machine.extend(machine.top(), [item])


def _appends(machine: Machine) -> None:
    items = machine.pop_to_mark()
    machine.extend(machine.top(), items)


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill(machine.top(), [key, value])


def _set_items(machine: Machine) -> None:
    items = machine.pop_to_mark()
    machine.fill(machine.top(), items)


def _global_line(machine: Machine) -> None:
    module = machine.line()
    machine.push(machine.name(module, machine.line()))


def _global_from_stack(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.name(module, name))


def _reduce(machine: Machine) -> None:
    args, target = machine.pop(), machine.pop()
    machine.push(machine.call(target, args))


def _new_object(machine: Machine) -> None:
    args, target = machine.pop(), machine.pop()
    machine.push(machine.new(target, args))


def _new_object_with_kwargs(machine: Machine) -> None:
    kwargs, args, target = machine.pop(), machine.pop(), machine.pop()
    machine.push(machine.new(target, args, kwargs))


def _instance(machine: Machine) -> None:
    module = machine.line()
    target = machine.name(module, machine.line())
    machine.push(machine.new(target, tuple(machine.pop_to_mark())))


def _object(machine: Machine) -> None:
    items = machine.pop_to_mark()
    machine.push(machine.new(items[0], tuple(items[1:])))


def _build(machine: Machine) -> None:
    state = machine.pop()
    machine.build(machine.top(), state)


def _protocol(machine: Machine) -> None:
    if machine.take(1)[0] > 5:
        raise MalformedError("is a pickle of a later protocol than 5")


def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _put(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.top()


# The opcodes of protocols 0 to 5 (see `pickletools`) but the extension registry and out-of-band buffers, which no checkpoint uses.
OPERATIONS: dict[int, Callable[[Machine], None]] = {
    ord(code): operation
    for code, operation in {
        "(": lambda m: m.push(MARK),
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
        "J": lambda m: m.push(m.number(INT32)),
        "K": lambda m: m.push(m.number(UINT8)),
        "M": lambda m: m.push(m.number(UINT16)),
        "\x8a": lambda m: m.push(m.long(m.number(UINT8))),
        "\x8b": lambda m: m.push(m.long(m.number(UINT32))),
        "F": lambda m: m.push(float(m.line())),
        "G": lambda m: m.push(m.number(FLOAT64)),
        "S": _quoted,
        "T": lambda m: _python2_text(m, m.number(UINT32)),
        "U": lambda m: _python2_text(m, m.number(UINT8)),
        "B": lambda m: m.push(m.byte_string(m.number(UINT32))),
        "C": lambda m: m.push(m.byte_string(m.number(UINT8))),
        "\x8e": lambda m: m.push(m.byte_string(m.number(UINT64))),
        "\x96": lambda m: m.push(m.byte_string(m.number(UINT64))),
        "V": _escaped_text,
        "X": lambda m: _text(m, m.number(UINT32)),
        "\x8c": lambda m: _text(m, m.number(UINT8)),
        "\x8d": lambda m: _text(m, m.number(UINT64)),
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
        "q": lambda m: _put(m, m.number(UINT8)),
        "r": lambda m: _put(m, m.number(UINT32)),
        "\x94": _memoize,
        "g": lambda m: m.push(m.memo[int(m.line()[:20])]),
        "h": lambda m: m.push(m.memo[m.number(UINT8)]),
        "j": lambda m: m.push(m.memo[m.number(UINT32)]),
    }.items()
}
