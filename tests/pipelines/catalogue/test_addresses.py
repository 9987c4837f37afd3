"""Secrets in addresses: they are used, and neither printed nor kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from generators.errors import InputError
from pipelines.catalogue import fetching
from pipelines.catalogue.addresses import TransferError, joined, require_safe
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.catalogue.lock import LOCK_FILE, read_lock
from pipelines.catalogue.registering import _write_entry
from pipelines.catalogue.transfer import download, note_of, partial_of
from pipelines.manifest.load import load_manifest
from pipelines.store.versions.version import Version
from tests.pipelines.catalogue.servers import Served, Server, serving

BODY = bytes(range(256)) * 12_000
SIGNED = "?X-Amz-Signature=hunter2&response=a.pt&token=hunter2"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving() as state:
        yield state


def test_faults_of_addresses_do_not_show_secrets() -> None:
    for act in (
        lambda: require_safe("http://me:hunter2@example.org/a?token=hunter2"),
        lambda: require_safe("https://me:hunter2@[bad/a?token=hunter2"),
        lambda: joined("https://me:hunter2@example.org/", "http://[bad?token=hunter2"),
        lambda: require_safe("https://me:hunter2/5@example.org/a"),
        lambda: require_safe("https://me:hunter2#5@example.org/a"),
        lambda: require_safe("https://me:hunter2@exa\u2100mple.org/a"),
        lambda: require_safe("https:me:hunter2@example.org/a"),
        lambda: require_safe(" https://me:hunter2@example.org/a"),
        lambda: require_safe("//me:hunter2@example.org/a"),
    ):
        with pytest.raises(TransferError) as raised:
            act()
        said = f"{raised.value} {raised.value.fix}"
        assert "hunter2" not in said and any(place in said for place in ("example.org", "[bad", "mple.org")), said


def test_faults_of_a_transfer_and_its_notes_do_not_show_secrets(server: Server, tmp_path: Path) -> None:
    server.files |= {
        "/page": Served(b"<!DOCTYPE html><html>"),
        "/empty": Served(b""),
        "/compressed": Served(BODY, headers={"Content-Encoding": "br"}),
        "/cut": Served(BODY, cuts=[1_500_000] * 20),
        "/other": Served(BODY),
        "/refused": Served(BODY, statuses=[403]),
        "/round": Served(b"", statuses=[], headers={}),
    }
    for path in ("/page", "/empty", "/compressed", "/cut", "/other", "/refused", "/absent"):
        with pytest.raises(TransferError) as raised:
            download(server.url(path) + SIGNED, tmp_path / "a.pt", "0" * 64, waits=(0.0,))
        message = f"{raised.value} {raised.value.fix}"
        assert "hunter2" not in message and path in message, message
        if path == "/cut":
            assert partial_of(tmp_path / "a.pt").stat().st_size > 0
            assert "hunter2" not in note_of(tmp_path / "a.pt").read_text()
            assert set(json.loads(note_of(tmp_path / "a.pt").read_text())) == {"address", "validator", "total"}


def test_a_signed_address_is_fetched_and_the_lock_holds_it_without_its_signature(server: Server, tmp_path: Path) -> None:
    server.files["/a.pt"] = Served(BODY)
    entry = CheckpointEntry(file="a.pt", licence="MIT", url=server.url("/a.pt") + SIGNED)
    report = fetching.fetch(["a"], Catalogue({"a": entry}, tmp_path))
    assert report.failed == {}
    assert "hunter2" not in (tmp_path / LOCK_FILE).read_text()
    assert read_lock(tmp_path)["a.pt"].source == server.url("/a.pt") + "?X-Amz-Signature=...&response=a.pt&token=..."
    assert "hunter2" not in entry.origin + entry.licence_note


def test_an_entry_with_a_password_is_refused_and_the_line_does_not_show_it(tmp_path: Path) -> None:
    for places in (
        {"url": "https://me:hunter2@example.org/a"},
        {"url": " https://me:hunter2/x@b.org"},
        {"url": "https://example.org/a", "mirrors": ["https://hunter2@b.org/a"]},
    ):
        with pytest.raises(ValidationError, match=r"~/\.netrc"):
            CheckpointEntry.model_validate({"file": "a.pt", "licence": "MIT", **places})
        manifest = {
            "dataset": "one",
            "size": 32,
            "splits": {"train": 0.8, "validation": 0.1},
            "checkpoints": {"mine": {"generators": ["progan"], "file": "a.pt", "licence": "MIT", **places}},
            "subsets": {"A": {"count": 1, "chain": [{"sample": "progan", "checkpoint": "mine"}]}},
        }
        (tmp_path / "one.yaml").write_text(json.dumps(manifest))
        with pytest.raises(InputError, match=r"checkpoints.mine.*~/\.netrc") as raised:
            load_manifest(tmp_path / "one.yaml")
        assert "hunter2" not in str(raised.value)


def test_a_login_comes_from_netrc_and_goes_to_its_host_alone(server: Server, tmp_path: Path) -> None:
    server.files["/a.pt"] = Served(BODY)
    (tmp_path / ".netrc").write_text("machine example.org login other password no\nmachine 127.0.0.1 login me password hunter2\n")
    download(server.url("/a.pt"), tmp_path / "a.pt")
    assert server.logins == ["Basic " + base64.b64encode(b"me:hunter2").decode()]
    (tmp_path / ".netrc").write_text("machine example.org login other password no\n")
    download(server.url("/a.pt"), tmp_path / "a.pt")
    assert server.logins[1:] == [None]
    (tmp_path / ".netrc").unlink()
    download(server.url("/a.pt"), tmp_path / "a.pt")
    assert server.logins[2:] == [None]


def test_a_redirect_to_another_host_takes_no_login_along(server: Server, tmp_path: Path) -> None:
    elsewhere = server.url("/b.pt").replace("127.0.0.1", "localhost") + SIGNED
    server.files |= {"/a.pt": Served(statuses=[302], headers={"Location": elsewhere}), "/b.pt": Served(BODY)}
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\ndefault login me password hunter2\n")
    download(server.url("/a.pt"), tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == BODY
    assert [bool(login) for login in server.logins] == [True, False]


def test_what_is_kept_of_an_entry_is_without_secrets_and_what_is_registered_is_whole(tmp_path: Path) -> None:
    signed = "https://example.org/a.pt" + SIGNED
    entry = CheckpointEntry(file="a", licence="MIT", url=signed, mirrors=(signed,), page=signed, how=f"open {signed}", checked=signed)
    assert "hunter2" not in entry.model_dump_json() and entry.model_dump_json().count("token=...") == 5
    assert "hunter2" not in entry.origin + entry.licence_note + entry.model_copy(update={"url": None}).origin
    assert CheckpointEntry.model_validate(entry.model_dump()) == entry
    _write_entry(tmp_path, "mine", entry)
    assert Catalogue.shipped(tmp_path).entries["mine"] == entry
    _write_entry(tmp_path, "other", entry)
    assert Catalogue.shipped(tmp_path).entries["mine"] == entry


def test_a_version_of_an_older_build_shows_its_manifest_without_secrets() -> None:
    places = {"url": "https://me:hunter2@example.org/a", "mirrors": ["https://example.org/a" + SIGNED], "page": None}
    manifest = {"dataset": "one", "checkpoints": {"mine": {"file": "a.pt", "licence": "MIT", **places}}}
    version = Version(1, datetime(2026, 1, 1, tzinfo=UTC), (), 0, {"manifest": json.dumps(manifest)})
    kept = version.manifest["checkpoints"]["mine"]
    assert "hunter2" not in json.dumps(kept)
    assert CheckpointEntry.model_validate(kept).url == "https://example.org/a"


def test_a_netrc_that_cannot_be_read_is_one_line(server: Server, tmp_path: Path) -> None:
    server.files["/a.pt"] = Served(BODY)
    for lines in (b"macine 127.0.0.1 login me password hunter2\n", b"machine 127.0.0.1 login me hunter2\n", b"\xff\xfehunter2"):
        (tmp_path / ".netrc").write_bytes(lines)
        with pytest.raises(TransferError, match=r"\.netrc cannot be read \((line \d|it is no text)") as raised:
            download(server.url("/a.pt"), tmp_path / "a.pt")
        assert "hunter2" not in f"{raised.value} {raised.value.fix}"
