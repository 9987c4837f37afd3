"""Text-to-image pipelines as diffusers saves them: the class that the folder names, with the parts that it has.

Nothing here knows a family. What `model_index.json` says and what the class takes decide everything, so that a family that diffusers gains
needs no code.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from pathlib import Path
from typing import Any

import torch

from foreign.json_files import read_json
from generators.checkpoints import Checkpoint
from generators.errors import CheckpointError, InputError
from generators.folder_weights import load_networks
from generators.quiet import libraries_quiet
from generators.text_to_image.safety import SAFETY_PARTS

INDEX = "model_index.json"
LORA = "lora"  # the role of a component with LoRA weights; a second one has a role that begins with it
ADVICE = "Save the pipeline again with `save_pretrained`"
UNOPENED = "Fetch it again; if its class is one that diffusers has given up, it cannot be used"
UNREADABLE = (OSError, ValueError, AttributeError, RuntimeError, TypeError, KeyError, ImportError)


def load_pipeline(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The pipeline in `folder`, on the CPU, without its safety checker and with the checkpoint's LoRA weights.

    Options: `variant` is the one of the files ("fp16"). Each component whose role begins with "lora" is a safetensors file of LoRA weights,
    with an option `scale` (1). Raises CheckpointError if the folder has no pipeline that makes an image from a text.
    """
    index = read_index(folder)
    with libraries_quiet():
        cls = pipeline_class(index, folder)
        variant, absent = checkpoint.option("variant"), _absent_parts(cls, index)
        taken = inspect.signature(cls.__init__).parameters.keys() - absent.keys()
        networks = load_networks(folder, {name: value for name, value in index.items() if name in taken}, dtype, variant)
        try:
            pipeline = cls.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                **absent,
                **networks,
            )
        except NameError as error:  # diffusers leaves out the import of a package that is not there: OmniGen's processor wants torchvision
            needs = f"which needs a package that is not here ({error.name or error})"
            raise CheckpointError(f"{folder} is a {cls.__name__}, {needs}", "Install what diffusers asks for") from error
        except UNREADABLE as error:
            raise CheckpointError(f"{folder} is no {cls.__name__} that diffusers can open ({_first_line(error)})", UNOPENED) from None
    if getattr(pipeline, "scheduler", None) is None:
        raise CheckpointError(f"{folder} has no scheduler", ADVICE)
    with libraries_quiet():
        _add_loras(pipeline, checkpoint)
    return pipeline


def read_index(folder: Path) -> dict[str, Any]:
    """The contents of a pipeline's `model_index.json`. CheckpointError if it is not there or names no class."""
    try:
        index = read_json(folder / INDEX)
    except OSError:
        raise CheckpointError(f"{folder} is no folder of a diffusers pipeline", f"It should hold a {INDEX}") from None
    except ValueError as error:
        raise CheckpointError(f"{folder / INDEX} is no JSON ({error})", "Fetch the pipeline again") from None
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise CheckpointError(f"{folder / INDEX} names no pipeline class", ADVICE)
    return index


def pipeline_class(index: dict[str, Any], folder: Path) -> Any:
    """The class that makes images from text with these parts: the one that the folder names, or its sibling where that one starts from an
    image. A class that only paints inside masks is taken as it is."""
    import diffusers
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING, _get_task_class

    name = index["_class_name"]
    cls = getattr(diffusers, name, None)
    if not inspect.isclass(cls) or not issubclass(cls, diffusers.DiffusionPipeline):
        release = importlib.metadata.version("diffusers")
        raise CheckpointError(f"{folder} is a {name}, which diffusers {release} does not have", "Code from a repository is never run")
    arguments = call_arguments(cls)
    if "prompt" not in arguments:
        raise CheckpointError(f"{folder} is a {name}, which takes no prompt", "Name a text-to-image pipeline")
    if "strength" not in arguments or "mask_image" in arguments:
        return cls
    return _get_task_class(AUTO_TEXT2IMAGE_PIPELINES_MAPPING, name, throw_error_if_not_exist=False) or cls


