"""kill -9 of a flow, of a worker with what it runs, and of the server: each time the next run makes only what is missing. And the end of
a command by SIGTERM, which leaves nothing running."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from generators.errors import InputError
from pipelines.build.build import run_build, status
from pipelines.manifest.load import load_manifest
from pipelines.plan.plan import Plan, make_plan
from pipelines.store import Store
from tests.flows.processes import NTF, PREFECT, in_group, kill, prefect, running, start, start_server, surroundings, wait_for
from tests.support import checkpoint_folder, small_manifest, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROGRAM = "import sys; from flows.build_multistep import build_dataset; print('made', build_dataset(*sys.argv[1:], 'cpu')['made'])"


@dataclass
class Site:
    """A server, and a manifest with what a whole build of it comes to."""

    folder: Path
    environment: dict[str, str]
    server: subprocess.Popen[bytes]
    manifest: Path
    plan: Plan
    digest: str

    def flow(self, store: Path) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", PROGRAM, str(self.manifest), str(store)], self.environment, self.folder, "flow.log")

    def wait_for_shards(self, store: Store, count: int, process: subprocess.Popen[bytes]) -> None:
        wait_for(f"{count} shards", lambda: len(store.notes.read()) >= count or process.poll() is not None, 240)
        assert not store.exists()  # the build is still under way

    def goes_on(self, store: Store) -> None:
        """Runs the flow again, and checks that it makes only what is missing, and all of that."""
        missing = len(status(self.plan, store).missing)
        assert 0 < missing < len(self.plan.shards)
        again = self.flow(Path(store.root.location))
        assert again.wait(300) == 0, (self.folder / "flow.log").read_text()[-3000:]
        assert (self.folder / "flow.log").read_text().splitlines()[-1] == f"made {missing}"
        assert store.digest() == self.digest
        assert in_group(again) == []


def is_free(store: Store) -> bool:
    """Whether no build holds the store."""
    try:
        with store.building():
            return True
    except InputError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    data: dict[str, Any] = small_manifest(checkpoint_folder(folder / "weights"))
    data["subsets"]["DDIM"]["count"] = 80  # the slow part
    manifest = write_manifest(folder / "m.yaml", data)
    plan = make_plan(load_manifest(manifest))
    reference = Store(folder / "reference", "tiny")
    run_build(plan, reference, "cpu")
    environment = surroundings(folder)
    environment["NTF_MANIFESTS"] = str(folder)  # where the worker's runs take manifests from
    site = Site(folder, environment, start_server(environment, folder), manifest, plan, reference.digest())
    yield site
    kill(site.server)


def test_the_flow_is_killed(site: Site, tmp_path: Path) -> None:
    store = Store(tmp_path, "tiny")
    flow = site.flow(tmp_path)
    site.wait_for_shards(store, 6, flow)
    kill(flow)
    assert in_group(flow) == []
    site.goes_on(store)


def test_two_workers_share_a_store_and_one_is_killed(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The build itself waits in a process without a device. The other worker takes over what the killed one held."""
    store = Store(tmp_path, "tiny")
    prefect(site.environment, "work-pool", "create", "gpu", "--type", "process")
    prefect(site.environment, "--no-prompt", "deploy", "--all")
    command = [*PREFECT, "worker", "start", "--pool", "gpu", "--limit", "1"]
    workers = [start(command, site.environment, site.folder, f"worker-{number}.log") for number in (1, 2)]
    with running(workers[0]), running(workers[1]):
        program = PROGRAM.replace("'cpu'", "'cpu', shares=2")
        build = start([sys.executable, "-c", program, str(site.manifest), str(tmp_path)], site.environment, site.folder, "spread.log")
        site.wait_for_shards(store, 6, build)
        kill(workers[0])
        began = time.monotonic()
        assert build.wait(400) == 0, (site.folder / "spread.log").read_text()[-3000:]
        seconds = time.monotonic() - began
    assert (site.folder / "spread.log").read_text().splitlines()[-1] == f"made {len(site.plan.shards)}"
    assert store.digest() == site.digest
    assert [in_group(worker) for worker in workers] == [[], []]
    assert is_free(store)
    with capsys.disabled():
        print(f"\nfrom the kill of one of two workers to the end of the build: {seconds:.0f} s")


def test_the_server_is_killed(site: Site, tmp_path: Path) -> None:
    store = Store(tmp_path, "tiny")
    flow = site.flow(tmp_path)
    site.wait_for_shards(store, 6, flow)
    kill(site.server)
    kill(flow)
    site.server = start_server(site.environment, site.folder)
    site.goes_on(store)


def test_a_command_ended_by_sigterm_takes_its_server_with_it(tmp_path: Path) -> None:
    alone = {name: value for name, value in surroundings(tmp_path).items() if name != "PREFECT_API_URL"}
    demo = start([*NTF, "demo", "--folder", str(tmp_path / "demo")], alone, tmp_path, "demo.log")
    notes = Store(tmp_path / "demo" / "store", "demo").notes
    wait_for("a shard", lambda: notes.read() or demo.poll() is not None, 240)
    assert len(in_group(demo)) > 1, (tmp_path / "demo.log").read_text()[-3000:]  # the server of this one run
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(60) == 128 + signal.SIGTERM
    wait_for("the end of the server", lambda: in_group(demo) == [], 30)
