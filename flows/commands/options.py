"""Options that several commands share, and the values that options choose from. Light to import."""

from __future__ import annotations

import os
import pkgutil
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from generators import methods
from generators.errors import InputError
from ntf_model import baselines

# What an option may say. The rooms below have the same lists beside heavy imports; tests/flows/commands/test_help.py holds them equal.
ExportForm = Literal["folders", "webdataset", "parquet", "imagefolder", "lance"]
PublishForm = Literal["parquet", "imagefolder", "webdataset"]
Use = Literal["private", "research", "commercial"]
Split = Literal["train", "validation", "test"]
Label = Literal["real", "fake"]


def detector_names() -> list[str]:
    """All detectors, for completion."""
    return ["ntf", *sorted(module.name for module in pkgutil.iter_modules(baselines.__path__) if not module.name.startswith("_"))]


def generator_names() -> list[str]:
    """All generators, for completion."""
    return sorted(module.name for module in pkgutil.iter_modules(methods.__path__))


def _allow_outside(is_allowed: bool) -> bool:
    """Lets manifests name files outside their folder, in this process and in those that it starts."""
    if is_allowed:
        os.environ["NTF_ALLOW_OUTSIDE"] = "1"
    return is_allowed


AllowOutsideOption = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        callback=_allow_outside,
        help="Let the manifest name files outside its own folder. NTF_ALLOW_OUTSIDE=FOLDER:FOLDER allows single folders.",
    ),
]


def _allow_rules(is_allowed: bool) -> bool:
    """Lets manifests name functions that are imported, in this process and in those that it starts."""
    if is_allowed:
        os.environ["NTF_ALLOW_RULES"] = "1"
    return is_allowed


AllowRulesOption = Annotated[
    bool,
    typer.Option(
        "--allow-rules",
        callback=_allow_rules,
        help="Let the functions that the manifest names under `filters` run. NTF_ALLOW_RULES=MODULE:MODULE allows single modules.",
    ),
]


def require_dataset(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Where --store is given, a bare name is a dataset, whatever folder lies here: InputError if the store does not have it.

    It is called for both, in the order of the command line, and looks when both are known.
    """
    values = {**context.params, str(parameter.name): value}
    data, store = values.get("data"), values.get("store")
    source = context.get_parameter_source("store")
    if not data or store is None or source is None or source.name != "COMMANDLINE":
        return value
    if Path(data).name == data and Path(data).is_dir():
        from pipelines.store import Store

        if not Store(store, data).exists():
            raise InputError(f"there is no dataset {data!r} in {store}", f"For the folder {data}, write ./{data} and leave out --store")
    return value


StoreOption = Annotated[
    Path, typer.Option("--store", help="The folder that holds the datasets.", envvar="NTF_STORE", callback=require_dataset)
]
OutputOption = Annotated[Path, typer.Option("--output", help="The folder for trained detectors, results and the report.")]
DeviceOption = Annotated[str, typer.Option("--device", help="The device to run on: auto, cpu, cuda:0, ...")]
TrainingDeviceOption = Annotated[
    str | None, typer.Option("--device", help="The device to run on: cpu, cuda:0, ... If not given, the fastest there is.")
]
DevicesOption = Annotated[
    str, typer.Option("--device", "--devices", help="The device to run on: auto, cpu, cuda:0, or several GPUs, such as 0,1,2,3.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Make at most this many fakes of every part of a subset.")]
BatchOption = Annotated[
    int | None,
    typer.Option("--batch", min=1, help="Make so many images at once. If not given, a GPU makes as many as fit and pay, and a CPU a few."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
VersionOption = Annotated[str | None, typer.Option("--version", help="The number or tag of a version. If not given, the newest.")]
DeliveryOption = Annotated[
    str | None, typer.Option("--delivery", help="Take the images as this delivery left them, such as web. If not given, the clean ones.")
]
DeliveriesOption = Annotated[
    list[str] | None, typer.Option("--delivery", help="A delivery of the manifest, such as web. May be given several times.")
]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="Take only the rows that meet this SQL condition, such as \"subset = 'LDM' OR label = 0\".")
]
DatasetArgument = Annotated[str, typer.Argument(help="The name of a dataset in the store.")]
DataArgument = Annotated[
    str,
    typer.Argument(
        help="The name of a dataset in the store, or a folder with `real/` and `fake/` in it. With --store, a bare name is a dataset.",
        callback=require_dataset,
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels", help="Which names or values are real and fake in a folder of yours, such as real=nature,fake=sd or real=0,fake=1."
    ),
]
GroupsOption = Annotated[
    str,
    typer.Option(
        "--groups",
        help="What stays in one split where a folder has none: auto, none, folders (videos, people), names (id7_0001), or a file of lines "
        "picture,group.",
    ),
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: NAME=VALUE, such as stage1.epochs=3. May be given several times.")
]


EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="What the detector stands on: small, efficientnet-lite0, resnet50, the id or folder of a vision model of transformers, or "
        "package.module:function for your own.",
    ),
]


FprOption = Annotated[
    float | None,
    typer.Option(
        "--fpr",
        help="Use the threshold at which at most this share of real images is called fake, such as 0.01. It is found on the validation "
        "images. If not given, the threshold that is best on these.",
    ),
]


def settings_of(pairs: list[str], option: str = "--set") -> dict[str, Any]:
    """`--set name=value` pairs as settings, with every value read as YAML. A dotted name (`stage1.epochs`) reaches into a group.

    Raises InputError for a pair without `=`.
    """
    from pipelines.manifest.yaml_lines import parse

    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"{option} {pair!r} has no `=`", f"Write NAME=VALUE, for example {option} seed=1")
        *groups, last = name.split(".")
        group = settings
        for key in groups:
            group = group.setdefault(key, {})
        data, _, problems = parse(value, f"{option} {name}")
        if problems:
            raise problems[0]
        group[last] = data
    return settings
