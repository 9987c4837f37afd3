"""From what a pickle held to tensors under dotted names and plain configuration.

A module that was stored whole is a tree of `_parameters`, `_buffers` and `_modules`; walking it gives the names that its `state_dict`
would have had, without its class. What is neither a tensor nor plain data (a callback, an optimizer's class) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from generators.checkpoints.calls import ArrayRef
from generators.checkpoints.records import MalformedError, Record
from generators.checkpoints.storages import TensorRef, make_scalar_ref

MAX_DEPTH = 100
MAX_NODES = 1_000_000
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
    except (TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"holds modules or networks whose parts make no sense ({error})") from None
    return {name.removesuffix(".") or "tensor": reference.check() for name, reference in walk.tensors.items()}, config


class _Walk:
    def __init__(self) -> None:
        self.tensors: dict[str, TensorRef] = {}
        self.open: set[int] = set()  # containers that the walk is inside of
        self.nodes = 0

    def visit(self, value: Any, prefix: str, depth: int) -> Any:
        """Notes the tensors under `prefix` (empty, or ending in a dot), and returns plain data or None."""
        if isinstance(value, ArrayRef):
            value = value.tensor
        if isinstance(value, TensorRef):
            self.tensors[prefix] = value
            return None
        if not isinstance(value, (dict, list, tuple, Record)):
            leaf = _plain_leaf(value)
            return None if leaf is _LEFT_OUT else leaf
        self._enter(value, depth)
        if isinstance(value, Record):
            description = self._visit_record(value, prefix, depth)
        elif isinstance(value, dict):
            rest = {_key_name(key): self.visit(item, f"{prefix}{_key_name(key)}.", depth + 1) for key, item in value.items()}
            description = {key: item for key, item in rest.items() if item is not None and item != {}}
        else:
            description = [self.visit(item, f"{prefix}{index}.", depth + 1) for index, item in enumerate(value)]
            description = description if not value or any(item is not None for item in description) else None
        self.open.discard(id(value))
        return description

    def _enter(self, value: Any, depth: int) -> None:
        self.nodes += 1
        if id(value) in self.open:
            raise MalformedError("contains itself")
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise MalformedError(f"is nested deeper than {MAX_DEPTH} levels, or has more than {MAX_NODES:,} parts")
        self.open.add(id(value))

    def _visit_record(self, record: Record, prefix: str, depth: int) -> Any:
        state = _state_of(record)
        if "_modules" in state and "_parameters" in state:
            return self._visit_module(record, state, prefix, depth)
        if "variables" in state and "static_kwargs" in state:
            return self._visit_tensorflow(record, state, prefix, depth)
        plain = self.plain(state, depth + 1)
        return {"class_name": str(record.cls), "attributes": plain} if plain else None

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
        left_out = state.get("_non_persistent_buffers_set") or ()
        for group in ("_parameters", "_buffers"):
            for key, value in _items(state.get(group)):
                if isinstance(value, TensorRef) and not (group == "_buffers" and key in left_out):
                    self.tensors[f"{prefix}{key}."] = value
        for key, module in _items(state["_modules"]):
            if module is None:
                continue
            inner = _state_of(module) if isinstance(module, Record) else {}
            if not isinstance(inner.get("_modules"), dict):
                raise MalformedError(f"holds something at {prefix}{key} that is no module")
            self._enter(module, depth + 1)
            below = f"{name}.{key}" if name else str(key)
            yield below, module, inner
            yield from self._inside(module, inner, f"{prefix}{key}.", below, depth + 1)
            self.open.discard(id(module))

    def _describe(self, record: Record, state: dict[str, Any], depth: int) -> dict[str, Any]:
        attributes = {key: value for key, value in state.items() if isinstance(key, str) and not key.startswith("_")}
        description = {"class_name": str(record.cls), "attributes": self.plain(attributes, depth + 1) or {}}
        hooks = [hook for _, hook in _items(state.get("_forward_pre_hooks")) if isinstance(hook, Record)]
        if hooks:  # spectral norm in its older form
            description["hooks"] = [
                {"class_name": str(hook.cls), "attributes": self.plain(_state_of(hook), depth + 1) or {}} for hook in hooks
            ]
        return description

    def _visit_tensorflow(self, record: Record, state: dict[str, Any], prefix: str, depth: int) -> dict[str, Any]:
        """NVIDIA's `tfutil.Network`: variables by name, then those of its components under theirs."""
        for pair in state["variables"]:
            if not (isinstance(pair, (list, tuple)) and len(pair) == 2):
                continue
            if isinstance(pair[1], ArrayRef) and pair[1].tensor is not None:
                self.tensors[f"{prefix}{pair[0]}."] = pair[1].tensor
            elif isinstance(pair[1], (int, float)):  # a variable without dimensions, which NumPy stores as a number
                self.tensors[f"{prefix}{pair[0]}."] = make_scalar_ref(pair[1])
        for name, component in _items(state.get("components")):
            inner = _state_of(component) if isinstance(component, Record) else {}
            if "variables" in inner:
                self._enter(component, depth + 1)
                self._visit_tensorflow(component, inner, f"{prefix}{name}/", depth + 1)
                self.open.discard(id(component))
        kept = {key: state[key] for key in ("name", "version", "static_kwargs") if key in state}
        return {"class_name": str(record.cls)} | (self.plain(kept, depth + 1) or {})

    def plain(self, value: Any, depth: int) -> Any:
        """`value`, a dict, list or other, without the tensors and objects in it."""
        plain = self._plain(value, depth)
        return None if plain is _LEFT_OUT else plain

    def _plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, (set, frozenset)):
            value = sorted(item for item in value if isinstance(item, str))
        if not isinstance(value, (dict, list, tuple)):
            return _plain_leaf(value)
        self._enter(value, depth)
        if isinstance(value, dict):
            rest = {_key_name(key): self._plain(item, depth + 1) for key, item in value.items()}
            plain: Any = {key: item for key, item in rest.items() if item is not _LEFT_OUT}
        else:
            plain = [self.plain(item, depth + 1) for item in value]
        self.open.discard(id(value))
        return plain


def _state_of(record: Record) -> dict[str, Any]:
    """A record's attributes; what a class with slots keeps beside them is added."""
    parts = record.state if isinstance(record.state, tuple) else (record.state,)
    state: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, dict):
            state.update(part)
    return state


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _key_name(key: Any) -> str:
    return "none" if isinstance(key, (Record, tuple)) else str(key)


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else _LEFT_OUT
    return value if isinstance(value, (int, float, bool, type(None))) else _LEFT_OUT