def sibling(pipeline: Any, task: str) -> Any | None:
    """The class of diffusers that does `task` ("Img2Img", "Inpaint") with this pipeline's parts, or None if there is none.

    It is the one that diffusers lists for the pipeline, or the one of that name.
    """
    import diffusers
    from diffusers.pipelines import auto_pipeline

    mappings = {"Img2Img": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, "Inpaint": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING}
    needed = {"Img2Img": {"image", "strength"}, "Inpaint": {"image", "mask_image", "strength"}}[task]
    name = type(pipeline).__name__
    listed = auto_pipeline._get_task_class(mappings[task], name, throw_error_if_not_exist=False)
    named = getattr(diffusers, f"{name.removesuffix('Pipeline')}{task}Pipeline", None)
    return next((cls for cls in (listed, named, type(pipeline)) if inspect.isclass(cls) and needed <= call_arguments(cls).keys()), None)


def with_parts_of(pipeline: Any, cls: Any) -> Any:
    """A pipeline of `cls` that shares the networks of `pipeline`."""
    if isinstance(pipeline, cls):
        return pipeline
    accepted = inspect.signature(cls.__init__).parameters
    shared = {name: part for name, part in {**pipeline.config, **pipeline.components}.items() if name in accepted}
    other = cls(**shared)
    other.set_progress_bar_config(disable=True)
    return other


def call_arguments(cls: Any) -> dict[str, Any]:
    """The arguments that the pipelines of a class name in their call, with their defaults. What a `**kwargs` would swallow is not there."""
    parameters = inspect.signature(cls.__call__).parameters.values()
    return {entry.name: entry.default for entry in parameters if entry.kind not in (entry.VAR_KEYWORD, entry.VAR_POSITIONAL)}


def _absent_parts(cls: Any, index: dict[str, Any]) -> dict[str, Any]:
    """The parts to pass as None: those that the folder does not have, and the safety checker, which is asked by the generator instead,
    because the pipeline would blacken what it flags."""
    parameters = {name: entry for name, entry in inspect.signature(cls.__init__).parameters.items() if name != "self"}
    required = {name for name, entry in parameters.items() if entry.default is entry.empty and entry.kind is not entry.VAR_KEYWORD}
    null = {name for name, value in index.items() if isinstance(value, list) and value == [None, None]}
    absent: dict[str, Any] = dict.fromkeys(name for name in parameters if name in null or name in required - index.keys())
    absent |= {name: None for name in SAFETY_PARTS if name in parameters}
    if "requires_safety_checker" in parameters:
        absent["requires_safety_checker"] = False
    return absent


def _add_loras(pipeline: Any, checkpoint: Checkpoint) -> None:
    loras = {role: part for role, part in sorted(checkpoint.components.items()) if role.startswith(LORA)}
    if loras and not hasattr(pipeline, "load_lora_weights"):
        raise CheckpointError(f"{checkpoint.path.name}: {type(pipeline).__name__} takes no LoRA weights", "Remove the component")
    for role, part in loras.items():
        if part.path.suffix != ".safetensors":
            raise CheckpointError(f"{part.path} is no safetensors file", "LoRA weights are read from safetensors alone")
        try:
            pipeline.load_lora_weights(str(part.path.parent), weight_name=part.path.name, adapter_name=role, local_files_only=True)
        except UNREADABLE as error:
            reason = _first_line(error)
            raise CheckpointError(f"{part.path} holds no LoRA weights for {type(pipeline).__name__} ({reason})", "Name another") from None
    if loras:
        pipeline.set_adapters(list(loras), adapter_weights=[_scale(part) for part in loras.values()])
        if not any(pipeline.get_list_adapters().values()):
            raise CheckpointError(f"{checkpoint.path.name}: no layer takes the LoRA weights", "Name weights of this model")


def _scale(lora: Checkpoint) -> float:
    scale = lora.option("scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise InputError(f"{lora.path.name}: the option `scale` must be a number, not {scale!r}", "1 is the full strength of the weights")
    return float(scale)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
