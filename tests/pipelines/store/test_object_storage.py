"""A store on an S3-compatible server: moto's, on loopback."""

from __future__ import annotations

from pathlib import Path

import lance
import pytest

from generators.errors import InputError
from pipelines.build.build import run_build, status
from pipelines.build.runner import local_runner
from pipelines.build.shares import in_order, run_shards
from pipelines.examine.verify import verify
from pipelines.place import Place
from pipelines.reading import StoreDataset, read_table
from pipelines.store import Store
from pipelines.store.forget import forget
from pipelines.store.garbage import collect_garbage
from tests.object_storage import bucket, server
from tests.pipelines.store.fakes import edited, planned

__all__ = ["bucket", "server"]


@pytest.mark.slow
def test_a_dataset_lives_on_an_object_storage(bucket: str, store: Store, manifest: Path) -> None:
    plan = planned(manifest)
    remote = Store(Path(bucket), "fake")  # as a command line option gives it, with one slash lost
    assert remote.uri == "s3://datasets/mine/fake.lance" and not remote.exists()
    shards = in_order(status(plan, remote).missing)
    run_shards(shards[:5], local_runner(plan, remote, ("cpu",)))  # a builder that ends before its commit
    assert len(status(plan, Store(bucket, "fake")).present) == 5
    report = run_build(plan, Store(bucket, "fake"), "cpu")
    assert report.reused == 5
    assert remote.digest() == remote.version().digest == store.digest()
    assert verify(remote, sample=3, device="cpu").passed
    remote.tag("first")
    run_build(planned(edited(manifest, Swapped=None)), remote, "cpu")
    assert remote.digest("first") == store.digest() != remote.digest()
    forget(remote, next(row.identity for row in remote.rows("role = 'real'") if row.identity))
    found = collect_garbage(remote, keep=1)
    assert (found.versions, found.files) == ((2,), ())
    assert [version.number for version in remote.log()] == [1, 3]
    dataset = StoreDataset(remote, remote.dataset().version, read_table(remote).splits["train"])
    assert len(dataset.__getitems__(range(len(dataset)))) == len(dataset) > 0


def test_builders_of_one_machine_wait_for_each_other(bucket: str) -> None:
    with Store(bucket, "other").building(), pytest.raises(InputError, match="another build holds"), Store(bucket, "other").building():
        pass


def test_young_files_of_other_machines_stay(bucket: str, store: Store) -> None:
    remote = Store(bucket, "young")
    lance.write_dataset(store.dataset().to_table(), remote.uri)
    remote.data.write("orphan.lance", b"x")
    assert collect_garbage(remote).files == ()
    assert "orphan.lance" in remote.data.sizes()


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ("s3:/b/p", "s3://b/p"),
        ("s3://b/p/", "s3://b/p"),
        ("gs:/b", "gs://b"),
        ("store", "store"),
        ("/data/store", "/data/store"),
        ("a:b", "a:b"),
    ],
)
def test_places(given: str, location: str) -> None:
    assert Place.of(given).location == location
    assert Place.of(Path(given)).location == location
