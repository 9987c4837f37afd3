"""The walks of CONTRIBUTING.md pass only functions that there are, and none twice."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

from tests.docs.markdown import ROOT


def walks() -> dict[str, list[str]]:
    """The functions of each walk, by its title, in order: the dotted name that each numbered line begins with."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.split("\n## Walks\n")[1].split("\n## ")[0]
    titled = re.split(r"^\*\*(.+)\*\*$", section, flags=re.MULTILINE)[1:]
    return {title: re.findall(r"^\d+\. `([\w.]+)`", text, re.MULTILINE) for title, text in zip(titled[::2], titled[1::2], strict=True)}


def named(dotted: str) -> Any:
    """What a dotted name names: a module's function or class, or a class's method. Fails if there is no such thing."""
    parts = dotted.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            assert hasattr(thing, part), f"there is no {dotted}"
            thing = getattr(thing, part)
        return thing
    raise AssertionError(f"there is no {dotted}")


@pytest.mark.parametrize("title", walks())
def test_a_walk_passes_functions_that_there_are_once(title: str) -> None:
    passed = walks()[title]
    assert len(passed) >= 8
    assert len(set(passed)) == len(passed), "a function is entered twice"
    for dotted in passed:
        thing = named(dotted)
        assert inspect.isroutine(thing) or inspect.isclass(thing), f"{dotted} is no function"
        module = inspect.getmodule(thing)
        assert module is not None
        assert dotted.startswith(f"{module.__name__}."), f"{dotted} is defined in {module.__name__}"


def test_there_are_three_walks() -> None:
    assert len(walks()) == 3


@pytest.mark.parametrize("dotted", ["pipelines.plan.plan.make_plam", "pipelines.plam.make_plan", "pipelines.plan.plan.Plan.keyz"])
def test_a_name_that_is_not_there_is_seen(dotted: str) -> None:
    with pytest.raises(AssertionError, match="there is no"):
        named(dotted)
