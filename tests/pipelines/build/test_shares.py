"""A build that several share: each chain is made once, what a lost worker held is taken over, and it comes to the whole."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from generators.errors import InputError
from pipelines.build import claims
from pipelines.build.build import Build, run_build, status
from pipelines.build.claims import leases_of, make_claimed
from pipelines.build.runner import local_runner
from pipelines.build.shares import ShardsMade, chains_of
from pipelines.plan.plan import Plan
from pipelines.store import Store, leases
from tests.object_storage import bucket, server
from tests.pipelines.store.fakes import fake_dataset, fake_generators, planned, write

__all__ = ["bucket", "server"]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    monkeypatch.setattr(claims, "POLL", 0.1)
    with fake_generators():
        yield planned(fake_dataset(tmp_path / "data", count=24))


@pytest.fixture(params=["folder", "object storage"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def work(plan: Plan, root: str, workers: int, results: list[ShardsMade]) -> threading.Thread:
    """A worker in a thread, with a store of its own as on another machine."""
    store = Store(root, "fake")
    thread = threading.Thread(target=lambda: results.append(make_claimed(plan, store, local_runner(plan, store, ("cpu",)), workers)))
    thread.start()
    return thread


def test_chains_need_nothing_of_each_other(plan: Plan) -> None:
    chains = chains_of(plan, plan.shards)
    assert {shard.key for chain in chains.values() for shard in chain} == plan.keys
    for chain in chains.values():
        keys = {shard.key for shard in chain}
        assert all(set(shard.inputs) <= keys for shard in chain)
    assert max(map(len, chains.values())) == 2


def test_workers_make_the_deliveries_that_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "POLL", 0.1)
    path = fake_dataset(tmp_path / "data", count=8)
    write(path, {**yaml.safe_load(path.read_text()), "deliveries": {"web": "feed", "hard": ["feed", "messenger"]}})
    with fake_generators():
        plan, store, reference = planned(path), Store(tmp_path / "store", "fake"), Store(tmp_path / "reference", "fake")
        shards = make_claimed(plan, store, local_runner(plan, store, ("cpu",)), deliveries=["web"])
        assert {note.key for note in shards.notes} == plan.keys | {shard.key for shard in plan.deliveries(["web"])}
        report = run_build(plan, store, "cpu", deliveries=["web"])
        assert (report.made, sorted(report.delivered)) == (0, ["web"])
        run_build(plan, reference, "cpu", deliveries=["web"])
        with pytest.raises(InputError, match="no delivery 'wab'"):
            make_claimed(plan, store, local_runner(plan, store, ("cpu",)), deliveries=["wab"])
    assert store.digest() == reference.digest()


def test_workers_share_and_make_nothing_twice(plan: Plan, root: str, tmp_path: Path) -> None:
    results: list[ShardsMade] = []
    threads = [work(plan, root, 3, results) for _ in range(3)]
    for thread in threads:
        thread.join()
    made = Counter(note.key for result in results for note in result.notes)
    assert made.keys() == plan.keys and set(made.values()) == {1}
    assert sum(bool(result.notes) for result in results) >= 2, "one worker took all"
    store, reference = Store(root, "fake"), Store(tmp_path / "reference", "fake")
    assert not store.exists(), "a share commits nothing"
    report = run_build(plan, store, "cpu")
    assert (report.made, report.reused) == (0, len(plan.shards))
    run_build(plan, reference, "cpu")
    assert store.digest() == reference.digest()
    assert store.root.child("fake.leases").states() == {}


def test_a_lost_worker_is_taken_over(plan: Plan, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "EXPIRY", 1.5)
    monkeypatch.setattr(leases, "BEAT", 0.3)
    store = Store(root, "fake")
    lost = leases_of(store)
    monkeypatch.setitem(lost._holder, "host", "another machine")
    monkeypatch.setattr(lost, "_beat", lambda: None)
    chains = list(chains_of(plan, plan.shards))
    assert len(lost.claim(chains[:4], 4)) == 4
    results: list[ShardsMade] = []
    start = time.monotonic()
    work(plan, root, 2, results).join()
    assert {note.key for note in results[0].notes} == plan.keys
    assert time.monotonic() - start > 1.5  # it waited for the lease to expire


def test_two_builders_on_an_object_storage(plan: Plan, bucket: str, tmp_path: Path) -> None:
    """The second waits for the first, and then has nothing to make."""
    made: list[int] = []
    ready = threading.Event()

    def build(first: bool) -> None:
        store = Store(f"{bucket}/{tmp_path.name}", "fake")
        with Build(plan, store, "cpu", wait=True) as building:
            ready.set()
            building.run()
            made.append(building.report(building.commit()).made)

    threads = [threading.Thread(target=build, args=(True,))]
    threads[0].start()
    assert ready.wait(60)
    with pytest.warns(UserWarning, match="waiting for its end"):
        build(False)
    threads[0].join()
    assert made == [len(plan.shards), 0]
    store = Store(f"{bucket}/{tmp_path.name}", "fake")
    assert not status(plan, store).missing and store.digest() == store.version().digest


def test_who_only_waits_needs_no_device(plan: Plan, tmp_path: Path) -> None:
    with Build(plan, Store(tmp_path / "store", "fake"), "cuda:7", elsewhere=True) as build:
        assert build.devices == ("cuda:7",)
    with pytest.raises(InputError, match="there is no GPU 7"):
        Build(plan, Store(tmp_path / "store", "fake"), "cuda:7")
