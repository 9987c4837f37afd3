"""Encoders from the user's own code, by the name of the function that builds them."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from torch import nn

from ntf_model.errors import InputError
from ntf_model.own_code import allow


def build_own(name: str) -> nn.Module:
    """Calls the function `name` (`package.module:function`), which takes no arguments and gives a module with the attribute `dim`, the
    width of its embedding: its `forward` takes float `[N, 3, H, W]` and gives `[N, dim]`.

    The module is looked for among the installed packages first, and then in the folder where the command runs. Nothing is imported from
    the folder of a run, and no run is loaded that names a function which nobody has allowed (`ntf_model.own_code`); to build one by name
    allows it. Raises InputError if it is missing, fails, or gives something else.
    """
    allow(name)
    module_name, _, function_name = name.partition(":")
    module = _import(module_name, name)
    function = getattr(module, function_name, None)
    if not callable(function) or getattr(function, "__module__", module_name) != module.__name__:
        raise InputError(f"the encoder {name}: {module_name} defines no function {function_name!r}", "Check the name after the colon")
    try:
        network = function()
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"the encoder {name} cannot be built ({type(error).__name__}: {reason})", "Correct the function") from error
    if not isinstance(network, nn.Module) or not isinstance(getattr(network, "dim", None), int):
        raise InputError(f"the encoder {name} gives no torch module with a whole number `dim`", "Set `dim` to the width of its embedding")
    return network


def _import(module_name: str, name: str) -> Any:
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.append(here)  # last, so that no file of this folder hides an installed package
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"the encoder {name} cannot be imported ({error})",
            "Install its package, or run the command in the folder that holds the module",
        ) from error
    finally:
        if added:
            sys.path.remove(here)
