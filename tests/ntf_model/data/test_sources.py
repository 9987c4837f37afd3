"""WebDataset shards and rows of a Hugging Face dataset."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntf_model.data.sources import from_huggingface, from_path, from_rows, from_webdataset
from ntf_model.errors import InputError


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((6, 7, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_shard(file: Path, samples: dict[str, dict[str, bytes]]) -> Path:
    with tarfile.open(file, "w") as tar:
        for key, members in samples.items():
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{key}{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file


def sample(value: int, **facts: object) -> dict[str, bytes]:
    return {".png": png(value), ".json": json.dumps(facts).encode()}


def test_a_webdataset_is_read_in_any_order(tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path / "a-000.tar",
        {
            "0001": sample(10, label=0, subset="celeba"),
            "0002": sample(20, label="fake", subset="LDM", real_source="celeba", family="DM"),
            "0003": sample(30, label=1, subset="LDM", real_source="celeba", family="DM"),
        },
    )
    splits = from_webdataset([shard], [shard], [shard])
    data = splits.train
    assert [data.dataset[index].image[0, 0, 0] for index in (2, 0, 1)] == [30, 10, 20]
    assert data.real_of == {"LDM": "celeba"}
    assert data.families == {"LDM": "DM"}
    assert data.labels.tolist() == [0, 1, 1]


def test_a_shard_that_was_cut_short_is_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "b.tar", {"0001": {".png": png(1)}})
    with pytest.raises(InputError, match=r"b\.tar: the sample 0001 has no a \.json|0001 has no"):
        from_webdataset([shard], [shard], [shard])
    whole = write_shard(tmp_path / "c.tar", {"0001": sample(1, label=0)})
    whole.write_bytes(whole.read_bytes()[:700])
    with pytest.raises(InputError, match=r"c\.tar"):
        from_webdataset([whole], [whole], [whole])
    with pytest.raises(InputError, match=r"absent\.tar"):
        from_webdataset([tmp_path / "absent.tar"], [], [])


def test_a_label_that_is_neither_is_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "d.tar", {"0001": sample(1, label="maybe")})
    with pytest.raises(InputError, match="neither real nor fake"):
        from_webdataset([shard], [shard], [shard])


def rows(with_subset: bool) -> list[dict[str, object]]:
    rows = []
    for value, (label, subset) in enumerate([(0, "ffhq"), (1, "GAN"), (0, "ffhq"), (1, "GAN")]):
        rows.append({"image": {"bytes": png(value)} if value % 2 else Image.fromarray(np.full((5, 5), value, np.uint8)), "label": label})
        if with_subset:
            rows[-1]["subset"] = subset
    return rows


@pytest.mark.parametrize("with_subset", [True, False])
def test_rows_of_a_dataset(with_subset: bool) -> None:
    data = from_rows({"train": rows(with_subset), "val": rows(with_subset), "test": rows(with_subset)}).validation
    assert data.real_of == ({"GAN": "ffhq"} if with_subset else {"fake": "real"})
    assert [data.dataset[index].image[0, 0, 0] for index in range(4)] == [0, 1, 2, 3]
    assert data.dataset[3].id == "validation/3"


def test_rows_say_which_reals_they_belong_to() -> None:
    listed = [{"image": png(value), "label": value % 2, "subset": "GAN", "part": "ab"[value // 2], "family": "GAN"} for value in range(4)]
    for row in listed:
        row["subset"] = row["part"] if row["label"] == 0 else "GAN"
    data = from_rows({"train": listed, "validation": listed, "test": listed}).train
    assert data.real_of == {"GAN": ("a", "b")}
    assert data.families == {"GAN": "GAN"}
    assert from_rows({"train": listed, "validation": listed, "test": listed}, real_of={"GAN": "b"}).train.real_of == {"GAN": "b"}


def test_a_path_is_read_in_the_form_that_it_has(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for split in ("train", "validation"):
        write_shard(
            shards / f"{split}-000000.tar", {"0": sample(10, label=0, subset="a"), "1": sample(20, label=1, subset="GAN", part="a")}
        )
    with pytest.raises(InputError, match="no shards of the split 'test'"):
        from_path(shards)
    write_shard(shards / "test-000000.tar", {"0": sample(30, label=0, subset="a"), "1": sample(40, label=1, subset="GAN", part="a")})
    splits = from_path(shards)
    assert splits.test.dataset[1].image[0, 0, 0] == 40
    assert [len(split) for split in splits] == [2, 2, 2]

    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([{key: row[key] for key in ("label", "subset")} for row in rows(True)])
    table = table.add_column("image", [{"bytes": png(value), "path": None} for value in range(4)]).cast_column("image", datasets.Image())
    saved = datasets.DatasetDict({"train": table, "validation": table, "test": table})
    saved.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "parquet" / "data").mkdir(parents=True)
    for name, part in saved.items():
        part.to_parquet(str(tmp_path / "parquet" / "data" / f"{name}-00000-of-00001.parquet"))
    for folder in ("saved", "parquet"):
        data = from_path(tmp_path / folder).validation
        assert data.real_of == {"GAN": "ffhq"}
        assert [data.dataset[index].image[0, 0, 0] for index in range(4)] == [0, 1, 2, 3]


def test_missing_splits_and_columns_are_named() -> None:
    with pytest.raises(InputError, match="no split 'validation'"):
        from_rows({"train": rows(True), "test": rows(True)})
    with pytest.raises(InputError, match="no column 'target'"):
        from_rows({"train": rows(True), "validation": rows(True), "test": rows(True)}, label="target")
    two_sources = [*rows(True), {"image": Image.new("RGB", (4, 4)), "label": 0, "subset": "lsun"}]
    with pytest.raises(InputError, match="which reals"):
        from_rows({"train": two_sources, "validation": rows(True), "test": rows(True)})


def test_without_the_library_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match="pip install datasets"):
        from_huggingface("someone/some-dataset")
