"""Leases: one holder at a time, in a folder and on an object storage, and a takeover when the holder is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.place import Place
from pipelines.store import Store, StoreBusy, StoreWarning, leases
from pipelines.store.leases import Leases
from tests.object_storage import bucket, server

__all__ = ["bucket", "server"]

PROGRAM = """
import sys, time
from pipelines.place import Place
from pipelines.store.leases import Leases
print(Leases(Place.of(sys.argv[1])).claim(["a"]), flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["folder", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(str(tmp_path / "leases"))
    return Place(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")


def hidden(monkeypatch: pytest.MonkeyPatch, *holders: Leases) -> None:
    """Lets each holder be on a machine of its own, so that only its beats tell of it."""
    for number, holder in enumerate(holders):
        monkeypatch.setitem(holder._holder, "host", f"machine {number}")


def test_one_of_many_gets_it(place: Place) -> None:
    taken: list[str] = []
    with Leases(place) as first:
        assert first.claim(["a", "b", "c"], 2) == ["a", "b"]
        with Leases(place) as second:
            assert second.claim(["a", "b", "c"], 3) == ["c"]
            assert second.held().keys() == {"a", "b"}
            assert first.claim(["a"]) == []  # its own already
            first.release(["a"])
            assert second.claim(["a"]) == ["a"]
        assert first.claim(["c"]) == ["c"]
    holders = [Leases(place) for _ in range(6)]
    start = threading.Barrier(len(holders))

    def take(holder: Leases) -> None:
        start.wait()
        taken.extend(holder.claim(["a"]))

    threads = [threading.Thread(target=take, args=(holder,)) for holder in holders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == ["a"]
    for holder in holders:
        holder.close()
    assert place.states() == {}


def test_a_holder_that_stops_beating_is_taken_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "EXPIRY", 2.0)
    monkeypatch.setattr(leases, "BEAT", 0.2)
    with Leases(place) as alive, Leases(place) as dead, Leases(place) as other:
        hidden(monkeypatch, alive, dead, other)
        assert alive.claim(["a"]) == ["a"]
        monkeypatch.setattr(dead, "_beat", lambda: None)
        assert dead.claim(["b"]) == ["b"]
        assert other.claim(["a", "b"], 2) == []
        deadline = time.monotonic() + 30
        taken: list[str] = []
        while not taken and time.monotonic() < deadline:
            time.sleep(0.2)
            taken = other.claim(["a", "b"], 2)
        assert taken == ["b"]  # and not the one that beats
        dead.release(["b"])  # comes back, and takes nothing away from the new holder
        with Leases(place) as third:
            hidden(monkeypatch, third)
            assert third.claim(["b"]) == []


def test_a_process_that_is_killed_is_seen_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline().strip() == "['a']"
    with Leases(Place(str(tmp_path))) as other:
        assert other.claim(["a"]) == []
        process.kill()
        process.wait()
        assert other.claim(["a"]) == ["a"]


def test_the_second_builder_waits(place: Place) -> None:
    first, second = Store(place.location, "d"), Store(place.location, "d")
    with first.building(), pytest.raises(StoreBusy, match="another build"), second.building():
        pass
    order: list[str] = []

    def build(store: Store, name: str, act: Callable[[], None]) -> None:
        with store.building(wait=True):
            order.append(f"{name} begins")
            act()
            order.append(f"{name} ends")

    with pytest.warns(StoreWarning, match="waiting for its end"):
        held = threading.Event()
        thread = threading.Thread(target=build, args=(first, "first", lambda: (held.set(), time.sleep(1.5))))
        thread.start()
        assert held.wait(30)
        build(second, "second", lambda: None)
        thread.join()
    assert order == ["first begins", "first ends", "second begins", "second ends"]
