"""Taking checkpoints in: whole, safely, tried out, and known by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from generators.errors import CheckpointError
from generators.methods.ddpm import DDPM
from generators.methods.stylegan2 import StyleGAN2
from generators.networks.gan import stylegan2
from pipelines.catalogue.catalogue import Catalogue
from pipelines.catalogue.registering import Registration, add_checkpoint, scan_incoming, take_incoming
from pipelines.images import read_image
from tests.generators.methods import tiny_diffusion as tiny
from tests.support import STYLEGAN2_CONFIG, simswap_checkpoint, stylegan2_checkpoint

FACES = Registration(name="my-faces", generator="stylegan2", licence="test", trained_on="my pictures")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def test_an_added_checkpoint_is_known_tried_out_and_copied(tmp_path: Path, folder: Path) -> None:
    file = stylegan2_checkpoint(tmp_path / "new.safetensors")
    added = add_checkpoint(file, FACES, Catalogue.shipped(folder))
    catalogue = Catalogue.shipped(folder)
    assert catalogue.entries["my-faces"].generators == ("stylegan2",)
    assert catalogue.path("my-faces").read_bytes() == file.read_bytes()
    assert catalogue.sha256("my-faces") == added.sha256
    assert added.preview is not None
    assert read_image(added.preview).shape == (32, 32, 3)


def test_new_weights_under_an_old_name_stand_before_it_and_remove_nothing(tmp_path: Path, folder: Path) -> None:
    first = add_checkpoint(stylegan2_checkpoint(tmp_path / "a.safetensors", 1), FACES, Catalogue.shipped(folder))
    second = add_checkpoint(stylegan2_checkpoint(tmp_path / "b.safetensors", 2), FACES, Catalogue.shipped(folder))
    assert Catalogue.shipped(folder).sha256("my-faces") == second.sha256 != first.sha256
    assert first.path.exists()


def test_a_demo_checkpoint_can_be_replaced_by_name(tmp_path: Path, folder: Path) -> None:
    swap = Registration(name="simswap-demo-32", generator="simswap", licence="test")
    added = add_checkpoint(simswap_checkpoint(tmp_path / "s.safetensors"), swap, Catalogue.shipped(folder))
    assert added.preview is None
    assert Catalogue.shipped(folder).path("simswap-demo-32") == added.path


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x80\x04cos\nsystem\n(S'touch /nowhere'\ntR."])
def test_what_is_no_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path, folder: Path, content: bytes) -> None:
    file = tmp_path / "bad.pkl"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="was not registered"):
        add_checkpoint(file, FACES, Catalogue.shipped(folder))
    assert "my-faces" not in Catalogue.shipped(folder).entries
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_another_methods_file_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="was not registered"):
        add_checkpoint(simswap_checkpoint(tmp_path / "s.safetensors"), FACES, Catalogue.shipped(folder))


def test_a_dropped_file_waits_until_it_is_whole_and_described(tmp_path: Path, folder: Path) -> None:
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    file = stylegan2_checkpoint(incoming / "x.safetensors")
    assert "being copied" in scan_incoming(folder / "incoming")[0].waits_for
    os.utime(file, (time.time() - 60,) * 2)
    assert "x.safetensors.yaml" in scan_incoming(folder / "incoming")[0].waits_for
    (incoming / "x.safetensors.yaml").write_text(yaml.safe_dump(FACES.model_dump()))
    added, waiting = take_incoming(Catalogue.shipped(folder))
    assert ([each.name for each in added], waiting) == (["my-faces"], [])
    assert scan_incoming(folder / "incoming") == []


def test_a_bad_drop_says_why_and_keeps_no_other_from_being_taken(tmp_path: Path, folder: Path) -> None:
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "a.pkl").write_bytes(b"nothing")
    stylegan2_checkpoint(incoming / "b.safetensors")
    for name in ("a.pkl", "b.safetensors"):
        (incoming / f"{name}.yaml").write_text(yaml.safe_dump(FACES.model_dump()))
    added, waiting = take_incoming(Catalogue.shipped(folder), settle=0)
    assert [each.path.name.split("-")[0] for each in added] == ["my"]
    assert [arrival.path.name for arrival in waiting] == ["a.pkl"]
    assert "was not registered" in waiting[0].waits_for


def test_a_note_with_a_wrong_key_names_it(tmp_path: Path, folder: Path) -> None:
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    stylegan2_checkpoint(incoming / "x.safetensors")
    (incoming / "x.safetensors.yaml").write_text("name: x\ngenerator: stylegan2\nlicense: y\n")
    (arrival,) = scan_incoming(folder / "incoming", settle=0)
    assert arrival.registration is None
    assert "line 3: license" in arrival.waits_for


def files_below(folder: Path) -> list[str]:
    return (
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != "registered.lock")
        if folder.exists()
        else []
    )


def test_a_folder_is_taken_in_by_the_files_that_are_read(tmp_path: Path, folder: Path) -> None:
    source = tiny.pixel_pipeline(tmp_path / "ddpm-v1.5")
    (source / "README.md").write_text("read me")
    added = add_checkpoint(source, Registration(name="mine", generator="ddpm", licence="test"), Catalogue.shipped(folder))
    assert "README.md" not in files_below(added.path)
    assert added.preview is not None
    catalogue = Catalogue.shipped(folder)
    assert catalogue.sha256("mine") == added.sha256
    assert catalogue.path("mine").is_dir()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("The size of tensor a (9) must match\nthe size of tensor b (4)"), CheckpointError),
        (TypeError("RGBA"), CheckpointError),
        (ValueError("class_labels should be provided"), CheckpointError),
        (KeyError("token_emb.weight"), CheckpointError),
        (OSError(28, "No space left on device"), CheckpointError),
        (MemoryError(), CheckpointError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("form", ["file", "folder"])
def test_nothing_stays_behind_after_any_failure(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException], form: str
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    method: Any = StyleGAN2 if form == "file" else DDPM
    source = stylegan2_checkpoint(tmp_path / "x.safetensors") if form == "file" else tiny.pixel_pipeline(tmp_path / "x")
    monkeypatch.setattr(method, "_sample", failing)
    with pytest.raises(raised) as caught:
        add_checkpoint(source, Registration(name="mine", generator=method.name, licence="test"), Catalogue.shipped(folder))
    if raised is CheckpointError:
        assert "was not registered" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert files_below(folder) == []


def test_a_failure_keeps_what_an_earlier_registration_brought(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stylegan2_checkpoint(tmp_path / "x.safetensors")
    added = add_checkpoint(file, FACES, Catalogue.shipped(folder))
    before = files_below(folder)
    monkeypatch.setattr(StyleGAN2, "_sample", lambda *_: 1 / 0)
    with pytest.raises(CheckpointError):
        add_checkpoint(file, FACES, Catalogue.shipped(folder))
    assert files_below(folder) == before
    assert added.path.exists()


def test_an_image_of_four_channels_is_refused_and_leaves_nothing(tmp_path: Path, folder: Path) -> None:
    network = stylegan2.Generator(**{**STYLEGAN2_CONFIG, "img_channels": 4})
    torch.save({"G_ema": network.state_dict()}, tmp_path / "rgba.pt")
    with pytest.raises(CheckpointError, match="was not registered"):
        add_checkpoint(tmp_path / "rgba.pt", FACES, Catalogue.shipped(folder))
    assert files_below(folder) == []
