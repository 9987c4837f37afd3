"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from generators.errors import InputError

StoreOption = Annotated[Path, typer.Option("--store", help="The folder that datasets are kept in.", envvar="NTF_STORE")]
OutputOption = Annotated[Path, typer.Option("--output", help="The folder for trained detectors, results and the report.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda:0, ...")]
DevicesOption = Annotated[str, typer.Option("--device", "--devices", help="auto, cpu, cuda:0, or several GPUs: 0,1,2,3.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many fakes in each part of a subset.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
VersionOption = Annotated[str | None, typer.Option("--version", help="A version's number or tag; the newest if not given.")]


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """`--set name=value` pairs as settings, each value read as YAML; a dotted name (`stage1.epochs`) reaches into a group.

    Raises InputError for a pair without `=`.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--set {pair!r} is no NAME=VALUE", "Write, for example, --set seed=1")
        *groups, last = name.split(".")
        inner = found
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = yaml.safe_load(value)
    return found
