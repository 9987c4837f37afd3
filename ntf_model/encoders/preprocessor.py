"""What a saved model of transformers says about the pictures that it was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foreign.json_files import read_json
from ntf_model.errors import InputError


def read_preprocessor(source: str) -> dict[str, Any]:
    """`mean` and `std` of the colours (three numbers each) and `input_size` (pixels) from `preprocessor_config.json`, of those that it
    has; nothing if the model has no such file. Raises InputError if the file is damaged."""
    from transformers.utils import cached_file

    file = cached_file(source, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if not file:
        return {}
    try:
        values = read_json(Path(file))
        size = values.get("crop_size") or values.get("size") or {}
        side = size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))
        facts = {key: values.get(f"image_{key}") for key in ("mean", "std")}
        facts = {key: tuple(map(float, value)) for key, value in facts.items() if value}
        if any(len(value) != 3 for value in facts.values()):
            raise ValueError("colours have three numbers")
        return {**facts, **({"input_size": int(side)} if side else {})}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is damaged ({error})", "Fetch the model again") from None
