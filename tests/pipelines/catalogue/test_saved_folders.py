"""Repositories of the Hub that a person fetched, in the forms in which programs leave them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from generators.checkpoints import sha256_of
from generators.errors import InputError
from pipelines.catalogue import fetching, identity
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.catalogue.lock import read_lock

COMMIT = "0123456789abcdef" * 2 + "01234567"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))


def catalogue(folder: Path, hub: str = "org/net-v1-4", **more: Any) -> Catalogue:
    entry = CheckpointEntry.model_validate({"file": hub, "hub": hub, "licence": "MIT", **more})
    return Catalogue({"net": entry}, folder, {file: locked.sha256 for file, locked in read_lock(folder).items()})


def write(folder: Path, **files: str) -> Path:
    """A pipeline with a UNet, and what nobody reads; `files` by name, with `__` for a slash, beside it."""
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    usual = {"model_index.json": json.dumps(index), "README.md": "read me", "unet/config.json": "{}", WEIGHTS: "the weights"}
    for name, text in {**usual, **{name.replace("__", "/"): text for name, text in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def as_cache(folder: Path, commit: str = COMMIT, inside: str = "models--org--net-v1-4") -> Path:
    """The same in the Hub's cache: blobs, and links to them."""
    snapshot = write(folder / inside / "snapshots" / commit)
    blobs = folder / inside / "blobs"
    blobs.mkdir(exist_ok=True)
    for number, file in enumerate(sorted(file for file in snapshot.rglob("*") if file.is_file() and not file.is_symlink())):
        blob = blobs / f"{commit[:4]}{number}"
        file.rename(blob)
        file.symlink_to(blob)
    return snapshot


def taken(downloads: Path, own: Catalogue) -> tuple[fetching.FetchReport, list[str]]:
    return fetching.take_from(downloads, ["net"], own)


@pytest.mark.parametrize(
    "name", ["net-v1-4", "net-v1-4 (1)", "net-v1-4-main", "Net-V1-4", "org--net-v1-4", "org/net-v1-4", "a/b/org_net-v1-4"]
)
def test_a_folder_is_recognised_by_its_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "d" / name)
    own = catalogue(tmp_path / "ck")
    report, doubts = taken(tmp_path / "d", own)
    assert (report.failed, doubts) == ({}, [])
    kept = {file.relative_to(own.path("net")).as_posix() for file in own.path("net").rglob("*") if file.is_file()}
    assert kept == {"model_index.json", "unet/config.json", WEIGHTS}
    locked = read_lock(tmp_path / "ck")["org/net-v1-4"]
    assert (locked.sha256, locked.files.keys(), locked.revision) == (sha256_of(own.path("net")), kept, None)
    monkeypatch.setattr(identity, "sha256_of", lambda path: pytest.fail(f"{path} is hashed again"))
    assert catalogue(tmp_path / "ck").sha256("net") == locked.sha256


def test_the_folder_itself_may_be_given(tmp_path: Path) -> None:
    write(tmp_path / "net-v1-4")
    assert len(taken(tmp_path / "net-v1-4", catalogue(tmp_path / "ck"))[0].fetched) == 1


def test_the_hubs_cache_whose_files_are_links(tmp_path: Path) -> None:
    as_cache(tmp_path / "hub", "f" * 40)
    as_cache(tmp_path / "hub")
    refs = tmp_path / "hub" / "models--org--net-v1-4" / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    own = catalogue(tmp_path / "ck")
    report, doubts = taken(tmp_path / "hub", own)
    assert (len(report.fetched), doubts) == (1, [])
    assert read_lock(tmp_path / "ck")["org/net-v1-4"].revision == COMMIT
    assert not any(file.is_symlink() for file in own.path("net").rglob("*"))
    assert (own.path("net") / WEIGHTS).read_text() == "the weights"


def test_the_notes_of_hf_download_tell_the_commit(tmp_path: Path) -> None:
    folder = write(tmp_path / "d" / "net-v1-4")
    for name in ("model_index.json", "unet/config.json", WEIGHTS):
        note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{COMMIT}\netag\n1700000000.0\n")
    taken(tmp_path / "d", catalogue(tmp_path / "ck"))
    assert read_lock(tmp_path / "ck")["org/net-v1-4"].revision == COMMIT


def test_what_is_not_whole_is_not_taken(tmp_path: Path) -> None:
    listed = json.dumps(
        {
            "weight_map": {
                "a": "diffusion_pytorch_model-00001-of-00002.safetensors",
                "b": "diffusion_pytorch_model-00002-of-00002.safetensors",
            }
        }
    )
    first, index = "unet__diffusion_pytorch_model-00001-of-00002.safetensors", "unet__diffusion_pytorch_model.safetensors.index.json"
    folder = write(tmp_path / "sharded" / "net-v1-4", **{first: "one", index: listed})
    (folder / WEIGHTS).unlink()
    write(tmp_path / "lfs" / "net-v1-4", **{WEIGHTS.replace("/", "__"): "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"})
    (write(tmp_path / "bare" / "net-v1-4") / WEIGHTS).unlink()
    (tmp_path / "secret").write_text("not yours")
    (write(tmp_path / "links" / "net-v1-4") / "unet" / "more.json").symlink_to(tmp_path / "secret")
    reasons = {
        "sharded": "lacks unet/diffusion_pytorch_model-00002-of-00002.safetensors, a part of its weights",
        "lfs": "is a note of Git LFS in place of the file: run `git lfs pull` there",
        "bare": "no weights in it",
        "links": "its unet/more.json is a link out of it",
    }
    for name, reason in reasons.items():
        report, doubts = taken(tmp_path / name, catalogue(tmp_path / "ck"))
        assert (report.fetched, len(doubts)) == ([], 1)
        assert reason in doubts[0]
    assert not (tmp_path / "ck" / "org").exists()


