"""Parity cases: what the official code of a system computed with made-up weights that numpy can make again.

A case is a folder with `case.json` (configuration, arrays, tolerances), `data.npz` (inputs and outputs) and `weights_NAME.json` (a rule
for each tensor). Folders come from the environment variable PARITY_CASES, separated by ":"; by default those in this repository and,
where it lies beside the checkout, `../shared/parity`.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
DEFAULT_FOLDERS = (HERE / "cases", HERE.parents[1].parent / "shared" / "parity")


def find_cases() -> list[Case]:
    """Every case under the folders of PARITY_CASES, each system and case once, in order of their names."""
    named = os.environ.get("PARITY_CASES")
    folders = [Path(part) for part in named.split(":") if part] if named else [folder for folder in DEFAULT_FOLDERS if folder.is_dir()]
    cases: dict[str, Case] = {}
    for folder in folders:
        for file in sorted(folder.rglob("case.json")):
            case = Case(file.parent)
            cases.setdefault(case.id, case)
    return [cases[key] for key in sorted(cases)]


@dataclass(frozen=True)
class Case:
    folder: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The whole of `case.json`."""
        return json.loads((self.folder / "case.json").read_text())

    @property
    def system(self) -> str:
        return self.facts["system"]

    @property
    def config(self) -> dict[str, Any]:
        return self.facts.get("config", {})

    @property
    def id(self) -> str:
        return f"{self.system}/{self.folder.name}"

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The stored inputs and outputs. A large output `x` is stored as `x__pool8` and `x__crop`."""
        with np.load(self.folder / "data.npz", allow_pickle=False) as data:
            return {name: data[name] for name in data.files}

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def input(self, name: str) -> np.ndarray:
        """An input that is stored as a rule (`inputs` in case.json), made and checked against its sha256."""
        rule = self.facts["inputs"][name]
        n, c, h, w = rule["shape"]
        coarse = _normal(f"input:{rule['key']}:lo", (n, c, 8, 8))
        fine = _normal(f"input:{rule['key']}:hi", (n, c, h, w))
        spread = coarse[:, :, (np.arange(h) * 8) // h][:, :, :, (np.arange(w) * 8) // w]
        pixels = np.ascontiguousarray((np.float32(0.7) * spread + np.float32(0.3) * fine).astype(np.float32))
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == rule["sha256"], f"{self.id}: input {name} does not come out as stored"
        return pixels

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """The state dict `weights_NAME.json` describes, under the official keys."""
        rules = json.loads((self.folder / f"weights_{name}.json").read_text())
        return {key: torch.from_numpy(np.asarray(value)) for key, value in make_weights(rules).items()}

    def tolerance(self, name: str) -> float:
        """What an array may be off by: ten times the largest difference that the case lists between threads or precisions, or 1e-4 of the
        array's standard deviation, whichever is larger. `suggested_maxabs`, where a case gives it, counts too."""
        listed = list(_differences(self.facts.get("tolerance", {})))
        spread = self.facts["arrays"].get(name, {}).get("std") or 0.0
        return max([10 * value for value in listed] + [1e-4 * spread, *_suggested(self.facts.get("tolerance", {}), name)])

    def compare(self, name: str, got: Any, atol: float | None = None) -> None:
        """Asserts that `got` is the stored array `name`: integers exactly, floats within `atol` (by default `tolerance(name)`).
        An output stored as an 8x8 mean and a crop is compared through both."""
        got = got.detach().cpu().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
        atol = self.tolerance(name) if atol is None else atol
        if name in self.arrays:
            self._close(name, got, self.arrays[name], atol)
            return
        pooled, crop = self.arrays[f"{name}__pool8"], self.arrays[f"{name}__crop"]
        n, c, h, w = got.shape
        means = got.astype(np.float64).reshape(n, c, h // 8, 8, w // 8, 8).mean((3, 5))
        self._close(f"{name} (8x8 means)", means, pooled, atol)
        top, left = (h - crop.shape[2]) // 2, (w - crop.shape[3]) // 2
        self._close(f"{name} (crop)", got[:, :, top : top + crop.shape[2], left : left + crop.shape[3]], crop, atol)

    def _close(self, name: str, got: np.ndarray, want: np.ndarray, atol: float) -> None:
        assert got.shape == want.shape, f"{self.id} {name}: shape {got.shape}, official {want.shape}"
        if want.dtype.kind in "iub" and atol < 1:
            assert np.array_equal(got, want), f"{self.id} {name}: {np.sum(got != want)} of {want.size} values differ"
            return
        off = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64)))) if want.size else 0.0
        assert off <= atol, f"{self.id} {name}: off by {off:.3g}, allowed {atol:.3g}"


def make_weights(rules: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """Tensors from their rules, all in float32 (see `weights_rule` in any case.json)."""
    weights: dict[str, np.ndarray] = {}
    for key, rule in rules.items():
        shape, op = tuple(rule["shape"]), rule["op"]
        scale, add = np.float32(rule.get("scale", 1)), np.float32(rule.get("add", 0))
        if op == "normal":
            weights[key] = (_normal(key, shape) * scale + add).astype(np.float32)
        elif op == "abs_normal":
            weights[key] = (np.abs(_normal(key, shape)) * scale + add).astype(np.float32)
        elif op == "const":
            weights[key] = np.full(shape, rule["add"], dtype=rule.get("dtype", "float32"))
        elif op == "unit_normal":
            vector = _normal(key, shape).astype(np.float64)
            weights[key] = (vector / np.linalg.norm(vector)).astype(np.float32)
        elif op == "official":
            weights[key] = _official(key, shape, rule)
        elif op != "sn_u":
            raise ValueError(f"unknown rule {op!r} for {key}")
    for key, rule in rules.items():
        if rule["op"] == "sn_u":
            weight = np.moveaxis(weights[rule["weight"]].astype(np.float64), rule["dim"], 0)
            product = weight.reshape(weight.shape[0], -1) @ weights[rule["v"]].astype(np.float64)
            weights[key] = (product / np.linalg.norm(product)).astype(np.float32)
    return {key: weights[key] for key in rules}


def _official(key: str, shape: tuple[int, ...], rule: dict[str, Any]) -> np.ndarray:
    """Buffers whose value the architecture defines."""
    if "value" in rule:
        return np.array(rule["value"], dtype=rule.get("dtype", "float32")).reshape(shape)
    fir = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32)
    if key.endswith("resample_filter"):
        return fir / np.float32(64)
    if key.endswith(".kernel"):
        return fir / np.float32(64) * 4
    if key.endswith("attn.mask"):
        return np.tril(np.ones(shape[-2:], np.float32)).reshape(shape)
    raise ValueError(f"no known value for {key}")


def _normal(key: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    return np.asarray(rng.standard_normal(shape), dtype=np.float64).astype(np.float32)


def _differences(tolerance: dict[str, Any]) -> list[float]:
    """The listed differences between threads and between precisions, wherever they are nested."""
    differences: list[float] = []
    for key, value in tolerance.items():
        if isinstance(value, dict):
            differences += _differences(value)
        elif isinstance(value, (int, float)) and ("threads" in key or "float64" in key):
            differences.append(float(value))
    return differences


def _suggested(tolerance: dict[str, Any], name: str) -> list[float]:
    suggested = tolerance.get("suggested_maxabs")
    if isinstance(suggested, dict):
        suggested = suggested.get(name)
    return [float(suggested)] if isinstance(suggested, (int, float)) else []
