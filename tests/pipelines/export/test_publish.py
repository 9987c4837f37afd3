"""Publishing on a stand-in of the Hub, by the command, in processes of their own: the library reads its settings once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from generators.errors import InputError
from pipelines.build.build import run_build
from pipelines.export.publish import Repository
from pipelines.store import Store
from tests.commands import run_ntf
from tests.hub_server import Hub, hub
from tests.pipelines.store.fakes import edited, planned

ROOT = Path(__file__).parents[3]
NTF = """
import sys
from flows.cli import main
from tests.pipelines.store.fakes import fake_generators
with fake_generators():
    sys.argv = ["ntf", *sys.argv[1:]]
    main()
"""
LOAD = """
import json, sys
from datasets import load_dataset
loaded = load_dataset("lab/faces", token="hf_test")
feature = next(iter(loaded.values())).features["label"]
print(json.dumps({"names": feature.names, "ids": sorted(name for split in loaded.values() for name in split["id"])}))
"""


@pytest.fixture
def standing() -> Iterator[Hub]:
    with hub() as state:
        yield state


def environment(state: Hub, tmp_path: Path) -> dict[str, str]:
    settings = {"HF_ENDPOINT": state.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    settings |= {"HF_TOKEN": "hf_test", "HF_HUB_DISABLE_TELEMETRY": "1", "NTF_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"}
    return {**os.environ, **settings}


def start(state: Hub, tmp_path: Path, *words: str, code: str = NTF) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment(state, tmp_path), **pipes)


def ntf(state: Hub, tmp_path: Path, *words: str) -> tuple[int, str, str]:
    process = start(state, tmp_path, *words, "--store", str(tmp_path / "store"))
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_publishing_makes_a_private_repository_that_datasets_loads(store: Store, manifest: Path, tmp_path: Path, standing: Hub) -> None:
    code, out, err = ntf(standing, tmp_path, "publish", "fake", "lab/faces", "--json")
    assert code == 0, err
    facts = json.loads(out)
    files = standing.repositories["datasets/lab/faces"]
    assert facts["private"] and "datasets/lab/faces" not in standing.public and facts["url"] == f"{standing.address}/datasets/lab/faces"
    assert facts["unstated"] == ["creators", "contact", "licence", "citation"] and facts["licences"]["checkpoint sampler"] == "CC0"
    assert {"README.md", "DATASHEET.md", "croissant.json", "rows.jsonl", "SHA256SUMS", "sheet.webp"} < set(files)
    sums = dict(reversed(line.split("  ", 1)) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(body).hexdigest() for name, body in files.items() if name != "SHA256SUMS"}
    card = files["README.md"].decode()
    assert 'load_dataset("lab/faces"' in card and "license: other" in card and "license_link: DATASHEET.md" in card and "n<1K" in card
    assert json.loads(files["croissant.json"])["url"] == "https://huggingface.co/datasets/lab/faces"
    assert not list((tmp_path / "cache" / "publish").iterdir())
    assert standing.commits == [f"fake, version 1, digest {store.digest()}"]

    loading = start(standing, tmp_path, code=LOAD)
    printed, complaint = loading.communicate(timeout=400)
    assert loading.returncode == 0, complaint
    loaded = json.loads(printed.splitlines()[-1])
    assert loaded == {"names": ["real", "fake"], "ids": sorted(row.id for row in store.rows("role IN ('final', 'real')"))}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_another_version_takes_the_place_of_the_first(store: Store, manifest: Path, tmp_path: Path, standing: Hub) -> None:
    code, _, err = ntf(standing, tmp_path, "publish", "fake", "lab/faces")
    assert code == 0 and "states no creators" in err, err
    files = standing.repositories["datasets/lab/faces"]
    # The same once more commits nothing; another version takes the place of the first one, with nothing of it left over.
    code, out, err = ntf(standing, tmp_path, "publish", "fake", "lab/faces", "--json")
    assert code == 0 and json.loads(out)["changed"] is False and len(standing.commits) == 1, err
    files["data/train-00000-of-00009.parquet"] = b"of an older version"
    stated = edited(manifest, Chained=None)
    run_build(planned(stated), store, "cpu")
    data = json.loads(stated.read_text()) | {
        "publish": {"licence": "CC-BY-4.0", "contact": "me@example.org", "creators": [{"name": "A. B."}]}
    }
    stated.write_text(json.dumps(data))
    code, out, err = ntf(standing, tmp_path, "publish", "fake", "lab/faces", "--manifest", str(stated), "--json")
    assert code == 0, err
    assert json.loads(out)["removed"] == 1 and "data/train-00000-of-00009.parquet" not in files and len(standing.commits) == 2
    card = files["README.md"].decode()
    assert "license: cc-by-4.0" in card and "write to me@example.org" in card and "author = {A. B.}" in card and "Chained" not in card


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_upload_goes_on(store: Store, tmp_path: Path, standing: Hub) -> None:
    standing.pause = 1.5
    words = ("publish", "fake", "lab/faces", "--to", "imagefolder", "--store", str(tmp_path / "store"))
    process = start(standing, tmp_path, *words)
    deadline = time.monotonic() + 240
    while len(standing.stored) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2 * standing.pause)  # what was on its way arrives or breaks off
    kept, sent = set(standing.stored), len(standing.uploads())
    assert len(kept) >= 3 and not standing.commits and not standing.repositories["datasets/lab/faces"]
    (prepared,) = (tmp_path / "cache" / "publish").iterdir()
    (prepared / "DATASHEET.md").write_text("what was prepared is taken as it is")

    standing.pause = 0.0
    code, _, err = ntf(standing, tmp_path, "publish", "fake", "lab/faces", "--to", "imagefolder", "--json")
    assert code == 0, err
    assert not kept & set(standing.uploads()[sent:]) and len(standing.commits) == 1
    files = standing.repositories["datasets/lab/faces"]
    assert files["DATASHEET.md"] == b"what was prepared is taken as it is"
    assert sum(name.endswith(".png") and "/mask/" not in name for name in files) == len(store.rows("role IN ('final', 'real')"))


def test_what_needs_no_hub_is_refused_before_it_is_asked(
    store: Store, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*words: str) -> str:
        answer = run_ntf(["publish", *words, "--store", str(tmp_path / "store")], monkeypatch, capsys)
        assert answer.code == 2 and not answer.out and answer.err.count("\n") == 1, answer
        return answer.err

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: pytest.fail("the Hub is asked"))
    data = json.loads(manifest.read_text())
    data["checkpoints"]["swapper"]["licence"] = "no redistribution"
    strict = manifest.with_name("strict.yaml")
    strict.write_text(json.dumps({**data, "dataset": "strict"}))
    run_build(planned(strict), Store(tmp_path / "store", "strict"), "cpu")
    assert "no redistribution" in refusal("strict", "lab/strict")
    assert "is no name of a repository" in refusal("fake", "faces")
    assert "contradict" in refusal("fake", "lab/faces", "--use", "private", "--public")
    manifest.write_text(json.dumps({**data, "dataset": "other", "publish": {"licence": "mit"}}))
    assert "is the manifest of other, not of fake" in refusal("fake", "lab/faces", "--manifest", str(manifest))
    monkeypatch.undo()
    monkeypatch.setenv("NTF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal("fake", "lab/faces")


def test_a_look_first_uploads_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: pytest.fail("the Hub is asked"))
    words = ["publish", "fake", "lab/faces", "--prepare", str(tmp_path / "look"), "--store", str(tmp_path / "store")]
    answer = run_ntf(words, monkeypatch, capsys)
    assert answer.code == 0 and "nothing was uploaded" in answer.out, answer
    assert 'load_dataset("lab/faces"' in (tmp_path / "look" / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_hub_refuses_is_one_line_and_nothing_is_uploaded(store: Store, tmp_path: Path, standing: Hub) -> None:
    def refusal(name: str) -> str:
        code, out, err = ntf(standing, tmp_path, "-q", "publish", "fake", name)
        assert code == 2 and not out and err.count("\n") == 1 and "Traceback" not in err, (code, out, err)
        return err

    standing.repositories["datasets/lab/open"] = {"README.md": b"mine"}
    standing.public.add("datasets/lab/open")
    assert "everybody can read it" in refusal("lab/open")
    standing.refused = 403
    assert "hf auth login" in refusal("lab/faces")
    assert standing.repositories["datasets/lab/open"] == {"README.md": b"mine"} and not standing.stored
    standing.address = "http://127.0.0.1:9"  # nobody listens there
    assert "Check the network" in refusal("lab/faces")


def test_names_of_repositories() -> None:
    for name in ("faces", "a/b/c", "../x", "lab/", "/faces", "lab/fa ces", ""):
        with pytest.raises(InputError, match="is no name of a repository"):
            Repository(name)
    assert Repository("my-lab/faces.v2").name == "my-lab/faces.v2"
