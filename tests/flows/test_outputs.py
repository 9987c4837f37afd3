"""Outputs and incoming checkpoints on an object storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.current import CURRENT_FILE, Current, read_current, write_current
from flows.outputs import Outputs
from generators.errors import InputError
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.registering import take_incoming
from pipelines.place import Place
from tests.object_storage import bucket, server
from tests.support import simswap_checkpoint

__all__ = ["bucket", "server"]


def test_a_folder_is_itself(tmp_path: Path) -> None:
    outputs = Outputs(str(tmp_path / "runs"), "tiny")
    assert outputs.folder == tmp_path / "runs" / "tiny"
    outputs.take("anything")
    outputs.keep("anything")
    assert outputs.uri("report.html").startswith("file:///")


def test_what_one_machine_keeps_another_takes(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on(machine: str) -> Outputs:
        monkeypatch.setenv("NTF_CACHE", str(tmp_path / machine))
        return Outputs("s3:/datasets/outputs", "tiny")  # as a command line option gives it, with one slash lost

    first = on("one")
    run = first.folder / "ntf-1"
    (run / "stage1").mkdir(parents=True)
    (run / "stage1" / "model.safetensors").write_bytes(b"weights")
    write_current(first.folder, Current(run, 3))
    first.keep("ntf-1", "absent", CURRENT_FILE)
    second = on("two")
    second.take(CURRENT_FILE, "drift.json")
    current = read_current(second.folder)
    assert current == Current(second.folder / "ntf-1", 3) and second.folder != first.folder
    second.take(current.run.name)
    assert (current.run / "stage1" / "model.safetensors").read_bytes() == b"weights"
    assert second.uri("report.html") == "s3://datasets/outputs/tiny/report.html"
    Place("s3://datasets/outputs/tiny").remove(CURRENT_FILE)
    second.take(CURRENT_FILE)  # what is no more there is no more here
    assert read_current(second.folder) is None


def test_a_bucket_that_is_not_there(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path))
    outputs = Outputs("s3://nowhere/outputs", "tiny")
    outputs.folder.mkdir(parents=True)
    (outputs.folder / "report.html").write_text("page")
    with pytest.raises(InputError, match=r"cannot write s3://nowhere/outputs/tiny.*Check the network, the bucket"):
        outputs.keep("report.html")


def test_incoming_on_an_object_storage(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTF_INCOMING", f"{bucket}/incoming")
    place = Place(f"{bucket}/incoming")
    place.write("new.safetensors", simswap_checkpoint(tmp_path / "new.safetensors", 0).read_bytes())
    place.write("alone.safetensors", b"x")
    place.write("new.safetensors.yaml", b"{name: swap, generator: simswap, licence: test}")
    catalogue = Catalogue.shipped(tmp_path / "checkpoints")
    added, waiting = take_incoming(catalogue)
    assert [entry.name for entry in added] == ["swap"] and added[0].path.is_file()
    assert [arrival.path.name for arrival in waiting] == ["alone.safetensors"]
    assert set(place.sizes()) == {"alone.safetensors"}
    assert take_incoming(catalogue)[0] == []
