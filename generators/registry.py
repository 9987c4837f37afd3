"""Generators by name. The file `generators/methods/NAME.py` holds the generator NAME; nothing else has to be told of it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from generators import methods
from generators.base import Generator
from generators.errors import InputError

_registered: dict[str, type[Generator]] = {}


def register(name: str) -> Callable[[type[Generator]], type[Generator]]:
    """Class decorator: makes the class known as `name`, which is also the name of its file."""

    def remember(cls: type[Generator]) -> type[Generator]:
        cls.name = name
        _registered[name] = cls
        return cls

    return remember


def names() -> list[str]:
    """All generators, in alphabetical order, without importing them."""
    return sorted({module.name for module in pkgutil.iter_modules(methods.__path__)} | set(_registered))


def get(name: str) -> type[Generator]:
    """The class of a generator. Raises InputError with the known names if there is none."""
    if name not in _registered:
        if name not in names():
            raise InputError(f"there is no generator {name!r}", f"Known: {', '.join(names())}")
        importlib.import_module(f"generators.methods.{name}")
    return _registered[name]
