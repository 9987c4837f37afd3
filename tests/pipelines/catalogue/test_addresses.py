"""Secrets in addresses: they are used, and neither printed nor kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from generators.errors import InputError
from pipelines.catalogue import fetching
from pipelines.catalogue.addresses import TransferError, holds_login, joined, require_safe, shown
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.catalogue.lock import LOCK_FILE, read_lock
from pipelines.catalogue.transfer import download, note_of, partial_of
from pipelines.manifest.load import load_manifest
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


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://example.org/a.pt", "https://example.org/a.pt"),
        ("https://me:hunter2@example.org/a.pt", "https://example.org/a.pt"),
        ("https://me:hun@ter2@example.org/a.pt", "https://example.org/a.pt"),
        ("https://hunter2@example.org:8080/a@b.pt", "https://example.org:8080/a@b.pt"),
        ("https://example.org/@me/a.pt?dl=1", "https://example.org/@me/a.pt?dl=1"),
        ("https://example.org/a.pt?rlkey=shared&dl=1", "https://example.org/a.pt?rlkey=shared&dl=1"),
        ("https://example.org/a?id=5&Signature=hunter2&Expires=9", "https://example.org/a?id=5&Signature=...&Expires=9"),
        ("https://example.org/a?api_key=hunter2", "https://example.org/a?api_key=..."),
        ("https://example.org/a?X-Goog-Credential=hunter2", "https://example.org/a?X-Goog-Credential=..."),
        ("https://example.org/a?sig=hunter2&se=2026", "https://example.org/a?sig=...&se=2026"),
        ("/a?token=hunter2", "/a?token=..."),
    ],
)
def test_what_is_shown_of_an_address(address: str, expected: str) -> None:
    assert shown(address) == expected
    assert shown(expected) == expected


@given(st.text(), st.text("abcdef:@%"), st.text())
def test_no_user_is_shown_whatever_stands_around_it(path: str, user: str, query: str) -> None:
    address = f"https://{user}@example.org/{path}?token={query.replace('&', '')}"
    assert holds_login(address)
    assert shown(address).startswith("https://example.org/") and (len(query) < 9 or query.replace("&", "x") not in shown(address)[40:])


def test_faults_of_addresses_do_not_show_secrets() -> None:
    for act in (
        lambda: require_safe("http://me:hunter2@example.org/a?token=hunter2"),
        lambda: require_safe("https://me:hunter2@[bad/a?token=hunter2"),
        lambda: joined("https://me:hunter2@example.org/", "http://[bad?token=hunter2"),
    ):
        with pytest.raises(TransferError) as raised:
            act()
        assert ("hunter2" not in f"{raised.value} {raised.value.fix}" and "example.org" in str(raised.value)) or "[bad" in str(raised.value)


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
    for places in ({"url": "https://me:hunter2@example.org/a"}, {"url": "https://example.org/a", "mirrors": ["https://hunter2@b.org/a"]}):
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


def test_a_netrc_that_cannot_be_read_is_one_line(server: Server, tmp_path: Path) -> None:
    server.files["/a.pt"] = Served(BODY)
    (tmp_path / ".netrc").write_text("macine 127.0.0.1 login me password hunter2\n")
    with pytest.raises(TransferError, match=r"\.netrc cannot be read") as raised:
        download(server.url("/a.pt"), tmp_path / "a.pt")
    assert "hunter2" not in str(raised.value)
