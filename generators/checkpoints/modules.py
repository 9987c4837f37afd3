"""From what a pickle held to tensors under dotted names and plain configuration.

A module that was stored whole is a tree of `_parameters`, `_buffers` and `_modules`; walking it gives the names that its `state_dict`
would have had, without its class. What is neither a tensor nor plain data (a callback, an optimizer's class) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generators.checkpoints.calls import ArrayRef
from generators.checkpoints.records import MalformedError, Record, TupleKey, check_key
from generators.checkpoints.storages import TensorRef, make_scalar_ref

MAX_DEPTH = 100
MAX_NODES = 1_000_000  # steps of the walk: each container, value and attribute counts each time that it is met
MAX_CHARACTERS = 2**25  # in all names (the keys on the way to a value, joined) and all texts that are kept, together
MAX_TEXT = 10_000  # characters of a text that is configuration; longer ones are source code
_LEFT_OUT = object()


def collect(value: Any) -> tuple[dict[str, TensorRef], Any]:
    """All tensors in `value` by dotted name, each checked, and the plain data that is left.

    A module at NAME leaves `{"class_name", "init_args", "init_kwargs", "attributes", "modules"}` there: its constructor's arguments where
    NVIDIA's persistence kept them, its plain attributes, and under "modules" class name, attributes and hooks of each module inside it,
    by dotted name. A TensorFlow network leaves `{"class_name", "name", "version", "static_kwargs"}`.
    """
    walk = _Walk()
    try:
        config = walk.visit(value, "", 0)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedError(f"holds modules or networks whose parts make no sense ({error})") from None
    return {name.removesuffix(".") or "tensor": reference.check() for name, reference in walk.tensors.items()}, config


class _Walk:
    def __init__(self) -> None:
        self.tensors: dict[str, TensorRef] = {}
        self.open: set[int] = set()  # containers that the walk is inside of
        self.nodes = 0
        self.characters = 0

    def _count(self, parts: int, characters: int = 0) -> None:
        """Counts what is walked or kept. A value that is referred to a thousand times counts a thousand times."""
        self.nodes += parts
        self.characters += characters
        if self.nodes > MAX_NODES:
            raise MalformedError(f"has more than {MAX_NODES:,} parts")
        if self.characters > MAX_CHARACTERS:
            raise MalformedError(f"has names and texts of more than {MAX_CHARACTERS:,} characters")

    def _leaf(self, value: Any) -> Any:
        leaf = _plain_leaf(value)
        self._count(1, len(leaf) if isinstance(leaf, str) else 0)
        return leaf

    def _class_name(self, record: Record) -> str:
        name = str(record.cls)
        self._count(1, len(name))
        return name

    def _keyed(self, value: dict[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
        """The items of a dict, their keys as names."""
        pairs = [(_key_name(key), item) for key, item in value.items()]
        self._count(0, sum(len(key) for key, _ in pairs) + len(pairs) * len(prefix))
        return pairs

    def visit(self, value: Any, prefix: str, depth: int) -> Any:
        """Notes the tensors under `prefix` (empty, or ending in a dot), and returns plain data or None."""
        if isinstance(value, ArrayRef):
            value = value.tensor
        if isinstance(value, TensorRef):
            self._count(1)
            self.tensors[prefix] = value
            return None
        if not isinstance(value, (dict, list, tuple, Record)):
            leaf = self._leaf(value)
            return None if leaf is _LEFT_OUT else leaf
        self._enter(value, depth)
        if isinstance(value, Record):
            description = self._visit_record(value, prefix, depth)
        elif isinstance(value, dict):
            rest = {key: self.visit(item, f"{prefix}{key}.", depth + 1) for key, item in self._keyed(value, prefix)}
            description = {key: item for key, item in rest.items() if item is not None and item != {}}
        else:
            self._count(0, len(value) * len(prefix))
            description = [self.visit(item, f"{prefix}{index}.", depth + 1) for index, item in enumerate(value)]
            description = description if not value or any(item is not None for item in description) else None
        self.open.discard(id(value))
        return description

    def _enter(self, value: Any, depth: int) -> None:
        self._count(1)
        if id(value) in self.open:
            raise MalformedError("contains itself")
        if depth > MAX_DEPTH:
            raise MalformedError(f"is nested deeper than {MAX_DEPTH} levels")
        self.open.add(id(value))

    def _visit_record(self, record: Record, prefix: str, depth: int) -> Any:
        state = self._state_of(record)
        if "_modules" in state and "_parameters" in state:
            return self._visit_module(record, state, prefix, depth)
        if "variables" in state and "static_kwargs" in state:
            return self._visit_tensorflow(record, state, prefix, depth)
        plain = self.plain(state, depth + 1)
        return {"class_name": self._class_name(record), "attributes": plain} if plain else None

    def _visit_module(self, record: Record, state: dict[str, Any], prefix: str, depth: int) -> dict[str, Any]:
        description = self._describe(record, state, depth)
        description |= {
            "init_args": self.plain(state.get("_init_args"), depth + 1) or [],
            "init_kwargs": self.plain(state.get("_init_kwargs"), depth + 1) or {},
        }
        description["modules"] = {
            name: self._describe(module, inner, depth) for name, module, inner in self._inside(record, state, prefix, "", depth)
        }
        return description

    def _inside(
        self, record: Record, state: dict[str, Any], prefix: str, name: str, depth: int
    ) -> Iterator[tuple[str, Record, dict[str, Any]]]:
        """Notes a module's own tensors, and yields the modules below it."""
        left_out = state.get("_non_persistent_buffers_set")
        left_out = left_out if isinstance(left_out, (set, frozenset)) else ()
        for group in ("_parameters", "_buffers"):
            for key, value in _items(state.get(group)):
                self._count(1, len(prefix) + len(_key_name(key)))
                if isinstance(value, TensorRef) and not (group == "_buffers" and key in left_out):
                    self.tensors[f"{prefix}{_key_name(key)}."] = value
        for key, module in ((_key_name(key), module) for key, module in _items(state["_modules"])):
            self._count(1)
            if module is None:
                continue
            inner = self._state_of(module) if isinstance(module, Record) else {}
            if not isinstance(inner.get("_modules"), dict):
                raise MalformedError(f"holds something at {prefix}{key} that is no module")
            self._enter(module, depth + 1)
            self._count(0, 2 * (len(prefix) + len(key)))
            below = f"{name}.{key}" if name else key
            yield below, module, inner
            yield from self._inside(module, inner, f"{prefix}{key}.", below, depth + 1)
            self.open.discard(id(module))

    def _describe(self, record: Record, state: dict[str, Any], depth: int) -> dict[str, Any]:
        attributes = {key: value for key, value in state.items() if isinstance(key, str) and not key.startswith("_")}
        description = {"class_name": self._class_name(record), "attributes": self.plain(attributes, depth + 1) or {}}
        hooks = [hook for _, hook in _items(state.get("_forward_pre_hooks")) if isinstance(hook, Record)]
        if hooks:  # spectral norm in its older form
            description["hooks"] = [
                {"class_name": self._class_name(hook), "attributes": self.plain(self._state_of(hook), depth + 1) or {}} for hook in hooks
            ]
        return description

    def _visit_tensorflow(self, record: Record, state: dict[str, Any], prefix: str, depth: int) -> dict[str, Any]:
        """NVIDIA's `tfutil.Network`: variables by name, then those of its components under theirs."""
        if not isinstance(state["variables"], (list, tuple)):
            raise MalformedError("holds modules or networks whose parts make no sense")
        for pair in state["variables"]:
            self._count(1, len(prefix))
            if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(check_key(pair[0]), str)):
                continue
            if isinstance(pair[1], ArrayRef) and pair[1].tensor is not None:
                self.tensors[f"{prefix}{pair[0]}."] = pair[1].tensor
            elif isinstance(pair[1], (int, float)):  # a variable without dimensions, which NumPy stores as a number
                self.tensors[f"{prefix}{pair[0]}."] = make_scalar_ref(pair[1])
        for name, component in ((_key_name(key), component) for key, component in _items(state.get("components"))):
            self._count(1, len(prefix) + len(name))
            inner = self._state_of(component) if isinstance(component, Record) else {}
            if "variables" in inner:
                self._enter(component, depth + 1)
                self._visit_tensorflow(component, inner, f"{prefix}{name}/", depth + 1)
                self.open.discard(id(component))
        kept = {key: state[key] for key in ("name", "version", "static_kwargs") if key in state}
        return {"class_name": self._class_name(record)} | (self.plain(kept, depth + 1) or {})

    def _state_of(self, record: Record) -> dict[str, Any]:
        """A record's attributes; what a class with slots keeps beside them is added."""
        parts = record.state if isinstance(record.state, tuple) else (record.state,)
        state: dict[str, Any] = {}
        self._count(len(parts))
        for part in parts:
            if isinstance(part, dict):
                self._count(len(part))
                state.update(part)
        return state

    def plain(self, value: Any, depth: int) -> Any:
        """`value`, a dict, list or other, without the tensors and objects in it."""
        plain = self._plain(value, depth)
        return None if plain is _LEFT_OUT else plain

    def _plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, (set, frozenset)):
            self._count(len(value))
            value = sorted(item for item in value if isinstance(item, str))
        if not isinstance(value, (dict, list, tuple)):
            return self._leaf(value)
        self._enter(value, depth)
        if isinstance(value, dict):
            rest = {key: self._plain(item, depth + 1) for key, item in self._keyed(value)}
            plain: Any = {key: item for key, item in rest.items() if item is not _LEFT_OUT}
        else:
            plain = [self.plain(item, depth + 1) for item in value]
        self.open.discard(id(value))
        return plain


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _key_name(key: Any) -> str:
    return "none" if isinstance(key, (Record, TupleKey)) else str(key)


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else _LEFT_OUT
    return value if isinstance(value, (int, float, bool, type(None))) else _LEFT_OUT
