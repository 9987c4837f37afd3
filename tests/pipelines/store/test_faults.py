"""What a store must stand: kills, a full disk, a read-only folder, two builders, damaged files, the future."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from generators.errors import InputError
from pipelines.build.build import Build, run_build, status
from pipelines.store import SCHEMA, Store
from pipelines.store.garbage import collect_garbage
from tests.pipelines.store import forked_builds
from tests.pipelines.store.fakes import edited, fake_dataset, planned

ROOT = Path(__file__).parents[3]
KILLS = 60


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Asks the forking script for one build: `forks(manifest, store, kill_after, notes)` gives its answer."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(forked_builds.__file__))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, cwd=tmp_path)
    assert process.stdin and process.stdout and process.stdout.readline() == "ready\n"

    def ask(manifest: Path, store: Path, kill_after: float | None, notes: int = 0) -> str:
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps({"manifest": str(manifest), "store": str(store), "kill_after": kill_after, "notes": notes}) + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield ask
    process.stdin.close()
    process.wait(30)


def lost_and_doubled(store: Store, promised: dict[int, str]) -> tuple[int, int]:
    """Rows that any promised version lacks (all of them if its digest is not the promised one), and rows that the newest has twice."""
    if not store.exists():
        return 0, 0
    lost = sum(
        version.rows for version in store.log() if promised.setdefault(version.number, version.digest) != store.digest(version.number)
    )
    lost += 10**6 * len(promised.keys() - {version.number for version in store.log()})
    counts = Counter(row.id for row in store.rows())
    return lost, sum(count - 1 for count in counts.values())


@pytest.mark.slow
def test_no_kill_loses_or_doubles_a_row(
    tmp_path: Path, forks: Callable[..., str], record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Builds are killed at random moments; each is then finished, and must equal an undisturbed one."""
    manifest = fake_dataset(tmp_path / "data", count=40)
    chance = random.Random(0)
    kills = lost = doubled = rounds = garbage = 0
    while kills < KILLS:
        rounds += 1
        (manifest.parent / "swapper.txt").write_text(str(rounds))  # from round 2 on, a commit drops what is stale
        store, undisturbed = Store(tmp_path / "killed", "fake"), Store(tmp_path / f"undisturbed{rounds}", "fake")
        promised = {version.number: version.digest for version in store.log()} if store.exists() else {}
        assert forks(manifest, tmp_path / f"undisturbed{rounds}", None) == "done"
        answer, here = "killed", 0
        while answer == "killed":
            to_make = len(status(planned(manifest), store).missing)
            waiting = len(store.notes.read())
            # From a random number of shards on, a random moment: while it plans, between and inside the writing of shards, at the commit.
            notes, delay = chance.randint(waiting, waiting + to_make), chance.uniform(0, 0.1)
            enough = here >= 12 or kills >= KILLS
            answer = forks(manifest, tmp_path / "killed", None if enough else delay, notes)
            kills, here = kills + (answer == "killed"), here + 1
            now = lost_and_doubled(store, promised)
            lost, doubled = lost + now[0], doubled + now[1]
        assert answer == "done"
        assert store.digest() == store.version().digest == undisturbed.digest()
        garbage += len(collect_garbage(store).files)
        assert store.digest() == undisturbed.digest()
    summary = f"{kills} kills in {rounds} builds: {lost} rows lost, {doubled} duplicated, {garbage} orphaned files found by gc"
    record_property("faults", summary)
    with capsys.disabled():
        print(f"\n{summary}")
    assert (lost, doubled) == (0, 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    yield from mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")


def mounted(folder: Path, *what: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    if os.geteuid() or subprocess.run(["mount", *what, str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, manifest: Path) -> None:
    store, plan = Store(small_disk, "fake"), planned(manifest)
    run_build(plan, store, "cpu")
    digest = store.digest()
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    larger = planned(
        edited(manifest, Sampled={"count": 40, "real": "people", "chain": [{"sample": "fake_sampler", "checkpoint": "sampler"}]})
    )
    with pytest.raises(InputError, match="cannot write to the store"):
        run_build(larger, store, "cpu")
    assert store.digest() == digest == store.version().digest
    filler.unlink()
    run_build(larger, store, "cpu")
    assert store.digest() == store.version().digest != digest


def test_a_disk_that_fills_while_the_commit_is_written(small_disk: Path, manifest: Path) -> None:
    store = Store(small_disk, "fake")
    run_build(planned(manifest), store, "cpu")
    digest = store.digest()
    fewer = planned(edited(manifest, Swapped=None))
    filler = small_disk / "filler"
    with store.building():
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        with pytest.raises(InputError, match="cannot write to the store"):
            store.commit(fewer.keys, "run")
    assert store.digest() == digest
    filler.unlink()
    run_build(fewer, store, "cpu")
    assert {row.subset for row in store.rows()} == {"people", "Sampled", "Chained"}


def test_a_read_only_store_is_read_and_refuses_builds(store: Store, tmp_path: Path, manifest: Path) -> None:
    """Root writes where permissions forbid it, so the folder is mounted read-only."""
    digest = store.digest()
    for folder in mounted(tmp_path / "frozen", "--bind", str(tmp_path / "store")):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        frozen = Store(folder, "fake")
        assert frozen.digest() == digest and len(frozen.log()) == 1
        with pytest.raises(InputError, match=r"cannot write to the store .*Read-only file system"):
            run_build(planned(edited(manifest, Swapped=None)), frozen, "cpu")
        assert frozen.digest() == digest


def test_a_store_that_may_not_be_written(store: Store, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pipelines.place.Place.write", refuse)
    with pytest.raises(InputError, match=r"cannot write to the store .*Permission denied"):
        run_build(planned(manifest), store, "cpu")


def test_a_second_builder_is_told_to_wait(store: Store, manifest: Path, tmp_path: Path) -> None:
    plan = planned(edited(manifest, Swapped=None))
    with (
        Build(plan, store, "cpu"),
        pytest.raises(InputError, match="another build holds"),
        Build(plan, Store(tmp_path / "store", "fake"), "cpu"),
    ):
        pass
    run_build(plan, store, "cpu")


def test_two_builders_that_no_lock_keeps_apart_double_nothing(tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an object storage: both have made the same shards, and the second commits while the first one's commit lands."""
    plan = planned(manifest)
    store, digest = Store(tmp_path / "store", "fake"), None
    run_build(planned(edited(manifest, Swapped=None)), store, "cpu")
    plan = planned(edited(manifest, Swapped={"count": 8, "real": "people", "chain": [{"sample": "fake_sampler", "checkpoint": "sampler"}]}))
    run_build(plan, Store(tmp_path / "alone", "fake"), "cpu")
    digest = Store(tmp_path / "alone", "fake").digest()
    builds = [Build(plan, Store(tmp_path / "store", "fake"), "cpu") for _ in range(2)]
    monkeypatch.setattr("filelock.FileLock.acquire", lambda self: None)
    with builds[0] as first, builds[1] as second:
        for build in (first, second):
            build.run()
            kept = build.store.notes.read()
        late = second.store.keys

        def keys_then_first_commits(*version: int | None) -> dict[str, int]:
            found = late(*version)
            if not version:  # the build looks what is there; the store's own commit asks for its version
                return found
            monkeypatch.setattr(second.store, "keys", late)
            first.commit()
            for note in kept.values():
                second.store.notes.write(note)
            return found

        monkeypatch.setattr(second.store, "keys", keys_then_first_commits)
        second.commit()
    assert max(Counter(row.id for row in store.rows()).values()) == 1
    assert store.digest() == store.version().digest == digest


def test_a_waiting_shard_with_a_cut_file_is_made_again(tmp_path: Path, manifest: Path) -> None:
    plan, store = planned(manifest), Store(tmp_path / "store", "fake")
    with Build(plan, store, "cpu") as build:
        build.run()
    notes = build.shards.notes
    victim = Path(store.uri) / "data" / notes[3].files[0][0]
    victim.write_bytes(victim.read_bytes()[:100])
    assert [shard.key for shard in status(plan, store).missing] == [notes[3].key]
    report = run_build(plan, store, "cpu")
    assert report.made == 1
    run_build(plan, Store(tmp_path / "undisturbed", "fake"), "cpu")
    assert store.digest() == Store(tmp_path / "undisturbed", "fake").digest()


def test_a_store_of_a_newer_schema_is_left_alone(tmp_path: Path, manifest: Path) -> None:
    schema = SCHEMA.with_metadata({"ntf.schema": "99"})
    lance.write_dataset(pa.Table.from_pylist([], schema), str(tmp_path / "store" / "fake.lance"), schema=schema)
    store = Store(tmp_path / "store", "fake")
    for use in (store.digest, store.rows, lambda: run_build(planned(manifest), store, "cpu")):
        with pytest.raises(InputError, match=r"has schema 99.*newer ntf"):
            use()
    assert lance.dataset(store.uri).version == 1
