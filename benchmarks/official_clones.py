"""How the authors' repositories are imported: from a clone of each, with modules in place of packages that are not needed."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

from torch import nn


def enter(folder: Path, name: str) -> Path:
    """Puts the clone `name` in front of the import path. Exits with the address to clone from if there is none."""
    if not (folder / name).is_dir():
        raise SystemExit(f"There is no {folder / name}. Clone https://github.com/{name.replace('+', '/')} there.")
    sys.path.insert(0, str(folder / name))
    return folder / name


def stand_in(name: str, **members: Any) -> types.ModuleType:
    """Makes `name` a module with `members`, for this process, even where the real one is installed: all runs then see the same."""
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    return module


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)
