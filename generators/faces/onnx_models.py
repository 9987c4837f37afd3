"""insightface's ONNX models from local files, with errors that say what to put where. insightface is imported only when it is used."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from generators.errors import InputError

log = logging.getLogger(__name__)

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

_USUAL_NAMES = {"detection": ("det_", "scrfd", "retina"), "recognition": ("w600k", "glint", "arcface", "r50", "r100", "mbf")}


def providers(device: str | torch.device) -> list[str | tuple[str, dict[str, Any]]]:
    """onnxruntime's execution providers for a torch device, those that this installation has; the GPU's on the same GPU."""
    import onnxruntime

    device = torch.device(device)
    if device.type == "cuda" and CUDA in onnxruntime.get_available_providers():
        return [(CUDA, {"device_id": device.index or 0}), CPU]
    return [CPU]


def onnx_files(path: Path, task: str) -> list[Path]:
    """`path` itself if it is a file, else the ONNX files of that folder, likely ones for `task` first. InputError if there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"there is no {task} model {path}", "Give an .onnx file, or a folder with an insightface pack unpacked in it")
    usual = _USUAL_NAMES[task]
    files = sorted(path.glob("*.onnx"), key=lambda file: (not any(name in file.name.lower() for name in usual), file.name))
    if not files:
        raise InputError(f"{path} holds no .onnx file", "Unpack an insightface pack there (det_10g.onnx, w600k_r50.onnx and so on)")
    return files


def load_insightface(path: Path, task: Literal["detection", "recognition"], device: str | torch.device = "cpu") -> Any:
    """insightface's model for `task` from an .onnx file or from the folder of a pack. Raises InputError if there is none."""
    try:
        from insightface import model_zoo
    except ImportError:
        raise InputError(f"{path} needs insightface, which is not installed", "Install it, or leave the model out") from None
    files = onnx_files(path, task)
    for file in files:
        try:
            model = model_zoo.get_model(str(file), providers=providers(device))
        except Exception as error:  # onnxruntime's own errors have no common base; insightface adds ConnectionError and bare assertions
            if len(files) > 1:
                continue
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            raise InputError(f"{file} cannot be loaded ({reason})", "Fetch it again: it may be cut short") from None
        if getattr(model, "taskname", None) == task:
            on_the_gpu = CUDA in model.session.get_providers()
            log.log(level_of(on_the_gpu, device), "%s", where_it_runs(on_the_gpu, file.name, device))
            return model
    raise InputError(f"{path} holds no {task} model that insightface knows", f"Put the pack's {task} model (.onnx) there")


def where_it_runs(on_the_gpu: bool, name: str, device: str | torch.device) -> str:
    """One line for people: on which processor onnxruntime runs a model of `device`, and what would make it the GPU."""
    if on_the_gpu:
        return f"{name} runs on the GPU (onnxruntime's CUDAExecutionProvider)"
    if torch.device(device).type == "cuda":
        import onnxruntime

        if CUDA in onnxruntime.get_available_providers():
            return f"{name} runs on the CPU, beside a GPU: onnxruntime could not load CUDA. Its release must fit PyTorch's CUDA"
        return f"{name} runs on the CPU, beside a GPU: this onnxruntime has no CUDA. `pip install onnxruntime-gpu` in its place is faster"
    return f"{name} runs on the CPU (onnxruntime)"


def level_of(on_the_gpu: bool, device: str | torch.device) -> int:
    """A GPU that is not used is worth a warning, which is shown also where nobody asked for a log."""
    return logging.WARNING if torch.device(device).type == "cuda" and not on_the_gpu else logging.INFO


def resized(model: Any, side: int) -> Any:
    """insightface's detection `model` for images of `side` px; `model` itself if its file cannot be made to take them.

    Many released files fix the size of their input to 640 px, though nothing but that number does: their graphs are convolutions, and what
    they resize and reshape they measure first.
    """
    import onnx
    import onnxruntime

    try:
        graph = onnx.load(model.model_file)
        rows, columns = graph.graph.input[0].type.tensor_type.shape.dim[2:4]
        rows.dim_value = columns.dim_value = side
        for output in graph.graph.output:  # how many places there are to find a face in follows from the size
            for dimension in output.type.tensor_type.shape.dim[:-1]:
                dimension.Clear()
                dimension.dim_param = "?"
        del graph.graph.value_info[:]
        options = model.session.get_provider_options()  # which GPU, too
        own = [(name, options.get(name, {})) for name in model.session.get_providers()]
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=own)
        small = type(model)(None, session)
        small.detect(np.zeros((side, side, 3), np.uint8))
    except Exception:  # onnxruntime's own errors have no common base; the large network does the same work
        return model
    return small
