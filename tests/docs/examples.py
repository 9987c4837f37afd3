"""The worked examples of docs, as if they were copied to their rooms."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from generators import registry
from ntf_model import registry as detectors
from tests.docs.markdown import ROOT


def loaded(example: str, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as it would be in its room, until the test ends."""
    known = registry._registered if name.startswith("generators.") else detectors._registered
    monkeypatch.setitem(known, example.removesuffix(".py"), None)  # so that it is taken out again
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / example)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
