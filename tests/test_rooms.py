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


def imports(file: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_downwards(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        ours = imports(file) & set(MAY_IMPORT) - {room}
        assert ours <= MAY_IMPORT[room], f"{file.relative_to(ROOT)} imports {', '.join(sorted(ours - MAY_IMPORT[room]))}"


def test_only_flows_knows_prefect() -> None:
    for room in set(MAY_IMPORT) - {"flows"}:
        for file in (ROOT / room).rglob("*.py"):
            assert not any(name.startswith("prefect") for name in imports(file)), file.relative_to(ROOT)


def test_nothing_unpickles_a_file() -> None:
    between_our_own_processes = ROOT / "pipelines" / "workers.py"
    for room in MAY_IMPORT:
        for file in set((ROOT / room).rglob("*.py")) - {between_our_own_processes}:
            text = file.read_text(encoding="utf-8")
            assert "pickle.load" not in text, file.relative_to(ROOT)
            assert "torch.load(" not in text or "weights_only=True" in text, file.relative_to(ROOT)


def test_generators_and_the_detector_import_without_prefect_lance_and_insightface() -> None:
    code = (
        "import sys\n"
        "for name in ('prefect', 'lance', 'insightface', 'pyarrow', 'typer'): sys.modules[name] = None\n"
        "from generators import registry\n"
        "[registry.get(name) for name in registry.names()]\n"
        "import ntf_model.ntf, ntf_model.compare, ntf_model.ablation\n"
        "from ntf_model.detector import detector_names, get_detector\n"
        "[get_detector(name) for name in detector_names()]\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=280)
