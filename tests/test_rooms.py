"""Imports run down the list of rooms, never back up and in no circle. CONTRIBUTING.md draws them as they are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "manifests": set(),
    "foreign": set(),
    "generators": {"foreign"},
    "ntf_model": {"foreign"},
    "pipelines": {"foreign", "generators"},
    "flows": {"foreign", "generators", "pipelines", "ntf_model", "manifests"},
}


def imports(text: str, package: tuple[str, ...]) -> set[str]:
    """The top-level packages that a module of `package` imports, wherever in it: inside functions, relatively, and by name."""
    packages = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            names = [node.module] if node.module else [alias.name for alias in node.names]
            packages |= {above[0] if above else name.split(".")[0] for name in names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__"):
            packages |= {
                part.value.split(".")[0] for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return packages


def imports_of(file: Path) -> set[str]:
    return imports(file.read_text(encoding="utf-8"), file.relative_to(ROOT).parent.parts)


def modules(room: str) -> list[Path]:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"the room {room} has no modules: was it moved?"
    return files


def module_name(file: Path) -> str:
    """`pipelines/plan/keys.py` is `pipelines.plan.keys`; `pipelines/plan/__init__.py` is `pipelines.plan`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_imported(text: str, known: Collection[str]) -> set[str]:
    """The modules among `known` that a module imports, wherever in it. `from a.b import c` imports `a.b.c` if that is a module."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else node.module for name in inner}
    return names & set(known)


@cache
def import_graph() -> dict[str, set[str]]:
    """Every module of the rooms and the benchmarks, with the modules that it imports."""
    files = {module_name(file): file for room in (*MAY_IMPORT, "benchmarks") for file in modules(room)}
    return {name: modules_imported(file.read_text(encoding="utf-8"), files.keys()) - {name} for name, file in files.items()}


def sub_room(name: str) -> str:
    """The sub-folder of a module: `pipelines.report` for `pipelines.report.sections.ledger`; empty for a file directly in its room."""
    folder = name.split(".")[:2]
    return ".".join(folder) if (ROOT / "/".join(folder)).is_dir() and len(folder) == 2 else ""


def arrows() -> dict[str, set[str]]:
    """For every sub-folder of a room, the other sub-folders of that room that it imports."""
    drawn: dict[str, set[str]] = {}
    for name, targets in import_graph().items():
        own, room = sub_room(name), name.split(".")[0]
        if own:
            others = {sub_room(target) for target in targets if target.split(".")[0] == room} - {own, ""}
            drawn.setdefault(own, set()).update(other.split(".")[1] for other in others)
    return {origin: targets for origin, targets in drawn.items() if targets}


def test_every_package_is_a_room() -> None:
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_downwards(room: str) -> None:
    for file in modules(room):
        ours = imports_of(file) & ({*MAY_IMPORT, "tests", "benchmarks"} - {room})
        assert ours <= MAY_IMPORT[room], f"{file.relative_to(ROOT)} imports {', '.join(sorted(ours - MAY_IMPORT[room]))}"


def test_no_file_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(f"these files import each other: {' <- '.join(error.args[1])}")


def test_only_tests_import_tests() -> None:
    outside = [file for file in ROOT.rglob("*.py") if file.relative_to(ROOT).parts[0] not in ("tests", ".venv", "build")]
    assert any(file.name == "conftest.py" or "examples" in file.parts for file in outside), "docs/examples are looked at too"
    wrong = [str(file.relative_to(ROOT)) for file in outside if "tests" in imports_of(file)]
    assert not wrong, f"{', '.join(wrong)} cannot run without the tests"


def test_contributing_draws_the_imports_as_they_are() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = re.findall(r"^([a-z_.]+) +-> +([a-z_., ]+)$", page, re.MULTILINE)
    drawn = {origin: set(targets.split(", ")) for origin, targets in lines}
    real = arrows()
    wrong = [f"{origin} -> {', '.join(sorted(real[origin]))}" for origin in real if drawn.get(origin) != real[origin]]
    wrong += [f"(no line for {origin})" for origin in drawn.keys() - real.keys()]
    assert not wrong, "CONTRIBUTING.md should say:\n" + "\n".join(wrong)


def test_a_module_is_seen_in_every_way_to_import_it() -> None:
    known = {"a", "a.b", "a.b.c"}
    assert modules_imported("import a.b.c", known) == {"a.b.c"}
    assert modules_imported("def late():\n    from a.b import c, d", known) == {"a.b.c", "a.b"}
    assert modules_imported("if TYPE_CHECKING:\n    from a import b", known) == {"a.b"}
    assert modules_imported("import typing, numpy", known) == set()


def test_only_flows_knows_prefect() -> None:
    for room in set(MAY_IMPORT) - {"flows"}:
        for file in modules(room):
            assert not any(name.startswith("prefect") for name in imports_of(file)), file.relative_to(ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "import flows.data",
        "import flows as f",
        "from flows import data",
        "def late():\n    from flows.data import report",
        "if TYPE_CHECKING:\n    import flows",
        "from ... import flows",
        "from ...flows import data",
        "importlib.import_module('flows.data')",
        "import_module(f'flows.{name}')",
    ],
)
def test_every_way_to_import_is_seen(text: str) -> None:
    assert "flows" in imports(text, ("pipelines", "store"))


def test_what_stays_in_its_room_is_no_import_of_another() -> None:
    assert imports("from . import flows\nfrom .flows import x\nfrom .. import flows", ("pipelines", "store")) == {"pipelines"}


def test_nothing_unpickles_a_file() -> None:
    between_our_own_processes = ROOT / "pipelines" / "build" / "workers.py"
    for room in MAY_IMPORT:
        for file in set(modules(room)) - {between_our_own_processes}:
            text = file.read_text(encoding="utf-8")
            assert "pickle.load" not in text, file.relative_to(ROOT)
            assert "torch.load(" not in text or "weights_only=True" in text, file.relative_to(ROOT)


def test_generators_and_the_detector_import_without_prefect_lance_and_insightface() -> None:
    code = (
        "import sys\n"
        "for name in ('prefect', 'lance', 'insightface', 'pyarrow', 'typer'): sys.modules[name] = None\n"
        "from generators import registry\n"
        "[registry.get(name) for name in registry.names()]\n"
        "import ntf_model.ntf.ntf, ntf_model.comparing.compare, ntf_model.ntf.ablation\n"
        "from ntf_model.registry import detector_names, get_detector\n"
        "[get_detector(name) for name in detector_names()]\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=280)
