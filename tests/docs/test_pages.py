"""What pages point at exists: links, files, Python names; what they show as YAML is right, and what they show as Python can be imported."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from flows.data import detector_settings
from pipelines.catalogue.catalogue import CheckpointEntry
from pipelines.catalogue.registering import Registration
from pipelines.manifest.load import load_manifest
from pipelines.manifest.schema import Manifest
from tests.docs.examples import loaded
from tests.docs.markdown import PAGES, ROOT, Block, blocks, links, names
from tests.support import write_manifest

FOLDERS = ("manifests", "foreign", "generators", "pipelines", "ntf_model", "flows", "tests", "benchmarks", "docs", "deploy", ".ci")
# Names that stand for something: a file that the reader will write, or any of many.
STANDS_FOR = {
    "generators/methods/NAME.py",
    "ntf_model/baselines/NAME.py",
    "generators/methods/consistency.py",
    "ntf_model/baselines/spectrum.py",
    "generators/training/FAMILY/NAME.py",
    "deploy/.env",
}
WRITTEN = ("DATASHEET", "README", "comparison", "results", "my-")  # what commands write, and what is the reader's own
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{page.name}: there is no {target}"
        assert found.is_relative_to(ROOT), f"{page.name}: {target} is outside of the repository"
        if anchor:
            assert anchor in _anchors(found), f"{page.name}: {file or page.name} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_files_and_names_in_backticks_exist(page: Path) -> None:
    for name in names(page):
        if name in STANDS_FOR or " " in name:
            continue
        if name.split("/")[0] in FOLDERS and "/" in name:
            assert list(ROOT.glob(name.rstrip("/"))), f"{page.name}: there is no {name}"
        elif re.fullmatch(r"[\w.-]+\.(md|toml|ini)", name) and not name.startswith(WRITTEN):
            assert (ROOT / name).exists() or (page.parent / name).exists(), f"{page.name}: there is no {name}"
        elif re.match(rf"({'|'.join(FOLDERS[:5])})\.\w", name):
            _resolve(name.split("(")[0], page.name)


def yaml_blocks() -> list[Any]:
    return [pytest.param(block, id=block.place) for page in PAGES for block in blocks(page) if block.language in ("yaml", "yml")]


@pytest.mark.parametrize("block", yaml_blocks())
def test_yaml_is_right(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("consistency.py", "generators.methods.consistency", monkeypatch)
    _check_yaml(block.text, tmp_path)


@pytest.mark.parametrize("text", ["sizes: 256", "faces: {detectr: cascade}", "X: {count: 3, real: r, chain: [{sample: stylegam2}]}"])
def test_wrong_yaml_is_found(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        _check_yaml(text, tmp_path)


def python_blocks() -> list[Any]:
    return [pytest.param(block, id=block.place) for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("block", python_blocks())
def test_python_parses_and_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            if node.module.split(".")[0] == "prefect_ray":
                continue  # an extra
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or _is_module(f"{node.module}.{alias.name}"), f"{block.place}: {alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


def test_every_page_of_docs_is_in_the_index() -> None:
    index = set(links(ROOT / "docs" / "README.md"))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


def test_the_page_on_manifests_names_every_key() -> None:
    page = (ROOT / "docs" / "manifests.md").read_text(encoding="utf-8")
    models = {Manifest, CheckpointEntry}
    while more := {inner for model in models for field in model.model_fields.values() for inner in _models_in(field.annotation)} - models:
        models |= more
    keys = {key for model in models for key in model.model_fields} - {
        *("kind", "generator", "parameters"),  # how a step is kept, not written
        *("origin", "inherited"),  # what `from:` comes to
    }
    missing = {key for key in keys if not re.search(rf"\b{key}\b", page)}
    assert not missing, f"docs/manifests.md does not name {', '.join(sorted(missing))}"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _check_yaml(text: str, folder: Path) -> None:
    """Loads a whole manifest; puts a part of one where it belongs in another; or reads it as the note of a checkpoint."""
    data = yaml.safe_load(text)
    assert isinstance(data, Mapping)
    if {"name", "generator"} <= set(data):
        Registration.model_validate(data)
        return
    whole = data if "dataset" in data else _with(data)
    checkpoints = {**_checkpoints_named_in(whole), **whole.get("checkpoints", {})}
    manifest = load_manifest(
        write_manifest(folder / "manifest.yaml", yaml.safe_load(yaml.safe_dump({**whole, "checkpoints": checkpoints})))
    )
    assert detector_settings(manifest)


def _with(part: Mapping[str, Any]) -> dict[str, Any]:
    """A small manifest with this part in it: a section, several, subsets, or checkpoints."""
    base: dict[str, Any] = {
        "dataset": "docs",
        "size": 64,
        "reals": {},
        "subsets": {"LDM": {"count": 1, "real": "celebahq", "chain": [{"sample": "ldm", "checkpoint": "ldm-celebahq-256"}]}},
    }
    if set(part) <= set(Manifest.model_fields):
        base.update(part)
    elif all(isinstance(value, Mapping) and ("chain" in value or "parts" in value) for value in part.values()):
        base["subsets"] = dict(part)
    else:
        base["checkpoints"] = {name: CheckpointEntry.model_validate(value).model_dump() for name, value in part.items()}
    named = {name for name in _words(base["subsets"]) if name in ("celebahq", "ffhq", "lsun", "people", "faces", "photos")}
    base["reals"] = {**{name: {"path": name, "licence": "test"} for name in named}, **base["reals"]}
    return base


def _checkpoints_named_in(data: Mapping[str, Any]) -> dict[str, Any]:
    """Entries for the checkpoints that a reader has registered: those with `my-` before their names."""
    return {name: {"file": name, "licence": "test"} for name in _words(data) if name.startswith("my-")}


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words(inner)
    elif isinstance(value, str):
        yield value


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _resolve(name: str, page: str) -> None:
    """A dotted name: a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if _is_module(".".join(parts[:length])):
            found: Any = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                assert hasattr(found, part), f"{page}: there is no {name}"
                found = getattr(found, part)
            return
    raise AssertionError(f"{page}: there is no {name}")


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True
