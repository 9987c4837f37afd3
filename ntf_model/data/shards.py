"""Detector data from WebDataset shards: pictures and JSON in tar files, read in place."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from foreign.archives import tar_members
from foreign.files import open_plain
from foreign.folders import said
from foreign.objects import read_object
from foreign.pictures import MAX_BYTES
from foreign.text import reason, visible
from ntf_model.data.data import DetectionData, DetectionSplits, Item
from ntf_model.data.facts import Facts, described
from ntf_model.data.images import IMAGE_SUFFIXES, read_image
from ntf_model.data.reading.labels import CLASSES, FAKE, LabelRule
from ntf_model.data.reading.listing import is_foreign
from ntf_model.errors import InputError

Placed = tuple[int, int, bytes]  # where a member's data begin in the shard, how many bytes, and the JSON, or a picture's sha256


class TarDataset:
    """Pictures that lie in tar files, read in any order by their place in the file. Nothing in the files is executed."""

    def __init__(self, entries: list[tuple[Path, int, int, int, str, str]]):
        self.entries = entries  # (shard, offset, size, label, subset, id)
        self.local = threading.local()  # an open file has one position: each thread opens its own

    def __getitem__(self, index: int) -> Item:
        shard, offset, size, label, subset, name = self.entries[index]
        streams = self.local.__dict__.setdefault("streams", {})
        if shard not in streams:
            streams[shard] = open_plain(shard)
        streams[shard].seek(offset)
        return Item(read_image(streams[shard].read(size), name), label, subset, name)

    def __len__(self) -> int:
        return len(self.entries)


def from_webdataset(
    train: Sequence[Path | str],
    validation: Sequence[Path | str],
    test: Sequence[Path | str],
    *,
    real_of: Mapping[str, str] | None = None,
    families: Mapping[str, str] | None = None,
    labels: LabelRule | None = None,
) -> DetectionSplits:
    """Shards in the WebDataset layout: for each key a picture and a `.json` with `label` (`ntf_model.data.reading.labels`) and `subset`.

    A key is a path up to the first point of its name, as in the library webdataset. Hidden files (`._KEY.png`) are left out and counted,
    and so are pictures of further fields (`KEY.mask.png`). A fake's json may also name its `real_source` (or `real`) and `family`, which
    `real_of` and `families` overrule. Raises InputError, naming the shard and the key, if something is missing or comes twice, or a shard
    is damaged.
    """
    parts = [
        _read_shards(list(map(Path, shards)), real_of or {}, families or {}, labels or LabelRule()) for shards in (train, validation, test)
    ]
    return DetectionSplits(*parts)


def _read_shards(shards: list[Path], real_of: Mapping[str, str], families: Mapping[str, str], rule: LabelRule) -> DetectionData:
    entries: list[tuple[Path, int, int, int, str, str]] = []
    contents: list[str] = []
    facts_of = Facts(real_of, families)
    left_out: Counter[str] = Counter()
    shard_of: dict[str, Path] = {}
    for shard in shards:
        for key, members in _samples(shard, left_out).items():
            facts = members.get(".json")
            pictures = [suffix for suffix in members if suffix in IMAGE_SUFFIXES]
            if facts is None or not pictures:
                missing = "JSON file (.json)" if facts is None else "picture"
                raise InputError(f"{shard}: the sample {key} has no {missing}", "The writer may have been killed: make the shard again")
            if len(pictures) > 1:
                raise InputError(f"{shard}: the sample {key} has several pictures ({', '.join(pictures)})", "Keep one for each key")
            name = f"{shard.name}/{key}"
            if name in shard_of:
                raise InputError(f"{shard}: the sample {key} is in {shard_of[name]} too", "Give the two shards different names")
            shard_of[name] = shard
            info = _json(facts[2], f"{shard}: {key}.json")
            label, subset = rule.of_value(info.get("label"), f"{shard}: {key}"), str(info.get("subset", ""))
            subset = subset or CLASSES[label]
            if label == FAKE:
                facts_of.note(info, subset)
            offset, size, digest = members[pictures[0]]
            entries.append((shard, offset, size, label, subset, name))
            contents.append(digest.hex())
    labels = np.array([entry[3] for entry in entries], dtype=np.int64)
    subsets = np.array([entry[4] for entry in entries], dtype=object).astype(str)
    where = ", ".join(map(str, shards[:1])) + (" and others" if len(shards) > 1 else "")
    note = f"{where}: {said(left_out)}" if left_out else ""
    return described(
        TarDataset(entries), labels, subsets, [entry[5] for entry in entries], contents, facts_of, where, (note,) if note else ()
    )


def _samples(shard: Path, left_out: Counter[str]) -> dict[str, dict[str, Placed]]:
    """For each key its members by field. Counts what is left out in `left_out`. InputError for a member that comes twice."""
    samples: dict[str, dict[str, Placed]] = {}

    def wanted(name: str) -> bool:
        if is_foreign(name):
            left_out["hidden"] += 1
            return False
        _, field = _key_of(name)
        if field == ".json" or field in IMAGE_SUFFIXES:
            return True
        left_out.update([field] if any(field.endswith(suffix) for suffix in IMAGE_SUFFIXES) else [])
        return False

    for member in tar_members(shard, wanted, MAX_BYTES, lambda _: left_out.update(["link or device"])):
        if member.offset is None:
            raise InputError(f"the shard {shard} is packed, and its pictures are read in place", "Unpack it: gunzip, bunzip2 or unxz")
        if member.data is None:
            raise InputError(f"{shard}: {visible(member.name)} has {member.size:,} bytes", f"At most {MAX_BYTES:,} are read")
        key, field = _key_of(member.name)
        if field in samples.setdefault(key, {}):
            raise InputError(f"{shard}: the member {visible(member.name)} comes a second time", "Give each sample a key of its own")
        kept = member.data if field == ".json" else hashlib.sha256(member.data).digest()
        samples[key][field] = (member.offset, member.size, kept)
    return samples


def _key_of(name: str) -> tuple[str, str]:
    """Key and field of a member: the key is its path up to the first point of its name."""
    path = PurePosixPath(name)
    stem, point, field = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, (point + field).lower()


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        facts = read_object(data)
    except ValueError as error:
        raise InputError(f"{where} is damaged ({reason(error)})", "Make the shard again") from None
    if not isinstance(facts, dict):
        raise InputError(f"{where} is no JSON object", "Make the shard again")
    return facts
