"""Servers that drip: neither their headers nor their bodies keep anybody waiting."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import huggingface_hub
import pytest

from pipelines.catalogue import fetching, hub_files, pace, transfer
from pipelines.catalogue.addresses import TransferError
from pipelines.catalogue.hub_pace import hold_to_pace
from pipelines.catalogue.transfer import download, partial_of, remote_size
from tests.pipelines.catalogue.servers import Served, Server, serving
from tests.pipelines.catalogue.test_fetching import catalogue

BODY = bytes(range(256)) * 12_000  # 3 MB: three blocks
SHA256 = hashlib.sha256(BODY).hexdigest()
AT_ONCE = (0.0,)
LATE = "the server has not sent the headers of its answer within 0.2 seconds"
SLOW = r"the server sends less than 1,024 bytes a second"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    with serving() as state:
        yield state


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(pace, "PACE_SECONDS", 0.05)


@pytest.mark.usefixtures("hurried")
def test_a_server_that_sends_a_byte_now_and_then_ends_with_one_line_and_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    server.files["/w.pkl"] = Served(BODY, pause=0.02, block=1)
    with pytest.raises(TransferError, match=rf"w\.pkl: {SLOW}"):
        download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE)
    assert len(server.gets("/w.pkl")) == transfer.RETRIES + 1
    come = partial_of(tmp_path / "w.pkl").stat().st_size
    assert 0 < come < 1000
    server.files["/w.pkl"] = Served(BODY)
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl") == SHA256
    assert server.gets("/w.pkl")[-1] == f"bytes={come}-"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("elsewhere", [False, True], ids=["at once", "after a redirect"])
def test_headers_that_drip_end_with_one_line_and_the_next_run_goes_on(server: Server, tmp_path: Path, elsewhere: bool) -> None:
    address, target = server.url("/w.pkl"), tmp_path / "w.pkl"
    server.files["/w.pkl"] = Served(BODY, cuts=[1_500_000] * 20)
    with pytest.raises(TransferError):
        download(address, target, waits=AT_ONCE)
    come = partial_of(target).stat().st_size
    asked = len(server.gets("/w.pkl"))
    server.files["/far" if elsewhere else "/w.pkl"] = Served(BODY, drip=0.05)
    if elsewhere:
        server.files["/w.pkl"] = Served(statuses=[302] * 9, headers={"Location": "/far"})
    with pytest.raises(TransferError, match=f"w\\.pkl: {LATE}") as caught:
        download(address, target, waits=AT_ONCE)
    assert "\n" not in str(caught.value) and "goes on where it was" in str(caught.value)
    assert len(server.gets("/w.pkl")) == asked + transfer.RETRIES + 1
    server.files["/w.pkl"] = Served(BODY)
    assert download(address, target) == SHA256
    assert server.gets("/w.pkl")[-1] == f"bytes={come}-"


@pytest.mark.usefixtures("hurried")
def test_a_server_that_is_asked_for_a_size_alone(server: Server) -> None:
    server.files["/w.pkl"] = Served(BODY, drip=0.05)
    assert remote_size(server.url("/w.pkl")) is None


@pytest.mark.usefixtures("hurried")
def test_what_others_serve_still_comes(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.download, "__defaults__", (None, None, AT_ONCE))
    server.files |= {"/slow": Served(BODY, drip=0.05), "/good": Served(BODY)}
    own = catalogue(tmp_path, slow={"url": server.url("/slow")}, good={"url": server.url("/good")})
    report = fetching.fetch(["slow", "good"], own)
    assert [done.name for done in report.fetched] == ["good"]
    assert LATE in report.failed["slow"]


def test_an_answer_in_time_is_left_alone(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch ends with the headers: a body may take longer than they may."""
    monkeypatch.setattr(pace, "HEADER_SECONDS", 1.0)
    server.files["/w.pkl"] = Served(BODY, pause=0.4, block=1_000_000)
    assert download(server.url("/w.pkl"), tmp_path / "w.pkl", waits=AT_ONCE) == SHA256
    assert len(server.gets("/w.pkl")) == 1


@pytest.mark.parametrize(("waits", "works", "enough"), [(20.0, 0.0, False), (0.5, 60.0, True), (20.0, 60.0, False), (0.5, 0.0, True)])
def test_only_the_time_that_the_server_takes_counts(monkeypatch: pytest.MonkeyPatch, waits: float, works: float, enough: bool) -> None:
    """Blocks of 1000 bytes after `waits` seconds each, which take `works` seconds to be written."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def blocks() -> Iterator[bytes]:
        for _ in range(200):
            clock[0] += waits
            yield bytes(1000)

    come = 0
    with nullcontext() if enough else pytest.raises(pace.SlowServer, match="less than 1,024 bytes"):
        for block in pace.at_pace(blocks()):
            clock[0] += works
            come += len(block)
    assert come == (200_000 if enough else 3000)


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server as the Hub of huggingface_hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}")
    server.repositories["org/net"] = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": BODY}
    huggingface_hub.close_session()
    yield server
    huggingface_hub.close_session()


WEIGHTS = "/org/net/resolve/c0ffee0000000000000000000000000000000000/diffusion_pytorch_model.safetensors"


def test_a_folder_of_the_hub_comes_at_its_pace(hub: Server, tmp_path: Path) -> None:
    listed = hub_files.list_folder("org/net", None, None, tmp_path / "net", AT_ONCE)
    sums = hub_files.fetch_folder(listed, tmp_path / "net", transfer.Watch(), waits=AT_ONCE)
    assert sums["diffusion_pytorch_model.safetensors"] == SHA256


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("served", "line"), [(Served(BODY, drip=0.05), LATE), (Served(BODY, pause=0.02, block=1), SLOW)], ids=["headers", "body"]
)
def test_a_hub_that_drips_ends_with_one_line(hub: Server, served: Served, line: str) -> None:
    hub.files["/w"] = served

    def ask() -> bytes:
        return huggingface_hub.get_session().get(hub.url("/w"), timeout=30).content

    with pytest.raises(TransferError, match=line) as caught:
        hub_files._patiently(ask, "org/net", AT_ONCE * 9)
    assert "\n" not in str(caught.value) and "goes on where it was" in str(caught.value)
    assert len(hub.gets("/w")) == transfer.RETRIES


def test_the_pace_is_set_once_on_each_client(hub: Server) -> None:
    before = len(huggingface_hub.get_session().event_hooks["request"])
    for _ in range(3):
        hold_to_pace()
    assert len(huggingface_hub.get_session().event_hooks["request"]) == before + 1
    huggingface_hub.close_session()
    assert len(huggingface_hub.get_session().event_hooks["request"]) == before
    hold_to_pace()
    assert len(huggingface_hub.get_session().event_hooks["request"]) == before + 1
