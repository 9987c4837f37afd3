"""The networks in folders as diffusers and transformers save them, with weights that our own reader reads.

So nothing else unpickles a `.bin`, half-precision weights that are there alone are taken, names that a training program changed are put
right, and a tensor that is missing is an error and not a random number.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from generators.checkpoints import read_weights
from generators.checkpoints.folders import find_weights, read_object
from generators.errors import CheckpointError
from generators.networks.state import load_exactly
from generators.quiet import libraries_quiet

LIBRARIES = ("diffusers", "transformers")


def load_network(folder: Path, cls: Any, dtype: torch.dtype = torch.float32, variant: str | None = None) -> Any:
    """The network of `cls`, a model class of diffusers or transformers, that `folder` holds, for inference. `variant` ("fp16") names the
    weights that are read first, where the folder has several.

    Raises CheckpointError if the folder holds none, or weights that do not fit its configuration.
    """
    state = read_state(folder, cls.__name__, variant)
    try:
        load = _of_diffusers if hasattr(cls, "load_config") else _of_transformers
        return load(folder, cls, state, dtype).eval()
    except CheckpointError:
        raise
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(f"{folder} holds no {cls.__name__} ({reason})", "Save the pipeline again with `save_pretrained`") from None


def read_state(folder: Path, owner: str, variant: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a folder's weights, those of the class `owner`, under plain names.

    Raises CheckpointError if it has none or a part of them is not there.
    """
    weights = find_weights([file.name for file in folder.iterdir()], variant) if folder.is_dir() else None
    if weights is None:
        raise CheckpointError(
            f"{folder} holds no weights of a {owner}", "It should have .safetensors or .bin files, as `save_pretrained` writes"
        )
    if weights.index is not None:
        listed = read_object(folder / weights.index).get("weight_map")
        parts = {str(name) for name in listed.values()} if isinstance(listed, dict) else set()
        if absent := sorted(parts - set(weights.files)):
            raise CheckpointError(f"{folder} lacks {absent[0]}, a part of its weights", "Remove the folder, and fetch the checkpoint again")
    state: dict[str, torch.Tensor] = {}
    for name in weights.files:
        state.update(read_weights(folder / name).tensors)
    return state


def load_networks(folder: Path, index: dict[str, Any], dtype: torch.dtype = torch.float32, variant: str | None = None) -> dict[str, Any]:
    """The networks that a pipeline's `index` (its model_index.json) names and `folder` has weights of, by their names there.

    Raises CheckpointError, as `load_network` does, and for a class that the installed libraries do not have.
    """
    networks = {}
    for name, value in index.items():
        if not (isinstance(value, list) and len(value) == 2 and value[0] in LIBRARIES and (folder / name).is_dir()):
            continue
        if find_weights([file.name for file in (folder / name).iterdir()]):
            cls = getattr(importlib.import_module(value[0]), str(value[1]), None)
            if cls is None:
                raise CheckpointError(
                    f"{folder}: {value[0]} has no class {value[1]}, which its {name} is of", "It may be of a later release"
                )
            networks[name] = load_network(folder / name, cls, dtype, variant)
    return networks


def _of_diffusers(folder: Path, cls: Any, state: dict[str, torch.Tensor], dtype: torch.dtype) -> Any:
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        network = cls.from_config(cls.load_config(folder, local_files_only=True))
    network._fix_state_dict_keys_on_load(state)  # attention of releases before 2023 under today's names
    load_exactly(network, state, str(folder), assign=True)
    exact = set(getattr(cls, "_keep_in_fp32_modules", None) or ())  # modules that half precision would spoil
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(dtype if exact.isdisjoint(name.split(".")) else torch.float32)
    return network


def _of_transformers(folder: Path, cls: Any, state: dict[str, torch.Tensor], dtype: torch.dtype) -> Any:
    config = cls.config_class.from_pretrained(folder, local_files_only=True)
    with libraries_quiet():
        network, report = cls.from_pretrained(None, config=config, state_dict=state, output_loading_info=True, dtype=dtype)
    missing = sorted(report["missing_keys"])
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(
            f"{folder} does not fit {cls.__name__}: lacks {', '.join(missing[:3])}{more}", "Check which network the file belongs to"
        )
    return network
