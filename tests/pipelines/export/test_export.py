"""Exports read back equal, by the libraries that others read them with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from ntf_model.data.data import from_folders
from pipelines.build.build import run_build
from pipelines.export import FORMS, Export, export
from pipelines.export.export import Form
from pipelines.export.licences import forbids
from pipelines.export.provenance import NAMESPACE
from pipelines.images import decode
from pipelines.store import Row, Store
from tests.pipelines.store.fakes import fake_dataset, planned


@pytest.fixture
def rows(store: Store) -> dict[str, Row]:
    return {row.id: row for row in store.rows("role IN ('final', 'real')", images=True)}


def exported(store: Store, output: Path, form: Form, **options: Any) -> list[dict[str, Any]]:
    """The index of an export."""
    done = export(store, output, Export(form, **options))
    index = [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]
    assert len(index) == done.images
    return index


def test_folders(store: Store, rows: dict[str, Row], tmp_path: Path) -> None:
    index = exported(store, tmp_path / "out", "folders")
    assert {entry["id"] for entry in index} == set(rows)
    for entry in index:
        assert (tmp_path / "out" / entry["file"]).read_bytes() == rows[entry["id"]].image
        assert entry["chain"] == rows[entry["id"]].chain
    splits = from_folders(tmp_path / "out")  # as our own detectors read them
    assert set(splits.test.fake_subsets) == {row.subset for row in rows.values() if row.label and row.split == "test"}
    exported(store, tmp_path / "one", "folders", split="train", where="subset <> 'Swapped'")
    assert sorted(path.name for path in (tmp_path / "one").iterdir() if path.is_dir()) == ["Chained", "Sampled"]
    assert {path.name for path in (tmp_path / "one" / "Chained").iterdir()} == {"real", "fake", "mask"}


def test_webdataset(store: Store, rows: dict[str, Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDS_SECURE", "1")
    webdataset = pytest.importorskip("webdataset")
    exported(store, tmp_path / "out", "webdataset")
    archives = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    samples = list(webdataset.WebDataset(archives, shardshuffle=False, empty_check=False))
    assert {json.loads(sample["json"])["id"] for sample in samples} == set(rows)
    for sample in samples:
        row = rows[json.loads(sample["json"])["id"]]
        assert sample["png"] == row.image and int(sample["cls"]) == row.label and sample["__key__"].startswith(row.split)


@pytest.mark.parametrize("form", ["parquet", "imagefolder"])
def test_hugging_face(store: Store, rows: dict[str, Row], tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    exported(store, tmp_path / "out", form)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation", "test"}
    assert {name for split in loaded.values() for name in split["id"]} == set(rows)
    for split, items in loaded.items():
        for item in items:
            row = rows[item["id"]]
            assert row.image and np.array_equal(np.asarray(item["image"]), decode(row.image, row.id))
            assert (item["label"], item["split"], json.loads(item["chain"])) == (row.label, split, row.chain)


def test_lance(store: Store, rows: dict[str, Row], tmp_path: Path) -> None:
    exported(store, tmp_path / "out", "lance")
    copy = Store(tmp_path / "out", "fake")
    assert {row.id: row for row in copy.rows(images=True)} == rows


@pytest.mark.parametrize("form", FORMS)
def test_croissant_is_valid_and_reads_the_rows(store: Store, rows: dict[str, Row], tmp_path: Path, form: Form) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    exported(store, tmp_path / "out", form)
    described = mlcroissant.Dataset(jsonld=tmp_path / "out" / "croissant.json")
    assert not described.metadata.ctx.issues.errors and not described.metadata.ctx.issues.warnings
    assert described.metadata.personal_sensitive_information and described.metadata.data_biases and described.metadata.data_limitations
    records = {record["rows/id"].decode(): record for record in described.records("rows")}
    assert set(records) == set(rows)
    assert all(records[name]["rows/label"] == row.label for name, row in rows.items())


@pytest.mark.slow
def test_mlcroissant_validates(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "out", "parquet")
    command = [str(Path(sys.executable).parent / "mlcroissant"), "validate", "--jsonld", str(tmp_path / "out" / "croissant.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Done" in done.stdout + done.stderr, done.stderr


def test_the_datasheet_has_every_subset_licence_and_rejection(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "out", "folders")
    text = (tmp_path / "out" / "DATASHEET.md").read_text()
    for fact in ("Sampled", "Swapped", "Chained", "people", "checkpoint swapper | CC0", store.digest(), "ntf store forget"):
        assert fact in text


def test_provenance_is_in_the_file_on_request_and_the_pixels_stay(store: Store, rows: dict[str, Row], tmp_path: Path) -> None:
    expected = {"people": "digitalCapture", "Sampled": "trainedAlgorithmicMedia", "Chained": "compositeWithTrainedAlgorithmicMedia"}
    for entry in exported(store, tmp_path / "out", "folders", provenance=True):
        row = rows[entry["id"]]
        with Image.open(tmp_path / "out" / entry["file"]) as opened:
            packet = opened.info["xmp"].decode() if isinstance(opened.info["xmp"], bytes) else opened.info["xmp"]
            assert np.array_equal(np.asarray(opened), decode(row.image or b"", row.id))
        if row.subset in expected:
            assert f"digitalsourcetype/{expected[row.subset]}<" in packet
        assert NAMESPACE in packet and row.id in packet
    for path in exported(store, tmp_path / "plain", "folders"):
        with Image.open(tmp_path / "plain" / path["file"]) as opened:
            assert "xmp" not in opened.info


def test_what_licences_forbid_is_refused(store: Store, tmp_path: Path) -> None:
    assert forbids("FFHQ, CC-BY-NC-SA-4.0", "commercial") and not forbids("FFHQ, CC-BY-NC-SA-4.0", "research")
    assert forbids("LAION, single images as their pages state", "research") and not forbids("unknown", "private")
    assert not forbids("CC0", "commercial") and not forbids("Apache-2.0", "commercial") and forbids("CC-BY-ND-4.0", "research")
    export(store, tmp_path / "free", Export("folders", use="commercial"))
    fake = fake_dataset(tmp_path / "strict")
    fake.write_text(fake.read_text().replace('"licence": "CC0", "resolution"', '"licence": "no redistribution", "resolution"'))
    text = fake.read_text().replace('"licence": "CC0"', '"licence": "no redistribution"')
    fake.write_text(text)
    strict = Store(tmp_path / "strict-store", "fake")
    run_build(planned(fake), strict, "cpu")
    with pytest.raises(InputError, match=r"no redistribution.*does not allow research use"):
        export(strict, tmp_path / "refused", Export("folders"))
    assert not (tmp_path / "refused").exists()
    export(strict, tmp_path / "kept", Export("folders", use="private"))


def test_an_export_is_whole_or_not_there(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.export.datasheet.render", fail)
    for form in get_args(Form):
        with pytest.raises(InputError, match="No space left"):
            export(store, tmp_path / "out", Export(form))
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(InputError, match="is there already"):
        export(store, tmp_path / "mine", Export("folders"))
    with pytest.raises(InputError, match="has no images"):
        export(store, tmp_path / "none", Export("folders", where="subset = 'no'"))
