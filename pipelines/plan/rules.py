"""A user's rules on content: which prompts and pictures are refused, and how a rule is known, so that another rule makes other shards.

A rule is a function of this Python environment, or the score of a network. A manifest may come from a stranger, and importing a module runs
it: so rules are imported only where `--allow-rules` or NTF_ALLOW_RULES says so.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from foreign.text import visible
from generators.errors import InputError
from pipelines.catalogue.identity import cached_sha256s
from pipelines.features import FeatureNetwork
from pipelines.manifest.schema import Classifier, Filters

VARIABLE = "NTF_ALLOW_RULES"  # "1" for every module, or modules with `:` between them
REFUSED = "refused by "  # how the reason in the ledger begins
LONGEST = 120  # characters of a reason


def prompt_identity(filters: Filters) -> dict[str, Any]:
    """What decides which prompts are refused, for keys; empty where none are."""
    return {"prompt_filter": _identity(filters.prompts)} if filters.prompts else {}


def picture_identity(filters: Filters) -> dict[str, Any]:
    """What decides which pictures are refused, for keys; empty where none are. InputError if the classifier's file is not there."""
    found: dict[str, Any] = {"picture_filter": _identity(filters.pictures)} if filters.pictures else {}
    if filters.classifier:
        chosen = filters.classifier
        if not chosen.file.is_file():
            raise InputError(f"there is no classifier {chosen.file}", "Put the .onnx file there, or change `filters`")
        found["classifier"] = [cached_sha256s([chosen.file])[0], chosen.output, chosen.above]
    return found


def against_prompt(filters: Filters, prompt: str) -> str | None:
    """Why a prompt is refused; None if it is not."""
    return _judged(filters.prompts, prompt) if filters.prompts else None


def against_picture(filters: Filters, pixels: np.ndarray) -> str | None:
    """Why a picture, `uint8` RGB `[H, W, 3]`, is refused; None if it is not. The function is given a copy."""
    reason = _judged(filters.pictures, pixels.copy()) if filters.pictures else None
    if reason is None and filters.classifier is not None:
        score = _score(filters.classifier, pixels)
        if not score <= filters.classifier.above:  # not-a-number is no leave
            reason = f"{REFUSED}{filters.classifier.file.name}: above {filters.classifier.above:g}"
    return reason


def _judged(name: str, given: Any) -> str | None:
    """The answer of a rule: None or True lets pass, False refuses, a text refuses with that reason."""
    try:
        answer = _function(name)(given)
    except InputError:
        raise
    except Exception as error:  # a user's code may raise anything
        raise InputError(
            f"the rule {name} failed: {type(error).__name__}: {visible(str(error))[:LONGEST]}", "Correct the function"
        ) from None
    if answer is None or answer is True or answer is np.True_:
        return None
    if answer is False or answer is np.False_:
        return f"{REFUSED}{name}"
    if isinstance(answer, str) and answer.strip():
        return f"{REFUSED}{name}: {visible(' '.join(answer.split()))[:LONGEST]}"
    raise InputError(f"the rule {name} gave {type(answer).__name__}", "It gives None or true to keep, false or a reason to refuse")


def _identity(name: str) -> dict[str, str]:
    """The name of a rule, and the sha256 of the file that defines it."""
    file = inspect.getsourcefile(inspect.unwrap(_function(name)))
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else ""
    return {"rule": name, "sha256": digest}


@lru_cache(maxsize=16)
def _imported(name: str) -> Callable[[Any], Any]:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"there is no rule {name}: {visible(str(error))[:LONGEST]}", "Install its package, or correct `filters`") from None
    if not inspect.isfunction(found):
        raise InputError(f"the rule {name} is no function", "Name one that is written in Python")
    return found


def _function(name: str) -> Callable[[Any], Any]:
    """The function of a rule. InputError if it may not be imported, or is not there."""
    allowed = os.environ.get(VARIABLE, "")
    if allowed != "1" and name.partition(":")[0] not in allowed.split(":"):
        raise InputError(
            f"the manifest's rule {name} is code that is not allowed to run",
            f"Allow it with `--allow-rules` or {VARIABLE}={name.partition(':')[0]}, if you trust the module",
        )
    return _imported(name)


@lru_cache(maxsize=2)
def _network(file: Path, sha256: str) -> FeatureNetwork:
    return FeatureNetwork(file)


def _score(chosen: Classifier, pixels: np.ndarray) -> float:
    scores = _network(chosen.file, cached_sha256s([chosen.file])[0]).embed([pixels])
    assert scores is not None
    if chosen.output >= scores.shape[1]:
        raise InputError(f"{chosen.file} gives {scores.shape[1]} scores, and `output` is {chosen.output}", "They are counted from 0")
    return float(scores[0, chosen.output])
