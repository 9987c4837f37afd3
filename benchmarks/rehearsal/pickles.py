"""Files of the forms in which generators are released, written without the code that wrote the real ones.

A class of any module and name can be pickled as long as the module is there, so it is put there for as long as that takes.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

Tensors = Mapping[str, torch.Tensor]
NVIDIA_PROTOCOL = 3
SOURCE = "raise RuntimeError('the source inside a checkpoint was run')\n"


@contextlib.contextmanager
def classes_of(module: str, *names: str, build: Callable[[str], Any] | None = None) -> Iterator[dict[str, Any]]:
    """Classes (or what `build` gives for a name) that can be pickled as `module.NAME` inside the block. Nothing is left behind."""
    parts = module.split(".")
    paths = [".".join(parts[: index + 1]) for index in range(len(parts))]
    before = {path: sys.modules.get(path) for path in paths}
    classes: dict[str, Any] = {}
    try:
        for path in paths:
            if before[path] is None:
                sys.modules[path] = types.ModuleType(path)
        for name in names:
            classes[name] = build(name) if build else type(name, (), {})
            classes[name].__module__, classes[name].__qualname__ = module, name
            setattr(sys.modules[module], name, classes[name])
        yield classes
    finally:
        for path, old in before.items():
            if old is None:
                sys.modules.pop(path, None)


def module_state(tensors: Tensors, wrap: Callable[[str, dict[str, Any]], Any], buffers: frozenset[str], path: str = "") -> dict[str, Any]:
    """The `__dict__` of a module tree that holds `tensors`; `wrap(path, state)` makes each module below the top, and a tensor whose last
    name is in `buffers`, or which is not of floats, is a buffer."""
    own = {name: value for name, value in tensors.items() if "." not in name}
    children = dict.fromkeys(name.partition(".")[0] for name in tensors if "." in name)
    modules = {}
    for child in children:
        below = {name.removeprefix(f"{child}."): value for name, value in tensors.items() if name.startswith(f"{child}.")}
        where = f"{path}.{child}" if path else child
        modules[child] = wrap(where, module_state(below, wrap, buffers, where))
    is_buffer = {name: name in buffers or not value.is_floating_point() for name, value in own.items()}
    parameters = {name: torch.nn.Parameter(value, requires_grad=False) for name, value in own.items() if not is_buffer[name]}
    return {
        "training": False,
        "_parameters": parameters,
        "_buffers": {name: value for name, value in own.items() if is_buffer[name]},
        "_non_persistent_buffers_set": set(),
        "_modules": modules,
    }


BUFFERS = frozenset({"running_mean", "running_var", "noise_const", "resample_filter", "w_avg", "weight_u", "weight_v"})


def write_nvidia_pickle(path: Path, networks: Mapping[str, tuple[str, Tensors, dict[str, Any]]]) -> None:
    """A pickle as NVIDIA's persistence writes it: `networks` by key ("G_ema") as class name, state dict and constructor arguments."""

    def function(name: str) -> Callable[..., Any]:
        return lambda meta: meta

    with classes_of("torch_utils.persistence", "_reconstruct_persistent_obj", build=function) as classes:

        class Persistent:
            def __init__(self, class_name: str, state: dict[str, Any]):
                self.meta = {"type": "class", "version": 6, "module_src": SOURCE * 600, "class_name": class_name, "state": state}

            def __reduce__(self) -> Any:
                return classes["_reconstruct_persistent_obj"], (self.meta,)

        stored: dict[str, Any] = {"training_set_kwargs": {"use_labels": False}, "augment_pipe": None}
        for key, (class_name, tensors, arguments) in networks.items():
            state = module_state(tensors, lambda _, inner: Persistent("Layer", inner), BUFFERS)
            stored[key] = Persistent(class_name, state | {"_init_args": (), "_init_kwargs": arguments})
        with path.open("wb") as out:
            pickle.dump(stored, out, protocol=NVIDIA_PROTOCOL)


def write_module_pickle(path: Path, module: str, networks: Mapping[str, tuple[str, Tensors, dict[str, Any]]]) -> None:
    """A pickle of ordinary modules, as ProjectedGAN's: instances of classes of `module`, `networks` by key as for NVIDIA's."""
    with classes_of(module, "Layer", *{name for name, _, _ in networks.values()}) as classes:
        stored = {}
        for key, (class_name, tensors, attributes) in networks.items():
            state = module_state(tensors, lambda _, inner: instance(classes["Layer"], inner), BUFFERS)
            stored[key] = instance(classes[class_name], attributes | state)
        with path.open("wb") as out:
            pickle.dump(stored | {"training_set_kwargs": {}, "progress": {"cur_nimg": 1}}, out, protocol=4)


def write_tensorflow_pickle(path: Path, module: str, network: Callable[[Callable[..., Any]], Any]) -> None:
    """(G, D, Gs) of `module.Network`. `network` gets what makes a stored network of its name, arguments, variables and components."""
    with classes_of(module, "Network") as classes:

        def stored(name: str, arguments: dict[str, Any], variables: list[tuple[str, np.ndarray]], **components: Any) -> Any:
            state = {"version": 4, "name": name, "static_kwargs": arguments, "variables": variables, "components": components}
            return instance(classes["Network"], state | {"build_module_src": SOURCE * 600, "build_func_name": "G_main"})

        empty = [stored(name, {}, []) for name in "GD"]
        with path.open("wb") as out:
            pickle.dump((*empty, network(stored)), out, protocol=4)


def write_torch_module(path: Path, module: str, class_name: str, tensors: Tensors, inside: Callable[[Any], Any]) -> None:
    """A torch zip with a whole module of the class `module.class_name`; `inside` puts it into what is saved."""
    with classes_of(module, class_name, "Layer") as classes:
        state = module_state(tensors, lambda _, inner: instance(classes["Layer"], inner), BUFFERS)
        torch.save(inside(instance(classes[class_name], state)), path)


def instance(cls: Any, state: dict[str, Any]) -> Any:
    """An instance of `cls` with these attributes."""
    value = cls()
    value.__dict__.update(state)
    return value
