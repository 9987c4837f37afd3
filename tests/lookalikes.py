"""Files of the forms in which generators are released, made without the code that made the real ones.

A class of any module and name can be pickled as long as the module is there, so it is put there for as long as that takes.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch


@contextlib.contextmanager
def stand_in(module: str, *names: str, made: Callable[[str], Any] | None = None) -> Iterator[dict[str, Any]]:
    """Classes (or what `made` gives for a name) that can be pickled as `module.NAME` inside the block. Nothing is left behind."""
    parts = module.split(".")
    paths = [".".join(parts[: index + 1]) for index in range(len(parts))]
    before = {path: sys.modules.get(path) for path in paths}
    found: dict[str, Any] = {}
    try:
        for path in paths:
            sys.modules[path] = types.ModuleType(path)
        for name in names:
            found[name] = made(name) if made else type(name, (), {})
            found[name].__module__, found[name].__qualname__ = module, name
            setattr(sys.modules[module], name, found[name])
        yield found
    finally:
        for path, old in before.items():
            if old is None:
                sys.modules.pop(path, None)
            else:
                sys.modules[path] = old


def module_state(tensors: dict[str, torch.Tensor], wrap: Callable[[str, dict[str, Any]], Any], path: str = "") -> dict[str, Any]:
    """The `__dict__` of a module tree that holds `tensors`; `wrap(path, state)` makes each module below the top."""
    own = {name: value for name, value in tensors.items() if "." not in name}
    children = dict.fromkeys(name.partition(".")[0] for name in tensors if "." in name)
    modules = {}
    for child in children:
        below = {name.removeprefix(f"{child}."): value for name, value in tensors.items() if name.startswith(f"{child}.")}
        where = f"{path}.{child}" if path else child
        modules[child] = wrap(where, module_state(below, wrap, where))
    parameters = {name: torch.nn.Parameter(value, requires_grad=False) for name, value in own.items() if value.is_floating_point()}
    buffers = {name: value for name, value in own.items() if name not in parameters}
    return {"training": False, "_parameters": parameters, "_buffers": buffers, "_non_persistent_buffers_set": set(), "_modules": modules}


def write_nvidia_pickle(path: Path, networks: dict[str, tuple[str, dict[str, torch.Tensor], dict[str, Any]]]) -> None:
    """A pickle as NVIDIA's persistence writes it: `networks` by key ("G_ema") as class name, state dict and constructor arguments."""

    def function(name: str) -> Callable[..., Any]:
        return lambda meta: meta

    with stand_in("torch_utils.persistence", "_reconstruct_persistent_obj", made=function) as found:

        class Persistent:
            def __init__(self, class_name: str, state: dict[str, Any]):
                source = "raise RuntimeError('the source inside a checkpoint was run')"
                self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}

            def __reduce__(self) -> Any:
                return found["_reconstruct_persistent_obj"], (self.meta,)

        made = {}
        for key, (class_name, tensors, kwargs) in networks.items():
            state = module_state(tensors, lambda _, inner: Persistent("Layer", inner))
            made[key] = Persistent(class_name, state | {"_init_args": (), "_init_kwargs": kwargs})
        path.write_bytes(pickle.dumps(made | {"training_set_kwargs": {"use_labels": False}}, protocol=3))
