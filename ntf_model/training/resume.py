"""Going on with a training, only where it is the same training: the same detector, pictures and settings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from foreign.json_files import read_json
from ntf_model.data.data import DetectionSplits
from ntf_model.errors import InputError
from ntf_model.files import write_json
from ntf_model.runs import CHECKPOINT_FOLDER, RUN_FILE, STATE_FILE, WEIGHTS_FILE

RECORD_FILE = "training.json"  # in the folder of the checkpoints: what they are of
WITHOUT_EFFECT = ("threads", "checkpoint_every", "recompute")  # settings that may change on the way
SHOWN = 4  # differences in a message


def is_first_process() -> bool:
    """Whether this is the process that writes for all: the only one, or the first of those that `accelerate launch` started."""
    return os.environ.get("RANK", "0") == "0"


def begin_training(output: Path, detector: str, splits: DetectionSplits, config: BaseModel, resume: bool) -> bool:
    """Notes in `output` what a training is of. Returns whether `resume` meets a training that has ended, which is only to be loaded.

    Without `resume`, checkpoints of an earlier training are removed. With it, raises InputError if the folder holds another training, and
    says what differs.
    """
    folder = output / CHECKPOINT_FOLDER
    if resume:
        if (folder / RECORD_FILE).is_file():
            check_record(output, read_record(folder / RECORD_FILE), detector, splits, config)
        elif not (output / RUN_FILE).is_file() and any(folder.glob(f"*/{STATE_FILE}")):
            raise InputError(f"{folder} does not say which data and settings its checkpoints are of", "Delete it to begin again")
        if (output / RUN_FILE).is_file() and (output / WEIGHTS_FILE).is_file():
            record = read_record(output / RUN_FILE)
            differing = differences(record, detector, splits, config)
            if not differing:
                return True
            if not (folder / RECORD_FILE).is_file():  # otherwise the checkpoints are of a later training in the same folder
                check_record(output, record, detector, splits, config)
    if is_first_process():
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / RECORD_FILE, describe_training(detector, splits, config))
    return False


def describe_training(detector: str, splits: DetectionSplits, config: BaseModel) -> dict[str, Any]:
    """What `differences` compares, in the form of `run.json`."""
    return {"detector": detector, "dataset": {"digest": splits.digest}, "config": config.model_dump(mode="json")}


def check_record(folder: Path, record: dict[str, Any], detector: str, splits: DetectionSplits, config: BaseModel | None) -> None:
    """Raises InputError, with what differs, if `record` is not of this detector, these splits and this configuration (None: whichever)."""
    differing = differences(record, detector, splits, config)
    if not differing:
        return
    kinds = [kind for kind in ("detector", "data", "settings") if any(kind == of for of, _ in differing)]
    listed = [text for _, text in differing]
    said = ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
    if kinds == ["detector"]:
        raise InputError(f"{folder} holds another detector ({said})", "Give another --output")
    others = " and ".join(kind for kind in kinds if kind != "detector")
    raise InputError(
        f"{folder} holds a detector that was trained on other {others} ({said})",
        "Give the same again, another --output, or delete the folder",
    )


def differences(record: dict[str, Any], detector: str, splits: DetectionSplits, config: BaseModel | None) -> list[tuple[str, str]]:
    """(kind, sentence) for each thing in which a training differs from `record`."""
    differing = []
    if record.get("detector", detector) != detector:
        differing.append(("detector", f"{record['detector']}, not {detector}"))
    digest = record.get("dataset", {}).get("digest", "")
    if digest != splits.digest:
        differing.append(("data", f"digest {digest[:12] or 'not known'}, not {splits.digest[:12]}"))
    if config is None:
        return differing
    try:
        saved = _flat(type(config).model_validate(record.get("config", {})).model_dump(mode="json"))
    except ValidationError as error:
        first = error.errors()[0]
        return [*differing, ("settings", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")]
    now = _flat(config.model_dump(mode="json"))
    names = [name for name in now if name not in WITHOUT_EFFECT and saved.get(name) != now[name]]
    return differing + [("settings", f"{name} {saved.get(name)}, not {now[name]}") for name in names]


def read_record(file: Path) -> dict[str, Any]:
    """A record as `describe_training` or `ntf_model.runs.write_run` has it. InputError if it is missing or damaged."""
    try:
        record = read_json(file)
        if isinstance(record["dataset"]["digest"], str) and isinstance(record["config"], dict):
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{file} is missing or damaged", "Delete the folder to train again")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names, as `--set` writes them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
