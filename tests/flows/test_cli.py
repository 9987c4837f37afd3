"""The command line: exit codes that scripts can use, one line for what is wrong and its fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from flows import console
from generators.training.train import RECIPES
from tests.commands import Answer
from tests.support import write_manifest

Ntf = Callable[..., Answer]


def test_validate_plan_build_and_build_again(ntf: Ntf, manifest_file: Path) -> None:
    assert "3 subsets, 22 fakes" in ntf("validate", str(manifest_file)).out
    planned = json.loads(ntf("plan", str(manifest_file), "--json").out)
    assert not any(shard["present"] for shard in planned["shards"])
    built = ntf("build", str(manifest_file), "--device", "cpu")
    assert built.code == 0
    assert "version 1" in built.out
    assert all(shard["present"] for shard in json.loads(ntf("plan", str(manifest_file), "--json").out)["shards"])
    again = ntf("build", str(manifest_file), "--device", "cpu")
    assert (again.code, "nothing to do" in again.out) == (0, True)
    versions = json.loads(ntf("store", "log", "tiny", "--json").out)
    assert [version["version"] for version in versions] == [1]
    assert ntf("store", "digest", "tiny").out.strip() == versions[0]["digest"]
    image = json.loads(ntf("store", "show", "tiny", "SimSwap_Style2/faces/000001/1").out)[0]
    assert [link["generator"] for link in image["chain"]] == ["stylegan2", "simswap"]


def test_plan_of_the_paper_names_what_is_missing(ntf: Ntf) -> None:
    answer = ntf("plan", "paper")
    assert answer.code == 1
    assert "94,000 fakes" in answer.out
    assert "checkpoint stylegan2-celebahq-256" in answer.out
    assert "stylegan2-celebahq-256x256.pkl" in answer.out


@pytest.mark.parametrize(
    ("lists", "code", "named"),
    [
        ({"identities": b"a.png,ann\nb.png,bob\n"}, 0, ""),
        ({"identities": "a.png,ann\nb.png,bob\n".encode("utf-8-sig")}, 0, ""),
        ({"identities": "a.png,Zo\u00eb\nb.png,bob\n".encode("latin-1")}, 2, "identities.txt, line 1 is not UTF-8, perhaps Latin-1"),
        ({"identities": "a.png,ann\nb.png,bob\n".encode("utf-16")}, 2, "identities.txt is UTF-16 and not UTF-8"),
        ({"identities": b"a.png,ann\nb.png,bob\n", "exclude": b"Ann\n"}, 2, "exclude.txt, line 1: 'Ann' is nobody"),
        ({"exclude": b"ann\n"}, 2, "`exclude` needs `identities`"),
        ({"prompts": b"a caf\xe9\n"}, 2, "prompts.txt, line 1 is not UTF-8"),
        ({"prompts": b"\n"}, 2, "prompts.txt is empty"),
        ({"prompts": None}, 1, "prompts.txt"),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_plan_tells_what_is_no_use_from_what_is_only_missing(
    ntf: Ntf, tmp_path: Path, manifest_data: dict[str, Any], lists: dict[str, bytes | None], code: int, named: str, form: tuple[str, ...]
) -> None:
    (tmp_path / "own").mkdir()
    for name, grey in (("a.png", 10), ("b.png", 200)):
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(tmp_path / "own" / name)
    for name, text in lists.items():
        if text is not None:
            (tmp_path / f"{name}.txt").write_bytes(text)
    own = {name: f"{name}.txt" for name in lists if name != "prompts"}
    chain = {"sample": "stylegan2", "checkpoint": "sg2"}
    if "prompts" in lists:
        chain = {"prompt": "stable_diffusion", "checkpoint": "stable-diffusion-demo-32", "safety": "off", "prompts": "prompts.txt"}
    manifest_data |= {
        "reals": {"own": {"path": "own", "licence": "x", **own}},
        "subsets": {"S": {"count": 1, "real": "own", "chain": [chain]}},
    }
    answer = ntf("plan", str(write_manifest(tmp_path / "m.yaml", manifest_data)), *form)
    assert answer.code == code
    assert named in answer.out
    assert "Traceback" not in answer.err


def _unknown_key(data: dict[str, Any]) -> None:
    data["subsetz"] = {}


def _missing_checkpoint(data: dict[str, Any]) -> None:
    data["checkpoints"]["sg2"]["file"] = "gone.safetensors"


def _no_image(data: dict[str, Any]) -> None:
    Path("reals").mkdir()
    Path("reals/broken.jpg").write_bytes(b"\xff\xd8 no picture")
    data["reals"]["faces"] = {"path": str(Path("reals").resolve()), "licence": "test"}
    del data["subsets"]["SimSwap_Style2"]  # it would need a source in every split


@pytest.mark.parametrize(
    ("harm", "named"),
    [(_unknown_key, "subsetz"), (_missing_checkpoint, "gone.safetensors"), (_no_image, "broken.jpg")],
)
def test_bad_input_is_one_line_and_exit_code_2(
    ntf: Ntf, tmp_path: Path, manifest_data: dict[str, Any], harm: Callable[[dict[str, Any]], None], named: str
) -> None:
    harm(manifest_data)
    answer = ntf("build", str(write_manifest(tmp_path / "bad.yaml", manifest_data)), "--device", "cpu")
    assert answer.code == 2
    complaint = [line for line in answer.err.splitlines() if line.startswith("error:")]
    assert len(complaint) == 1
    assert named in complaint[0]
    assert "Traceback" not in answer.err
    assert not (tmp_path / "store" / "tiny.lance" / "_versions").exists()


def test_a_store_that_cannot_be_written_is_named(ntf: Ntf, tmp_path: Path, manifest_file: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = ntf("build", str(manifest_file), "--store", str(tmp_path / "file" / "store"), "--device", "cpu")
    assert answer.code == 2
    assert "cannot write to the store" in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("store", "log", "nothing"),
        ("plan", "nothing.yaml"),
        ("plan", "nothing"),
        ("train", "nothing"),
        ("evaluate", "nothing"),
        ("report", "nothing"),
    ],
)
def test_what_is_not_there_is_exit_code_2(ntf: Ntf, words: tuple[str, ...]) -> None:
    answer = ntf(*words)
    assert answer.code == 2
    assert "error:" in answer.err
    assert "filter" not in answer.err, "no filter was given"


def test_generators_and_checkpoints_are_listed(ntf: Ntf) -> None:
    names = {row["name"] for row in json.loads(ntf("generators", "--json").out)}
    assert {"stylegan2", "ddpm", "ddim", "pndm", "ldm", "simswap"} <= names
    assert "stylegan2-celebahq-256" in json.loads(ntf("checkpoint", "list", "--json").out)
    assert all(recipe in ntf("train-generator", "none", "a.safetensors").err for recipe in RECIPES)


def test_an_error_says_what_is_wrong_and_then_the_fix(ntf: Ntf) -> None:
    assert ntf("plan", "nothing").err == "error: there is no manifest nothing. Fix: Give a YAML file, or `demo`, `paper` or `today`\n"
    assert ntf("checkpoint", "add", "a.pkl", "--generator", "x", "--licence", "y", "--option", "z").err.startswith("error: --option 'z'")


@pytest.mark.parametrize(("count", "text"), [(0, "0 tries"), (1, "1 try"), (2000, "2,000 tries")])
def test_numbers_agree_with_their_nouns(count: int, text: str) -> None:
    assert console.counted(count, "try", "tries") == text


def test_validate_lists_everything_that_is_wrong_with_keys_files_and_lists(ntf: Ntf, tmp_path: Path, manifest_data: dict[str, Any]) -> None:
    (tmp_path / "p.txt").write_bytes("a café\n".encode("latin-1"))
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.png").write_bytes(b"not looked into")
    (tmp_path / "gone.txt").write_text("nobody\n")
    (tmp_path / "ids.csv").write_text("a.png,ana\n")
    manifest_data["reals"] |= {
        "missing": {"path": "nowhere", "licence": "x", "identities": "none.csv"},
        "listed": {"path": "some", "licence": "x", "identities": "ids.csv", "exclude": "gone.txt"},
    }
    manifest_data["subsets"]["DDIM"]["chain"] = [
        {"prompt": "stable_diffusion", "checkpoint": "stable-diffusion-demo-32", "prompts": "p.txt"}
    ]
    path = write_manifest(tmp_path / "m.yaml", {**manifest_data, "sede": 1})
    answer = ntf("validate", str(path))
    complaints = [line for line in answer.err.splitlines() if line.startswith("error:")]
    assert answer.code == 2 and len(complaints) == len(answer.err.splitlines()) == 5
    signs = ["none.csv", "there is no folder", "'nobody' is nobody", "p.txt, line 1 is not UTF-8", "unknown key sede"]
    lines = path.read_text().splitlines()
    places = ["identities: none.csv", "path: nowhere", "exclude: gone.txt", "prompts: p.txt", "sede: 1"]
    for sign, place in zip(signs, places, strict=True):
        (complaint,) = [line for line in complaints if sign in line]
        (number,) = [number for number, line in enumerate(lines, 1) if place in line]
        assert f"m.yaml, line {number}: " in complaint


def test_inspect_prints_one_screen_of_a_file_and_of_a_folder(ntf: Ntf, tmp_path: Path) -> None:
    """Thirty lines at most, and all of it with --all."""
    weights = {f"layer{number}.weight": torch.zeros(2, 3) for number in range(50)}
    torch.save({"net": weights, "settings": {f"option_{number}": number for number in range(50)}}, tmp_path / "net.pt")
    for part in range(20):
        place = tmp_path / "pipeline" / f"part{part:02}"
        place.mkdir(parents=True)
        save_file({name: value.clone() for name, value in weights.items()}, place / "diffusion_pytorch_model.safetensors")
        (place / "config.json").write_text("{}")
    for name, more in (("net.pt", "and 42 tensors more"), ("pipeline", "and 4 files more")):
        short, whole = ntf("checkpoint", "inspect", name), ntf("checkpoint", "inspect", name, "--all")
        assert (short.code, whole.code) == (0, 0)
        assert len(short.out.splitlines()) <= 30
        assert f"{more}: `--all` shows them" in short.out
        assert "layer49.weight" in whole.out
        assert "layer49.weight" not in short.out
    assert "part15/diffusion_pytorch_model.safetensors" in short.out
    assert "50" in short.out
    assert "part19" in whole.out


@pytest.mark.parametrize("words", [("generators",), ("demo",), ("train-generator", "progan", "a.safetensors"), ("build", "demo")])
def test_a_command_that_works_in_one_process_is_not_run_by_each_of_several(
    ntf: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    first = ntf(*words)
    assert first.code == 2 and f"`ntf {words[0]}` works in one process, and a launcher started 2" in first.err
    monkeypatch.setenv("RANK", "1")
    second = ntf(*words)
    assert (second.code, second.out, second.err) == (2, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("evaluate", "--help"), ("build", "-h"), ("store", "log", "--help")])
def test_help_is_given_under_a_launcher(ntf: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("RANK", "0")):
        monkeypatch.setenv(name, value)
    answer = ntf(*words)
    assert answer.code == 0 and ("Usage" in answer.out or "ntf 0" in answer.out) and not answer.err


def test_a_cluster_that_numbers_its_machines_starts_what_it_likes(ntf: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clusters set WORLD_SIZE and RANK in every container; only a launcher of processes sets LOCAL_RANK."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert ntf("generators").code == 0
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ntf("generators").code == 0
