"""The card of a published dataset: what the Hub reads in its head, and what people read below."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard
from PIL import Image
from pydantic import ValidationError

from pipelines.export import Export, export
from pipelines.export.card import size_category
from pipelines.export.facts import Hours
from pipelines.manifest.publication import Publication
from pipelines.store import Store, Version
from tests.pipelines.export.test_export import STATED

BLOCK: dict[str, Any] = {
    "title": "Faces | two steps",
    "description": "What it is.",
    "creators": [{"name": "A Laboratory", "kind": "organisation"}, {"name": "B. Person"}],
    "contact": "https://example.org/takedown",
    "tags": ["faces"],
    "energy": {"kwh": 41.5, "measured": "power meter"},
}


def card(store: Store, folder: Path, publication: Publication) -> DatasetCard:
    export(store, folder, Export("parquet", publication=publication, repository="lab/faces"))
    return DatasetCard((folder / "README.md").read_text(encoding="utf-8"))


def test_the_head_has_what_the_hub_reads(store: Store, tmp_path: Path) -> None:
    data = card(store, tmp_path / "out", Publication.model_validate(BLOCK)).data.to_dict()
    assert data["pretty_name"] == "Faces | two steps" and data["size_categories"] == ["n<1K"]
    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "as-listed-for-each-part", "DATASHEET.md")
    assert data["task_categories"] == ["image-classification"] and "faces" in data["tags"]
    (config,) = data["configs"]
    assert [entry["split"] for entry in config["data_files"]] == ["train", "validation", "test"]
    for entry in config["data_files"]:
        assert list((tmp_path / "out").glob(entry["path"]))
    assert card(store, tmp_path / "known", STATED).data.license == "cc-by-nc-4.0"
    own = Publication(licence="Our terms 1.0", licence_url="https://example.org/terms")
    stated = card(store, tmp_path / "own", own).data.to_dict()
    assert (stated["license"], stated["license_name"], stated["license_link"]) == ("other", "Our terms 1.0", "https://example.org/terms")


def test_the_text_has_a_picture_a_snippet_columns_citation_contact_and_energy(store: Store, tmp_path: Path) -> None:
    text = card(store, tmp_path / "out", Publication.model_validate(BLOCK)).text
    assert "# Faces \\| two steps" in text and "What it is." in text and 'load_dataset("lab/faces", split="train")' in text
    assert "write to https://example.org/takedown" in text and "41.5 kWh (power meter)" in text
    assert "author = {{A Laboratory} and B. Person}" in text and "url = {https://huggingface.co/datasets/lab/faces}" in text
    assert "| label | 0 real, 1 fake" in text and store.digest() in text
    with Image.open(tmp_path / "out" / "sheet.webp") as sheet:
        assert sheet.format == "WEBP" and sheet.width > 8 * 16
    bare = card(store, tmp_path / "bare", Publication()).text
    assert "author" not in bare.partition("## Cite it")[2] and "kWh" not in bare and "write to" not in bare


def test_a_statement_cannot_break_the_head_of_the_card(store: Store, tmp_path: Path) -> None:
    hostile = 'x"\\n---\\nlicense: mit\\n: {{ 7*7 }} <script>alert(1)</script>'
    text = (tmp_path / "out" / "README.md").as_posix()
    data = card(store, tmp_path / "out", Publication(title=hostile, licence=hostile)).data.to_dict()
    assert data["license"] == "other" and data["pretty_name"] == data["license_name"] == hostile
    shown = Path(text).read_text(encoding="utf-8")
    heading = shown.partition("\n# ")[2].partition("\n")[0]
    assert "<script>" not in heading and "{{ 7*7 }}" in heading
    assert yaml.safe_load(shown.split("---\n")[1])["license"] == "other"


WRONG = [{"contact": "nobody"}, {"url": "ftp://x"}, {"title": "a\nb"}, {"tags": ["A b"]}, {"energy": {"kwh": 0}}, {"creator": "me"}]


@pytest.mark.parametrize("change", WRONG)
def test_what_is_no_statement_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Publication.model_validate({**BLOCK, **change})


def test_size_categories_are_the_hubs() -> None:
    sizes = {0: "n<1K", 999: "n<1K", 1000: "1K<n<10K", 250_000: "100K<n<1M", 99_999_999: "10M<n<100M", 100_000_000: "100M<n<1B"}
    assert {images: size_category(images) for images in sizes} == sizes


def version(number: int, **properties: str) -> Version:
    return Version(number, datetime(2026, 1, 1, tzinfo=UTC), (), 1, {"manifest": "{}", **properties})


def test_hours_are_those_that_builds_recorded(store: Store) -> None:
    log = [version(1, seconds="5400.0", device="cuda:0"), version(2, seconds="1800.0", device="cuda:1")]
    log.append(version(3, seconds="0.0", device="cpu"))
    assert Hours.of(log).said() == "2.0 GPU hours"
    assert Hours.of([*log, version(4)]).said() == "at least 2.0 GPU hours; 1 older version recorded no time"
    assert Hours.of([version(1)]).said() == "" and Hours.of([version(1, seconds="nan?")]).said() == ""
    assert Hours.of([version(1, seconds="36.0", device="cpu,cpu"), *log[:1]]).said() == "0.01 CPU-device hours and 1.5 GPU hours"
    made = store.version().properties
    assert float(made["seconds"]) >= 0  # a figure, from the notes of its shards
