"""Imports run down the list of rooms and never back up, and what must travel light imports light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "manifests": set(),
    "generators": set(),
    "ntf_model": set(),
    "pipelines": {"generators"},
    "flows": {"generators", "pipelines", "ntf_model", "manifests"},
}


def imports(text: str, package: tuple[str, ...]) -> set[str]:
    """The top-level packages that a module of `package` imports, wherever in it: inside functions, relatively, and by name."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {above[0] if above else name.split(".")[0] for name in names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__"):
            found |= {part.value.split(".")[0] for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return found


def imports_of(file: Path) -> set[str]:
    return imports(file.read_text(encoding="utf-8"), file.relative_to(ROOT).parent.parts)


def modules(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"the room {room} has no modules: was it moved?"
    return found


def test_every_package_is_a_room() -> None:
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_downwards(room: str) -> None:
    for file in modules(room):
        ours = imports_of(file) & ({*MAY_IMPORT, "tests", "benchmarks"} - {room})
        assert ours <= MAY_IMPORT[room], f"{file.relative_to(ROOT)} imports {', '.join(sorted(ours - MAY_IMPORT[room]))}"


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