def test_another_revision_than_the_one_that_was_fetched_before(tmp_path: Path) -> None:
    write(tmp_path / "d" / "net-v1-4")
    taken(tmp_path / "d", catalogue(tmp_path / "ck"))
    for file in sorted((tmp_path / "ck" / "org" / "net-v1-4").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (tmp_path / "ck" / "org" / "net-v1-4").rmdir()
    (tmp_path / "d" / "net-v1-4" / WEIGHTS).write_text("other weights")
    own = catalogue(tmp_path / "ck")
    report, _ = taken(tmp_path / "d", own)
    assert "holds other files than those that are wanted" in report.failed["net"]
    assert not list((tmp_path / "ck" / "org").iterdir())


def test_a_member_of_an_archive_with_another_sha256_is_not_kept(tmp_path: Path) -> None:
    import zipfile

    (tmp_path / "d").mkdir()
    with zipfile.ZipFile(tmp_path / "d" / "a.zip", "w") as archive:
        archive.writestr("release/net.pth", b"x" * 5000)
    entry = CheckpointEntry.model_validate({"file": "net.pth", "licence": "MIT", "sha256": "0" * 64})
    own = Catalogue({"net": entry}, tmp_path / "ck")
    report, _ = taken(tmp_path / "d", own)
    assert "another sha256" in report.failed["net"]
    assert not own.path("net").exists()


def test_a_name_that_ends_in_a_number_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "net-v1-4.pth").write_bytes(b"x" * 5000)
    entry = CheckpointEntry.model_validate({"file": "net-v1-4.pth", "licence": "MIT"})
    report, _ = taken(tmp_path / "d", Catalogue({"net": entry}, tmp_path / "ck"))
    assert len(report.fetched) == 1


@pytest.mark.parametrize(
    ("file", "inside"),
    [
        ("net-v1-4.zip", ""),
        ("net-v1-4 (1).zip", "net-v1-4"),
        ("download.zip", "net-v1-4"),
        ("download.ZIP", "a/b/net-v1-4-main"),
        ("hub.zip", f"hub/models--org--net-v1-4/snapshots/{COMMIT}"),
        ("net-v1-4.tar.gz", None),
        ("org--net-v1-4.tar", None),
        ("Net-v1-4.7z", None),
    ],
)
def test_a_packed_folder_is_named_and_not_taken(tmp_path: Path, file: str, inside: str | None) -> None:
    """None: an archive that is not looked into."""
    downloads = tmp_path / "Downloads"
    downloads.mkdir()
    if inside is None:
        (downloads / file).write_bytes(bytes(2000))
    else:
        made = write(tmp_path / "made" / inside)
        (made / "padding.txt").write_text("x" * 2000)
        with zipfile.ZipFile(downloads / file, "w") as archive:
            for member in (tmp_path / "made").rglob("*"):
                archive.write(member, member.relative_to(tmp_path / "made"))
    own = catalogue(tmp_path / "checkpoints")
    report, doubts = taken(downloads, own)
    assert (report.fetched, report.failed) == ([], {})
    assert doubts == [f"{downloads / file} holds org/net-v1-4 as an archive: unpack it, and run the same command again"]
    write(downloads / "net-v1-4")
    report, doubts = taken(downloads, own)
    assert ([done.name for done in report.fetched], doubts) == (["net"], [])


def test_archives_of_other_things_are_not_named(tmp_path: Path) -> None:
    downloads = tmp_path / "Downloads"
    downloads.mkdir()
    for name, member in (("photos.zip", "net-v1-4/cat.png"), ("code.zip", "other/config.json"), ("net-v1-5.zip", "config.json")):
        with zipfile.ZipFile(downloads / name, "w") as archive:
            archive.writestr(member, "x" * 2000)
    (downloads / "broken.zip").write_bytes(b"PK" + bytes(2000))
    (downloads / "net-v1-4.safetensors").write_bytes(bytes(2000))
    assert taken(downloads, catalogue(tmp_path / "checkpoints"))[1] == []


def test_far_too_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.catalogue.saved_folders.MAX_FOLDERS", 3)
    for number in range(4):
        (tmp_path / "d" / str(number)).mkdir(parents=True)
    with pytest.raises(InputError, match="holds more than 3 folders"):
        taken(tmp_path / "d", catalogue(tmp_path / "ck"))
