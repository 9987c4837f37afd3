"""Fetching checkpoints of a catalogue from a real server on loopback, and taking in what a person fetched."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

from generators.errors import InputError
from pipelines.catalogue import fetching, identity
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.catalogue.lock import read_lock
from tests.pipelines.catalogue.servers import Served, Server, serving

ONE, TWO = random.Random(1).randbytes(15_000), random.Random(2).randbytes(21_000)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))


def catalogue(folder: Path, **entries: dict[str, Any]) -> Catalogue:
    described = {
        name: CheckpointEntry.model_validate({"file": f"{name}.bin", "licence": "MIT", **entry}) for name, entry in entries.items()
    }
    return Catalogue(described, folder, {file: locked.sha256 for file, locked in read_lock(folder).items()})


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


def test_files_come_and_are_noted_and_need_no_hashing_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files |= {"/one": Served(ONE), "/two": Served(TWO)}
    own = catalogue(tmp_path, one={"url": server.url("/one")}, two={"url": server.url("/two"), "sha256": sha(TWO)})
    sizes: list[int] = []
    report = fetching.fetch(["one", "two"], own, total=sizes.append)
    assert (report.failed, sizes) == ({}, [len(ONE) + len(TWO)])
    assert own.path("one").read_bytes() == ONE
    locked = read_lock(tmp_path)
    assert (locked["one.bin"].sha256, locked["one.bin"].source, locked["one.bin"].licence) == (sha(ONE), server.url("/one"), "MIT")
    monkeypatch.setattr(identity, "sha256_of", lambda path: pytest.fail(f"{path} is hashed again"))
    again = catalogue(tmp_path, one={"url": server.url("/one")})
    assert again.sha256("one") == sha(ONE)
    assert fetching.absent(["one", "two"], own) == []


def test_what_was_trusted_once_must_stay_the_same(server: Server, tmp_path: Path) -> None:
    server.files["/one"] = Served(ONE)
    entry = {"url": server.url("/one")}
    fetching.fetch(["one"], catalogue(tmp_path, one=entry))
    (tmp_path / "one.bin").unlink()
    server.files["/one"] = Served(TWO, etag='"2"')
    report = fetching.fetch(["one"], catalogue(tmp_path, one=entry))
    assert "is another file than the one that is wanted" in report.failed["one"]
    assert not (tmp_path / "one.bin").exists()


def test_a_mirror_is_tried_and_what_fails_keeps_nothing_else_from_coming(server: Server, tmp_path: Path) -> None:
    server.files |= {"/one": Served(ONE), "/mirror": Served(TWO)}
    own = catalogue(
        tmp_path,
        one={"url": server.url("/one")},
        two={"url": server.url("/gone"), "mirrors": [server.url("/page"), server.url("/mirror")], "sha256": sha(TWO)},
        three={"url": server.url("/gone"), "mirrors": [server.url("/one")], "sha256": sha(TWO), "how": "ask its authors"},
        four={"url": "http://example.org/four"},
    )
    server.files["/page"] = Served(b"<html>moved</html>")
    report = fetching.fetch(["one", "two", "three", "four"], own)
    assert {done.name: done.source for done in report.fetched} == {"one": server.url("/one"), "two": server.url("/mirror")}
    assert "not there any more (404) (and 1 more addresses failed)" in report.failed["three"]
    assert "ask its authors" in report.failed["three"]
    assert "no https address" in report.failed["four"]


def test_members_of_one_archive_come_by_one_transfer(server: Server, tmp_path: Path) -> None:
    server.files["/a.zip"] = Served(zipped(checkpoints__people__g=ONE, checkpoints__512__g=TWO, readme=b"x"))
    url = server.url("/a.zip")
    own = catalogue(tmp_path, one={"url": url, "member": "people/g"}, two={"url": url, "member": "512/g"})
    report = fetching.fetch(["one", "two"], own)
    assert (report.failed, server.gets("/a.zip")) == ({}, [None])
    assert (own.path("one").read_bytes(), own.path("two").read_bytes()) == (ONE, TWO)
    assert not [file for file in (tmp_path / ".archives").iterdir()]


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (zipped(other=ONE), "does not have exactly one file g"),
        (zipped(a__g=ONE, b__g=TWO), "does not have exactly one file g"),
        (zipped(g=ONE)[:-30], "is no whole zip archive"),
        (zipped(g=ONE).replace(b"PK\x03\x04", b"PK\x03\x05"), "is no whole zip archive"),
    ],
)
def test_an_archive_that_is_none(server: Server, tmp_path: Path, archive: bytes, message: str) -> None:
    server.files["/a.zip"] = Served(archive)
    own = catalogue(tmp_path, one={"url": server.url("/a.zip"), "member": "g"})
    assert message in fetching.fetch(["one"], own).failed["one"]
    assert not own.path("one").exists()


def test_a_member_of_other_bytes_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.files["/a.zip"] = Served(zipped(g=ONE))
    own = catalogue(tmp_path, one={"url": server.url("/a.zip"), "member": "g", "sha256": sha(TWO)})
    assert "another sha256" in fetching.fetch(["one"], own).failed["one"]
    assert not own.path("one").exists()


def test_space_is_asked_for_before_anything_comes(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/one"] = Served(ONE)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match="the disk has"):
        fetching.fetch(["one"], catalogue(tmp_path, one={"url": server.url("/one")}))
    assert server.gets("/one") == []


def test_two_at_once_into_one_folder(server: Server, tmp_path: Path) -> None:
    with filelock.FileLock(tmp_path / ".fetch.lock"), pytest.raises(InputError, match="another `ntf fetch`"):
        fetching.fetch(["one"], catalogue(tmp_path, one={"url": server.url("/one")}))


def test_nothing_is_taken_by_hand_while_a_fetch_writes_there(tmp_path: Path) -> None:
    downloads, own = tmp_path / "downloads", catalogue(tmp_path / "own", one={})
    downloads.mkdir()
    (downloads / "one.bin").write_bytes(ONE)
    own.folder.mkdir()
    with filelock.FileLock(own.folder / ".fetch.lock"), pytest.raises(InputError, match="another `ntf fetch`"):
        fetching.take_from(downloads, ["one"], own)
    assert not own.path("one").exists() and read_lock(own.folder) == {}
    own.path("one").write_bytes(TWO)  # a fetch brought it after `names` were found to be absent
    assert fetching.take_from(downloads, ["one"], own)[0].fetched == []
    assert own.path("one").read_bytes() == TWO and read_lock(own.folder) == {}
    own.path("one").unlink()
    assert [taken.sha256 for taken in fetching.take_from(downloads, ["one"], own)[0].fetched] == [sha(ONE)]


def test_looking_by_hand_into_a_folder_of_other_things_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    fetching.take_from(tmp_path / "downloads", ["one"], catalogue(tmp_path / "own", one={}))
    assert not (tmp_path / "own").exists()


def test_licences_are_asked_for_by_name(tmp_path: Path) -> None:
    read = {"licence": "CC-BY-NC-4.0", "checked": "its card", "hub": "org/three"}
    own = catalogue(tmp_path, one={"licence": "MIT"}, two={"licence": "CC-BY-NC-4.0", "url": "https://x.org/two"}, three=read)
    with pytest.raises(InputError, match=r"'CC-BY-NC-4.0' of two, three \(.*--accept \"CC-BY-NC-4.0\"$") as refused:
        fetching.require_consent(own.entries, own, ["mit "])
    note = "licence as this project noted it"
    assert f"two: {note} (not checked): CC-BY-NC-4.0; read it at https://x.org/two" in str(refused.value)
    assert f"three: {note} (from its card): CC-BY-NC-4.0; read it at https://huggingface.co/org/three" in str(refused.value)
    fetching.require_consent(own.entries, own, ["MIT", "CC-BY-NC-4.0"])


@pytest.mark.parametrize("file", ["../out.bin", "/etc/out.bin", "a/../../out.bin", "."])
def test_a_strangers_manifest_writes_nothing_outside(tmp_path: Path, file: str) -> None:
    own = catalogue(tmp_path / "ck", one={"file": file, "url": "https://example.org/x"})
    with pytest.raises(InputError, match="outside"):
        fetching.require_inside(["one"], own)
    fetching.require_inside(["one"], catalogue(tmp_path / "ck", one={"file": "a/b.bin"}))


# What a person fetched


def saved(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {name: torch.zeros(300) for name in names}, "optimizer": {}}, path)
    return path


def test_files_are_recognised_by_sha256_by_name_and_by_contents(tmp_path: Path) -> None:
    downloads = tmp_path / "Downloads"
    downloads.mkdir()
    (downloads / "whatever").write_bytes(ONE)
    (downloads / "named (1).bin").write_bytes(TWO)
    saved(downloads / "renamed.pt", "id_embed.0.weight", "time_embed.0.weight")
    (downloads / "archive.zip").write_bytes(zipped(Release__inside__zipped=TWO))
    (downloads / "none.bin.crdownload").write_bytes(ONE)
    own = catalogue(
        tmp_path / "ck",
        summed={"sha256": sha(ONE)},
        named={},
        contents={"marks": ["id_embed.", "time_embed.0.weight"]},
        zipped={"file": "zipped"},
        none={},
    )
    report, doubts = fetching.take_from(downloads, list(own.entries), own)
    assert {done.name: done.source.rpartition(", by ")[2] for done in report.fetched} == {
        "summed": "its sha256",
        "named": "its name",
        "contents": "its contents",
        "zipped": "its name, zipped, in the archive",
    }
    assert (report.failed, doubts) == ({}, [])
    assert (own.path("summed").read_bytes(), own.path("named").read_bytes(), own.path("zipped").read_bytes()) == (ONE, TWO, TWO)
    assert read_lock(tmp_path / "ck")["named.bin"].sha256 == sha(TWO)
    assert (downloads / "whatever").exists()


def test_a_file_of_the_right_name_and_other_contents_is_not_taken(tmp_path: Path) -> None:
    saved(tmp_path / "d" / "last.ckpt", "some.other.network")
    (tmp_path / "d" / "net.pth").write_bytes(ONE)
    own = catalogue(
        tmp_path / "ck", vqgan={"file": "last.ckpt", "marks": ["transformer.pos_emb"]}, net={"file": "net.pth", "sha256": sha(TWO)}
    )
    report, doubts = fetching.take_from(tmp_path / "d", ["vqgan", "net"], own)
    assert report.fetched == []
    assert "not its contents (no tensor transformer.pos_emb)" in doubts[0]
    assert "another sha256" in doubts[1]


def test_contents_that_two_checkpoints_have_are_given_to_neither(tmp_path: Path) -> None:
    saved(tmp_path / "d" / "x.pt", "layer1.weight", "fc.weight")
    own = catalogue(tmp_path / "ck", one={"marks": ["fc.weight"]}, two={"marks": ["layer1.weight"]})
    report, doubts = fetching.take_from(tmp_path / "d", ["one", "two"], own)
    assert report.fetched == []
    assert "may be one or two" in doubts[0]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        fetching.take_from(tmp_path / "none", ["one"], catalogue(tmp_path, one={}))


@pytest.mark.parametrize("outer", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_in_an_archive_in_an_archive(server: Server, tmp_path: Path, outer: int) -> None:
    """As where a share hands out a folder with an archive of weights in it. What is damaged or explodes beside it is passed over."""
    (tmp_path / "d").mkdir()
    bomb = zipped(other=bytes(2**24))
    with zipfile.ZipFile(tmp_path / "d" / "OneDrive.zip", "w", outer) as archive:
        archive.writestr("SimSwap/readme.txt", "see checkpoints.zip")
        archive.writestr("SimSwap/damaged.zip", b"PK\x03\x04" + ONE)
        archive.writestr("SimSwap/bomb.zip", bytes(2**22) + bomb, zipfile.ZIP_DEFLATED)
        archive.writestr("SimSwap/checkpoints.ZIP", zipped(people__net=ONE, other__net=TWO))
    own = catalogue(tmp_path / "ck", net={"url": server.url("/a.zip"), "member": "people/net"})
    report, doubts = fetching.take_from(tmp_path / "d", ["net"], own)
    assert (report.failed, doubts, own.path("net").read_bytes()) == ({}, [], ONE)
    server.files["/a.zip"] = Served((tmp_path / "d" / "OneDrive.zip").read_bytes())
    over_http = catalogue(tmp_path / "ck2", net={"url": server.url("/a.zip"), "member": "people/net"})
    fetching.fetch(["net"], over_http)
    assert over_http.path("net").read_bytes() == ONE


def test_two_such_files_in_two_inner_archives_are_neither(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with zipfile.ZipFile(tmp_path / "d" / "all.zip", "w") as archive:
        archive.writestr("a.zip", zipped(net=ONE))
        archive.writestr("b.zip", zipped(net=TWO))
    own = catalogue(tmp_path / "ck", net={"file": "net"})
    report, _ = fetching.take_from(tmp_path / "d", ["net"], own)
    assert not report.fetched
    assert not own.path("net").exists()
