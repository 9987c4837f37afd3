"""Exports read back equal, by the libraries that others read them with."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from generators.errors import InputError
from ntf_model.data.data import from_folders
from pipelines.build.build import run_build
from pipelines.export import FORMS, Export, export
from pipelines.export.export import Form
from pipelines.export.facts import require_covered
from pipelines.export.licences import forbids, unsupported
from pipelines.export.provenance import NAMESPACE, xmp
from pipelines.images import decode
from pipelines.manifest.publication import Publication
from pipelines.store import Row, Store
from tests.pipelines.store.fakes import fake_dataset, planned, write

STATED = Publication.model_validate(
    {
        "creators": [{"name": "A. Person"}],
        "url": "https://example.org/faces",
        "licence": "cc-by-nc-4.0",
        "responsible_ai": {"biases": "Young faces only."},
    }
)


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
        facts = json.loads(sample["json"])
        assert json.loads(facts["chain"]) == row.chain and json.loads(facts["measures"]) == row.measures


def test_chains_masks_and_nulls_are_all_there_when_datasets_reads_the_tars(store: Store, rows: dict[str, Row], tmp_path: Path) -> None:
    """`datasets` would take its features from the first samples, and drop or refuse what only later ones have: the card states them."""
    datasets = pytest.importorskip("datasets")
    exported(store, tmp_path / "out", "webdataset")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation", "test"}
    for items in loaded.values():
        for item in items:
            row = rows[item["json"]["id"]]
            assert json.loads(item["json"]["chain"]) == row.chain and item["json"]["seed"] == row.seed
            assert np.array_equal(np.asarray(item["png"]), decode(row.image or b"", row.id)) and item["cls"] == row.label
            assert (item["mask.png"] is None) == (row.mask is None)


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
    exported(store, tmp_path / "out", form, publication=STATED)
    described = mlcroissant.Dataset(jsonld=tmp_path / "out" / "croissant.json")
    assert not described.metadata.ctx.issues.errors and not described.metadata.ctx.issues.warnings
    assert described.metadata.ctx.is_v1_1()
    assert described.metadata.data_biases == ["Young faces only."] and described.metadata.creators[0].name == "A. Person"
    assert described.metadata.personal_sensitive_information is None  # nobody stated it
    records = {record["rows/id"].decode(): record for record in described.records("rows")}
    assert set(records) == set(rows)
    assert all(records[name]["rows/label"] == row.label for name, row in rows.items())


def test_croissant_invents_no_creator_address_or_statement(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "out", "folders")
    described = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert not {"creator", "url", "rai:dataBiases", "rai:dataSocialImpact", "prov:wasAttributedTo"} & set(described)
    assert "author" not in described["citeAs"]


def test_provenance_in_prov_has_every_checkpoint_real_source_and_step(store: Store, rows: dict[str, Row], tmp_path: Path) -> None:
    exported(store, tmp_path / "out", "parquet", publication=STATED)
    described = json.loads((tmp_path / "out" / "croissant.json").read_text())
    sources = {entity["@id"]: entity for entity in described["prov:wasDerivedFrom"]}
    used = {link["identity"]["sha256"] for row in rows.values() for link in row.chain}
    assert {entity["sha256"] for entity in sources.values() if "sha256" in entity} == used
    assert sources["real/people"]["license"] == "CC0" and len(sources) == len(used) + 1
    build, *steps = described["prov:wasGeneratedBy"]
    assert store.digest() in build["prov:label"]
    by_label = {step["prov:label"].partition(",")[0] + step["prov:label"].partition("step")[2][:2]: step for step in steps}
    assert set(by_label) == {"Sampled 1", "Swapped 1", "Chained 1", "Chained 2"}
    second = by_label["Chained 2"]
    assert second["prov:wasInformedBy"] == [{"@id": by_label["Chained 1"]["@id"]}]
    assert {"@id": "real/people"} in second["prov:used"] and all(use["@id"] in sources for step in steps for use in step["prov:used"])
    assert "8 images" in second["prov:label"]
    assert described["prov:wasAttributedTo"] == [{"@type": "prov:Agent", "prov:label": "A. Person"}]


@pytest.mark.parametrize(
    ("codec", "suffix", "kind"), [("png", "png", "image/png"), ("jpeg", "jpg", "image/jpeg"), ("webp", "webp", "image/webp")]
)
def test_croissant_says_the_codec(tmp_path: Path, codec: str, suffix: str, kind: str) -> None:
    manifest = fake_dataset(tmp_path / "data", count=2)
    data = json.loads(manifest.read_text())
    coded = Store(tmp_path / "store", "fake")
    run_build(planned(write(manifest, {**data, "codec": {"format": codec}})), coded, "cpu")
    for form in ("folders", "parquet"):
        exported(coded, tmp_path / form, form)  # type: ignore[arg-type]
        images = json.loads((tmp_path / form / "croissant.json").read_text())["distribution"][1]
        if form == "folders":
            assert (images["encodingFormat"], images["includes"]) == (kind, f"**/*.{suffix}")
            assert list((tmp_path / form).glob(images["includes"]))
        else:
            assert images["encodingFormat"] == "application/x-parquet" and codec.upper() in images["description"]


@pytest.mark.parametrize("form", FORMS)
def test_the_list_of_hashes_covers_every_file(store: Store, tmp_path: Path, form: Form) -> None:
    exported(store, tmp_path / "out", form)
    lines = [line.split("  ", 1) for line in (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()]
    files = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert {name for _, name in lines} == files - {"SHA256SUMS"}
    assert all(hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest for digest, name in lines)


def test_no_folder_gets_more_files_than_the_hub_takes(
    store: Store, rows: dict[str, Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("pipelines.export.layouts.FOLDER_FILES", 5)
    monkeypatch.setattr("pipelines.export.layouts.SHARD_IMAGES", 2)
    for form in ("parquet", "webdataset", "imagefolder"):
        exported(store, tmp_path / form, form)  # type: ignore[arg-type]
        folders = Counter(file.parent for file in (tmp_path / form).rglob("*") if file.suffix in (".parquet", ".tar", ".png"))
        assert max(folders.values()) <= 5 + 2, form  # each split may begin a file of its own
        loaded = datasets.load_dataset(str(tmp_path / form), cache_dir=str(tmp_path / "cache"))
        assert sum(len(split) for split in loaded.values()) == len(rows)
    assert len(list((tmp_path / "imagefolder" / "train").glob("0000*/*.png"))) > 5


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
    expected = {"Sampled": "trainedAlgorithmicMedia", "Chained": "compositeWithTrainedAlgorithmicMedia"}
    for entry in exported(store, tmp_path / "out", "folders", provenance=True):
        row = rows[entry["id"]]
        with Image.open(tmp_path / "out" / entry["file"]) as opened:
            packet = opened.info["xmp"].decode() if isinstance(opened.info["xmp"], bytes) else opened.info["xmp"]
            assert np.array_equal(np.asarray(opened), decode(row.image or b"", row.id))
        if row.subset in expected:
            assert f"digitalsourcetype/{expected[row.subset]}<" in packet
            systems = ", ".join(dict.fromkeys(link["generator"] for link in row.chain))
            assert f"<Iptc4xmpExt:AISystemUsed>{systems}</Iptc4xmpExt:AISystemUsed>" in packet
            assert all(link["identity"]["sha256"] in packet.partition("AISystemVersionUsed>")[2].partition("<")[0] for link in row.chain)
        else:
            assert row.label == 1 or ("digitalsourcetype" not in packet and "AISystem" not in packet)  # nobody stated what it is
        assert NAMESPACE in packet and row.id in packet
    for path in exported(store, tmp_path / "plain", "folders"):
        with Image.open(tmp_path / "plain" / path["file"]) as opened:
            assert "xmp" not in opened.info


def test_a_reals_source_type_is_said_where_the_manifest_states_it(tmp_path: Path) -> None:
    manifest = fake_dataset(tmp_path / "data", count=2)
    data = json.loads(manifest.read_text())
    data["reals"]["people"]["source_type"] = "negativeFilm"
    stated = Store(tmp_path / "store", "fake")
    run_build(planned(write(manifest, data)), stated, "cpu")
    for entry in exported(stated, tmp_path / "out", "folders", provenance=True):
        packet = (tmp_path / "out" / entry["file"]).read_bytes()
        assert (b"digitalsourcetype/negativeFilm" in packet) == (entry["label"] == 0)


def test_prompts_are_written_and_are_no_xml_of_their_own() -> None:
    link = {"generator": "text_to_image", "checkpoint": "sd", "identity": {"sha256": "ab"}, "parameters": {"prompt": "and <b>"}}
    row = {"id": "a", "label": 1, "subset": "S", "chain": [{**link, "prompt": "a cat & \x1b</x>"}, link]}
    packet = xmp(row, {}).decode()
    tree = ElementTree.fromstring(packet.partition("?>")[2].rpartition("<?xpacket")[0].strip())
    texts = {element.tag.partition("}")[2]: element.text for element in tree.iter()}
    assert texts["AIPromptInformation"] == "a cat & </x>\nand <b>" and texts["AISystemVersionUsed"] == "sd (sha256 ab)"


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_reads_the_fields(store: Store, tmp_path: Path) -> None:
    fake = next(entry for entry in exported(store, tmp_path / "out", "folders", provenance=True) if entry["subset"] == "Sampled")
    done = subprocess.run(
        ["exiftool", "-json", "-XMP:all", str(tmp_path / "out" / fake["file"])], capture_output=True, text=True, check=True
    )
    (fields,) = json.loads(done.stdout)
    assert "trainedAlgorithmicMedia" in fields["DigitalSourceType"] or "Trained Algorithmic" in fields["DigitalSourceType"]
    assert fields["AISystemUsed"] == "fake_sampler"


def test_a_licence_of_the_whole_allows_no_more_than_its_parts(store: Store, tmp_path: Path) -> None:
    parts = {"checkpoint a": "CC-BY-NC-4.0", "real source b": "CC0"}
    assert unsupported("cc-by-4.0", parts) == "checkpoint a" and unsupported("cc-by-nc-4.0", parts) is None
    assert unsupported("cc-by-nc-4.0", {"real source b": "unknown"}) == "real source b" and unsupported(None, parts) is None
    assert unsupported("cc0-1.0", {"a": "CC0"}) is None
    require_covered(STATED, parts)
    with pytest.raises(InputError, match=r"licence: cc-by-4.0.*allows more than that of checkpoint a"):
        require_covered(Publication(licence="cc-by-4.0"), parts)


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
