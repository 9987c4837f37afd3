"""Which files of a checkpoint folder are read, for the layouts that are on the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from generators.checkpoints import sha256_of
from generators.checkpoints.folders import find_weights, folder_files, select_files
from generators.errors import CheckpointError

INDEX = {"_class_name": "P", "unet": ["diffusers", "U"], "text_encoder": ["transformers", "T"], "safety_checker": [None, None]}
PIPELINE = [
    "README.md",
    ".gitattributes",
    ".cache/huggingface/download/unet/config.json.metadata",
    "model_index.json",
    "v1-5-pruned.ckpt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/flax_model.msgpack",
    "text_encoder/config.json",
    "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors",
    "text_encoder/model.safetensors.index.json",
    "text_encoder/model.safetensors.index.fp16.json",
    "safety_checker/model.safetensors",
    "onnx/model.onnx",
]
TEXT = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]


def test_a_pipeline_is_its_parts_in_one_form_of_weights() -> None:
    unet = ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
    assert select_files(PIPELINE, INDEX) == ["model_index.json", *(f"text_encoder/{name}" for name in TEXT), *unet]


def test_a_variant_that_is_asked_for_goes_first_where_the_folder_has_it() -> None:
    chosen = select_files(PIPELINE, INDEX, "fp16")
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in chosen
    assert "unet/diffusion_pytorch_model.safetensors" not in chosen
    assert "text_encoder/model-00001-of-00002.safetensors" in chosen


def test_an_older_repository_keeps_its_part_beside_the_index() -> None:
    names = ["model_index.json", "config.json", "scheduler_config.json", "diffusion_pytorch_model.bin", "README.md", "images/a.png"]
    index = {"unet": ["diffusers", "U"], "scheduler": ["diffusers", "S"]}
    assert select_files(names, index) == ["config.json", "diffusion_pytorch_model.bin", "model_index.json", "scheduler_config.json"]


@pytest.mark.parametrize(
    ("names", "kind", "files"),
    [
        (["model.fp16.safetensors", "pytorch_model.bin"], "bin", ("pytorch_model.bin",)),  # as diffusers: full precision first
        (["model.fp16.safetensors", "pytorch_model.fp16.bin"], "safetensors", ("model.fp16.safetensors",)),
        (["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"], "safetensors", None),
        (["model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors"], "safetensors", None),  # the older way
        (["diffusion_pytorch_model.non_ema.bin", "training_args.bin"], None, None),
    ],
)
def test_the_form_of_the_weights(names: list[str], kind: str | None, files: tuple[str, ...] | None) -> None:
    weights = find_weights(names)
    assert (weights and weights.kind) == kind
    if weights:
        assert weights.files == (files or tuple(names))


def test_a_pack_of_other_files_is_read_whole() -> None:
    assert select_files(["det_10g.onnx", "w600k_r50.onnx", "README.md"], None) == ["det_10g.onnx", "w600k_r50.onnx"]
    assert select_files(["vocab.txt", ".cache/x", "tokenizer_config.json"], None) == ["tokenizer_config.json", "vocab.txt"]


def pipeline_folder(folder: Path) -> Path:
    for name in PIPELINE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    return folder


def test_only_what_is_read_decides_the_sha256(tmp_path: Path) -> None:
    folder = pipeline_folder(tmp_path)
    before = sha256_of(folder)
    for name in (
        "README.md",
        ".cache/huggingface/download/unet/config.json.metadata",
        "unet/diffusion_pytorch_model.bin",
        "v1-5-pruned.ckpt",
    ):
        (folder / name).write_text("another")
    assert sha256_of(folder) == before
    (folder / "unet/config.json").write_text("{}")
    assert sha256_of(folder) != before


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_damaged_index_is_an_error_of_one_line(tmp_path: Path, text: str) -> None:
    pipeline_folder(tmp_path)
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        folder_files(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds nothing that is read"):
        sha256_of(tmp_path)
