"""Looking for new revisions on the Hub, with a stub in place of the network."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.catalogue.hub import new_revisions


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    entry = CheckpointEntry(file="x", hub="org/one", licence="test")
    other = CheckpointEntry(file="y", hub="org/two", licence="test")
    return Catalogue({"a": entry, "b": entry, "c": other, "d": CheckpointEntry(file="z", licence="test")}, tmp_path / "checkpoints")


def test_a_changed_revision_is_found_once(catalogue: Catalogue) -> None:
    commits = {"org/one": "1" * 40, "org/two": "2" * 40}
    assert new_revisions(catalogue, commits.__getitem__) == []  # the first look only remembers
    commits["org/one"] = "3" * 40
    (found,) = new_revisions(catalogue, commits.__getitem__)
    assert (found.repository, found.before, found.now, found.checkpoints) == ("org/one", "1" * 40, "3" * 40, ("a", "b"))
    assert new_revisions(catalogue, commits.__getitem__) == []


def test_without_network_it_is_skipped_with_one_line(catalogue: Catalogue, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def unreachable(repository: str) -> str:
        asked.append(repository)
        raise ConnectionError("no route to host")

    with caplog.at_level(logging.INFO, "pipelines.catalogue.hub"):
        assert new_revisions(catalogue, unreachable) == []
    assert (asked, len(caplog.records)) == (["org/one"], 1)
    assert "no route to host" in caplog.text
    assert not catalogue.folder.exists()


def test_offline_nothing_is_asked(catalogue: Catalogue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with caplog.at_level(logging.INFO, "pipelines.catalogue.hub"):
        assert new_revisions(catalogue) == []
    assert len(caplog.records) == 1


def test_a_damaged_note_is_written_anew(catalogue: Catalogue) -> None:
    catalogue.folder.mkdir()
    (catalogue.folder / "hub.json").write_text("{")
    assert new_revisions(catalogue, lambda _: "4" * 40) == []
    assert '"org/one": "4444' in (catalogue.folder / "hub.json").read_text()
