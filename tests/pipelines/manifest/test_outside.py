"""A manifest of a stranger names nothing outside its folder unless whoever runs it allows that."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.data import find_manifest
from generators.errors import InputError
from pipelines.manifest.load import load_manifest
from pipelines.manifest.outside import VARIABLE

MANIFEST = """dataset: d
size: 32
checkpoints: {{mine: {{file: {file}, licence: CC0}}}}
reals:
  r: {{path: {path}, licence: CC0, identities: {identities}, exclude: {exclude}}}
subsets:
  A: {{count: 2, real: r, chain: [{{prompt: stable_diffusion, checkpoint: stable-diffusion-demo-32, prompts: {prompts}}}]}}
  B: {{count: 2, real: r, chain: [
    {{inpaint: stable_diffusion, checkpoint: stable-diffusion-demo-32, target: r, mask: {{folder: {folder}}}}}]}}
"""
INSIDE = {"file": "m.pt", "path": "photos", "identities": "i.csv", "exclude": "x.txt", "prompts": "p.txt", "folder": "masks"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE)
    (tmp_path / "mine" / "photos").mkdir(parents=True)
    return tmp_path / "mine"


def written(place: Path, /, **changes: str) -> Path:
    (place / "m.yaml").write_text(MANIFEST.format(**{**INSIDE, **changes}))
    return place / "m.yaml"


def test_files_in_its_folder_are_allowed(folder: Path) -> None:
    assert load_manifest(written(folder)).reals["r"].path == folder / "photos"


@pytest.mark.parametrize("key", list(INSIDE))
@pytest.mark.parametrize("path", ["/etc/passwd", "../other", "photos/../../other", "link/other"])
def test_every_way_out_is_refused_with_line_and_key(folder: Path, key: str, path: str) -> None:
    (folder / "link").symlink_to(folder.parent)
    with pytest.raises(InputError, match=rf"m\.yaml, line \d+: .*{key} leads out of the manifest's folder") as caught:
        load_manifest(written(folder, **{key: path}))
    assert "--allow-outside" in caught.value.fix


def test_what_is_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = written(folder, path="../other")
    monkeypatch.setenv(VARIABLE, f"/elsewhere:{folder.parent / 'other'}")
    assert load_manifest(manifest).reals["r"].path == folder.parent / "other"
    monkeypatch.setenv(VARIABLE, "/elsewhere")
    with pytest.raises(InputError):
        load_manifest(manifest)
    monkeypatch.setenv(VARIABLE, "1")
    assert load_manifest(manifest)


def test_the_manifests_that_ship_name_what_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    assert load_manifest(find_manifest("paper"))


def test_a_deployment_takes_manifests_from_one_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.data._is_deployed", lambda: True)
    monkeypatch.setenv("NTF_MANIFESTS", str(folder))
    manifest = written(folder)
    assert find_manifest("m") == find_manifest("m.yaml") == find_manifest(manifest) == manifest
    assert find_manifest("demo").name == "demo.yaml"
    (folder.parent / "other.yaml").write_text("")
    for name in ("../other", "../other.yaml", str(folder.parent / "other.yaml"), "/etc/passwd", "checkpoints", "a\0b"):
        with pytest.raises(InputError, match="there is no manifest"):
            find_manifest(name)
