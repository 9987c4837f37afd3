"""Files over HTTP against a real server: resumed, tried again, hashed, never under their name before they are whole."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from generators.errors import InputError
from pipelines.catalogue import transfer
from pipelines.catalogue.addresses import TransferError
from pipelines.catalogue.transfer import Watch, download, remote_size
from tests.pipelines.catalogue.servers import Served, Server, serving

BODY = bytes(range(256)) * 12_000  # 3 MB: three blocks
SHA256 = hashlib.sha256(BODY).hexdigest()
AT_ONCE = (0.0,)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def test_a_file_comes_whole_and_hashed_and_its_bytes_are_counted(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY)
    counted: list[int] = []
    expected: list[int] = []
    target = tmp_path / "deep" / "w.pkl"
    assert download(server.url("/w.pkl"), target, SHA256, Watch(counted.append, expected.append)) == SHA256
    assert target.read_bytes() == BODY
    assert (sum(counted), expected) == (len(BODY), [len(BODY)])
    assert [file.name for file in target.parent.iterdir()] == ["w.pkl"]
    assert remote_size(server.url("/w.pkl")) == len(BODY)


def test_a_cut_connection_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY, cuts=[1_500_000, 2_500_000])
    counted: list[int] = []
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl", watch=Watch(counted.append), waits=AT_ONCE) == SHA256
    first, *more = server.gets("/w.pkl")
    assert first is None
    assert len(more) == 2
    assert all(asked and int(asked.removeprefix("bytes=").rstrip("-")) > 0 for asked in more)
    assert sum(counted) == len(BODY)


def test_the_next_run_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY, cuts=[1_500_000], statuses=[])
    server.files["/w.pkl"].cuts += [1_500_000] * 20
    with pytest.raises(TransferError, match="the connection failed"):
        download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE)
    assert not (tmp_path / "w.pkl").exists()
    server.files["/w.pkl"].cuts.clear()
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl") == SHA256
    assert server.gets("/w.pkl")[-1] is not None


@pytest.mark.parametrize(
    "change",
    [
        {"etag": '"2"'},
        {"ranges": False},
        {"etag": None},
        {"body": BODY[:1000], "etag": '"2"'},
        {"etag": 'W/"1"'},
        {"etag": '"2"', "if_range": False},
        {"body": BODY + BODY, "if_range": False},
        {"shift": 7},
    ],
    ids=["another version", "no ranges", "no version", "shorter", "weak version", "If-Range not heeded", "longer", "another part"],
)
def test_a_part_of_another_version_is_not_gone_on_with(server: Server, tmp_path: Path, change: dict[str, object]) -> None:
    server.files["/w.pkl"] = Served(BODY[::-1], cuts=[1_500_000] * 20)
    with pytest.raises(TransferError):
        download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE)
    served = server.files["/w.pkl"] = Served(**{"body": BODY, **change})  # type: ignore[arg-type]
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE) == hashlib.sha256(served.body).hexdigest()


def test_a_change_that_only_its_time_tells(server: Server, tmp_path: Path) -> None:
    """A server without ETag, whose file is replaced between two tries, and which sends a part of the new one unasked."""
    old, new = ({"Last-Modified": f"Wed, 21 Oct {year} 07:28:00 GMT"} for year in (2015, 2025))
    server.files["/w.pkl"] = Served(BODY[::-1], cuts=[1_500_000] * 20, etag=None, headers=old)
    with pytest.raises(TransferError):
        download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE)
    assert (tmp_path / "w.pkl.partial").stat().st_size > 0
    server.files["/w.pkl"] = Served(BODY, etag=None, headers=new, if_range=False)
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE) == SHA256
    assert [asked is None for asked in server.gets("/w.pkl")[-2:]] == [False, True]


def test_a_server_that_cuts_and_cannot_go_on_is_given_up(server: Server, tmp_path: Path) -> None:
    """Each second try throws away what the first one brought: bytes that come again and again are no progress."""
    server.files["/w.pkl"] = Served(BODY, cuts=[100_000] * 99, shift=7)
    with pytest.raises(TransferError, match="goes on where it was"):
        download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE)
    assert len(server.gets("/w.pkl")) < 12


def test_without_a_length_the_end_is_the_end(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY, length=False)
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl") == SHA256


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_server_that_compresses_unasked(server: Server, tmp_path: Path, coding: str, length: bool) -> None:
    """Its first answer is cut: what came of it is no part that the second goes on with."""
    body = gzip.compress(BODY) if coding == "gzip" else zlib.compress(BODY)
    served = server.files["/w.pkl"] = Served(body, headers={"Content-Encoding": coding}, length=length, cuts=[len(body) // 2, len(body)])
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE) == SHA256
    assert (tmp_path / "w.pkl").read_bytes() == BODY
    assert server.gets("/w.pkl") == [None, None]
    assert served.cuts == []


def test_a_small_answer_that_grows_is_read_in_bounded_blocks(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/w.pkl"] = Served(gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"})
    sizes: list[int] = []
    watch = Watch(sizes.append)
    download(server.url("/w.pkl"), tmp_path / "w.pkl", watch=watch)
    assert (sum(sizes), max(sizes) <= transfer.BLOCK) == (50_000_000, True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**6))
    with pytest.raises(TransferError, match="is full"):
        download(server.url("/w.pkl"), tmp_path / "again.pkl")


def test_a_compression_that_nobody_here_knows(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY[:100], headers={"Content-Encoding": "zstd"})
    with pytest.raises(TransferError, match="compressed as 'zstd'"):
        download(server.url("/w.pkl"), tmp_path / "w.pkl")


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY, statuses=[503, 429, 500], headers={"Retry-After": "\xb2"})  # a digit, and no number
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE) == SHA256


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (Served(statuses=[401] * 9), r"wants a login \(401\)"),
        (Served(statuses=[403] * 9), r"refuses access \(403\)"),
        (Served(statuses=[404] * 9), r"not there any more \(404\)"),
        (Served(statuses=[418] * 9), r"cannot be had \(418\)"),
        (Served(statuses=[429] * 99), r"too many requests \(429\)"),
        (Served(statuses=[429], headers={"Retry-After": "86400"}), r"too many requests \(429\)"),
        (Served(statuses=[429], headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}), r"too many requests \(429\)"),
        (Served(statuses=[500] * 99), "answers 500"),
        (Served(statuses=[416]), r"cannot be had \(416\)"),
        (Served(statuses=[304]), r"cannot be had \(304\)"),
        (Served(statuses=[302]), r"cannot be had \(302\)"),
        (Served(statuses=[302], headers={"Location": "http://[127.0.0.1"}), "which is no address"),
        (Served(statuses=[302] * 9, headers={"Location": "https://example.org:x/w"}), "Invalid port"),
        (Served(b"<!DOCTYPE html><title>Sign in</title>"), "sends a web page"),
        (Served(b"\xef\xbb\xbf\n<HTML>" + bytes(9000)), "sends a web page"),
        (Served(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "a note of Git LFS"),
        (Served(b""), "is empty"),
        (Served(statuses=[302] * 99, headers={"Location": "/w.pkl"}), "from one address to the next"),
        (Served(statuses=[302], headers={"Location": "http://example.org/w.pkl"}), "no https address"),
        (Served(statuses=[302], headers={"Location": "file:///etc/passwd"}), "no https address"),
    ],
)
def test_what_cannot_be_had_is_one_line_and_no_file(server: Server, tmp_path: Path, served: Served, message: str) -> None:
    server.files["/w.pkl"] = served
    with pytest.raises(TransferError, match=message) as caught:
        download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_than_the_wanted_ones_are_thrown_away(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY)
    with pytest.raises(TransferError, match=f"another file.*{SHA256[:12]}, not {'0' * 12}"):
        download(server.url("/w.pkl"), tmp_path / "w.pkl", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_nobody_there(tmp_path: Path) -> None:
    with serving() as gone:
        address = gone.url("/w.pkl")
    with pytest.raises(TransferError, match="the connection failed"):
        download(address, tmp_path / "w.pkl", waits=AT_ONCE)
    assert remote_size(address) is None


@pytest.mark.parametrize(
    "url", ["http://example.org/w", "ftp://127.0.0.1/w", "file:///etc/passwd", "w.pkl", "http://127.0.0.1.example.org/w"]
)
def test_only_https_and_this_machine(tmp_path: Path, url: str) -> None:
    with pytest.raises(TransferError, match="no https address"):
        download(url, tmp_path / "w.pkl")


@pytest.mark.parametrize(
    "url", ["https://[::1", "https://x.org:abc/w", "https://x.org:99999/w", "https://\0/w", "https://.org/w", f"https://{'a' * 300}/w"]
)
def test_what_is_no_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(TransferError, match="is no address"):
        download(url, tmp_path / "w.pkl")
    with pytest.raises(TransferError, match="no https address"):
        download("https:///w.pkl", tmp_path / "w.pkl")
    assert remote_size(url) is None


@pytest.mark.parametrize("name", ["file/w.pkl", f"{'a' * 250}"], ids=["a file in the way", "a long name"])
def test_a_place_that_cannot_be_written(server: Server, tmp_path: Path, name: str) -> None:
    server.files["/w.pkl"] = Served(BODY)
    (tmp_path / "file").write_text("")
    with pytest.raises(TransferError, match=r"cannot write .*: .*Check the folder"):
        download(server.url("/w.pkl"), tmp_path / name)


def test_a_stop_ends_it_between_two_blocks_and_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY)
    watch = Watch()
    watch.advance = lambda count: watch.stop.set() if count else None
    with pytest.raises(KeyboardInterrupt):
        download(server.url("/w.pkl"), tmp_path / "w.pkl", watch=watch)
    assert 0 < (tmp_path / "w.pkl.partial").stat().st_size < len(BODY)


def test_a_full_disk_is_said_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**9))
    transfer.require_space(tmp_path / "not" / "yet", 10**8)
    with pytest.raises(InputError, match=r"the disk has 0\.9 GiB free"):
        transfer.require_space(tmp_path / "not" / "yet", 10**9)
