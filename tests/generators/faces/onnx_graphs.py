"""Tiny ONNX files with the interfaces of insightface's models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save_recognition(path: Path, values: int = 24, batch: int | str = "batch", side: int = 112) -> Path:
    """An identity network: means over a 4x4 grid of the image, through a matrix."""
    matrix = np.random.default_rng(0).normal(size=(48, values)).astype(np.float32)
    pool = side // 4
    nodes = [
        helper.make_node("AveragePool", ["input"], ["grid"], kernel_shape=[pool, pool], strides=[pool, pool]),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["embedding"]),
    ]
    return _save(path, nodes, {"input": [batch, 3, side, side]}, {"embedding": [batch, values]}, [("matrix", matrix)])


def save_inswapper(path: Path, values: int = 24, batch: int | str = 1, side: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A swapper that adds to the target's colours what `colours` makes of the latent. Returns `emap` `[D, D]` and `colours` `[D, 3]`."""
    rng = np.random.default_rng(1)
    emap, colours = rng.normal(size=(values, values)).astype(np.float32), rng.normal(size=(values, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["source", "colours"], ["tint"]),
        helper.make_node("Reshape", ["tint", "shape"], ["map"]),
        helper.make_node("Add", ["target", "map"], ["output"]),
        helper.make_node("Shape", ["emap"], ["emap_shape"]),  # the real graph carries emap without using it either
    ]
    initializers = [("colours", colours), ("shape", np.array([-1, 3, 1, 1])), ("emap", emap)]
    inputs = {"target": [batch, 3, side, side], "source": [batch, values]}
    _save(path, nodes, inputs, {"output": [batch, 3, side, side]}, initializers)
    return emap, colours


def _save(path: Path, nodes: list, inputs: dict, outputs: dict, initializers: list[tuple[str, np.ndarray]]) -> Path:
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in group.items()] for group in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in initializers]
    graph = helper.make_graph(nodes, "tiny", *values, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
