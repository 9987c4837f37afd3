"""Which files of a checkpoint folder are read.

A folder as diffusers or transformers saves one holds more than a generator needs: a README, pictures, the same weights in several forms,
and the notes of the program that fetched it. What is read is the configuration, the vocabulary, and one form of the weights. Identity,
loading and fetching all ask here, so they mean the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from foreign.json_files import read_json
from generators.errors import CheckpointError

INDEX = "model_index.json"
MAX_JSON = 50_000_000  # bytes of a JSON file that is parsed; a tokenizer's are the largest
# As diffusers chooses if nobody names a variant; of the other variants a half-precision one alone stands for the weights.
FORMS = (("safetensors", ""), ("bin", ""), ("safetensors", "fp16"), ("bin", "fp16"), ("safetensors", "bf16"), ("bin", "bf16"))
_STEMS = "diffusion_pytorch_model|pytorch_model|model"
_PART = r"-\d{5}-of-\d{5}"
_WEIGHTS = re.compile(rf"(?:{_STEMS})(?:\.(?P<before>\w+))?(?P<part>{_PART})?(?:\.(?P<after>\w+))?\.(?P<kind>safetensors|bin)", re.ASCII)
_WEIGHT_INDEX = re.compile(rf"(?:{_STEMS})(?:\.(?P<before>\w+))?\.(?P<kind>safetensors|bin)\.index(?:\.(?P<after>\w+))?\.json", re.ASCII)
_OTHER_FORMS = {".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".pb", ".pt", ".pth", ".safetensors", ".tflite"}
_TALK = {".md", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".html", ".ipynb", ".py"}
_NAMES = re.compile(r"(?i)(readme|licen[cs]e|notice|copying)(\..*)?")


@dataclass(frozen=True)
class Weights:
    """One form of a network's weights in one folder: the files, and the index that lists them where there are several."""

    kind: str  # "safetensors" or "bin"
    variant: str  # "" for the full precision
    files: tuple[str, ...]
    index: str | None = None


def find_weights(names: Iterable[str], variant: str | None = None) -> Weights | None:
    """The weights that are read among the file names of one folder, or None if it has none.

    `variant` ("fp16") goes before the full precision where the folder has it.
    """
    forms: dict[tuple[str, str], list[str]] = {}
    indices: dict[tuple[str, str], str] = {}
    for name in sorted(names):
        if match := _WEIGHTS.fullmatch(name):
            forms.setdefault((match["kind"], match["before"] or match["after"] or ""), []).append(name)
        elif match := _WEIGHT_INDEX.fullmatch(name):
            indices[match["kind"], match["before"] or match["after"] or ""] = name
    asked = [form for form in FORMS if variant and form[1] == variant] or [(kind, variant) for kind in ("safetensors", "bin") if variant]
    for form in (*asked, *FORMS):
        if form in forms:
            files = forms[form]
            whole = [name for name in files if not re.search(_PART, name)]
            return Weights(*form, tuple(whole[:1] or files), None if whole else indices.get(form))
    return None


def select_files(names: Iterable[str], index: dict[str, Any] | None, variant: str | None = None) -> list[str]:
    """The relative names of the files that are read, sorted, out of the relative `names` of all files of a folder.

    `index` is the content of the folder's model_index.json, None if it has none. With it, the parts that it names are read, each from its
    own sub-folder, or from the folder itself where older repositories keep it. Without it, all but other forms of the same weights,
    hidden files, pictures and what is written for people.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        parent, _, leaf = name.rpartition("/")
        if not any(part.startswith(".") for part in PurePosixPath(name).parts):
            folders.setdefault(parent, []).append(leaf)
    chosen = set(folders)
    if index is not None:
        parts = {part for part, value in index.items() if isinstance(value, list) and value and value[0] is not None}
        chosen = {folder for folder in folders if folder.partition("/")[0] in parts}
        if "" in folders and (not chosen or find_weights(folders[""])):
            chosen.add("")
    kept = [f"{folder}/{leaf}" if folder else leaf for folder in chosen for leaf in _read_here(folders[folder], variant)]
    if index is not None and INDEX not in kept:
        kept.append(INDEX)
    return sorted(kept)


def folder_files(folder: Path, variant: str | None = None) -> list[str]:
    """The relative names of the files of `folder` that are read. CheckpointError if there are none, or the index is damaged."""
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    chosen = select_files(names, read_index(folder) if INDEX in names else None, variant)
    if not chosen:
        raise CheckpointError(f"the folder {folder} holds nothing that is read", "Remove it, and fetch the checkpoint again")
    return chosen


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's model_index.json. Raises CheckpointError if it cannot be read or is no object."""
    return read_object(folder / INDEX)


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises CheckpointError if it is missing, too long, damaged or something else."""
    try:
        if file.stat().st_size > MAX_JSON:
            raise ValueError(f"longer than {MAX_JSON:,} bytes")
        value = read_json(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read ({error})", "Remove its folder, and fetch the checkpoint again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} holds no JSON object", "Remove its folder, and fetch the checkpoint again")
    return value


def _read_here(leaves: list[str], variant: str | None) -> list[str]:
    """The names that are read of one folder's files."""
    weights = find_weights(leaves, variant)
    others = [leaf for leaf in leaves if not _NAMES.fullmatch(leaf) and PurePosixPath(leaf).suffix.lower() not in _TALK]
    if weights is None:  # not as diffusers or transformers save: a pack of .onnx files, a vocabulary
        return others
    plain = [leaf for leaf in others if PurePosixPath(leaf).suffix not in _OTHER_FORMS and not _WEIGHT_INDEX.fullmatch(leaf)]
    return [*plain, *weights.files, *([weights.index] if weights.index else [])]
