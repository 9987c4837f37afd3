"""WebDataset shards and rows of a Hugging Face dataset."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ntf_model.data.reading.labels import LabelRule
from ntf_model.data.rows import from_huggingface, from_rows
from ntf_model.data.shards import from_webdataset
from ntf_model.data.sources import from_path
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


def class_labels(names: list[str]) -> Any:
    """A dataset whose every split has a bright real and a dark fake, labelled by the places of "real" and "fake" in `names`."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})

    def split(shade: int) -> Any:
        images = [Image.new("RGB", (4, 4), (value,) * 3) for value in (200 + shade, 10 + shade)]
        labels = [names.index(kind) for kind in ("real", "fake")]
        return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)

    return datasets.DatasetDict({name: split(shade) for shade, name in enumerate(("train", "validation", "test"))})


@pytest.mark.parametrize("names", [["fake", "real"], ["real", "fake"], ["other", "real", "fake"]])
@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_a_class_label_is_read_by_its_names(tmp_path: Path, names: list[str], form: str) -> None:
    """det/01: ImageFolder sorts its classes, so that fake is 0."""
    data = class_labels(names)
    if form == "saved":
        data.save_to_disk(str(tmp_path))
    else:
        for name, part in data.items():
            part.to_parquet(str(tmp_path / f"{name}-00000-of-00001.parquet"))
    for split in from_path(tmp_path):
        assert split.labels.tolist() == [0, 1]
        assert split.dataset[0].image.mean() > 100 > split.dataset[1].image.mean()


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        (["FAKE_images", "Real"], None, [1, 0]),
        (["1", "0"], None, [1, 0]),  # the names decide and not the places
        (["ai", "nature"], None, [1, 0]),
        (["cat", "dog"], "real=dog,fake=cat", [1, 0]),
        (["cat", "dog"], "real=1,fake=0", [1, 0]),
        (["cat", "dog"], None, "'cat' is neither real nor fake"),
        (["not-real", "real"], None, "'not-real' is neither"),
        (["real", "fake_sd"], None, "'fake_sd' is neither"),
    ],
)
def test_classes_of_other_names_are_read_or_refused(names: list[str], given: str | None, expected: Any) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=names)})
    columns = {"image": [{"bytes": png(value), "path": None} for value in (1, 2)], "label": [0, 1]}
    rows = {split: datasets.Dataset.from_dict(columns, features=features) for split in ("train", "validation", "test")}
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            from_rows(rows, labels=LabelRule.parse(given))
    else:
        assert from_rows(rows, labels=LabelRule.parse(given)).train.labels.tolist() == expected


def test_one_picture_or_one_id_in_both_classes_is_refused() -> None:
    both = [{"image": png(1), "label": 0}, {"image": png(1), "label": 1}]
    fine = rows(False)
    with pytest.raises(InputError, match=r"validation/0 is real and validation/1 is fake, but they are the same picture"):
        from_rows({"train": fine, "validation": both, "test": fine})
    same_id = [{"image": png(1), "label": 0, "id": "x"}, {"image": png(2), "label": 1, "id": "x"}]
    with pytest.raises(InputError, match="the id 'x' is both real and fake"):
        from_rows({"train": fine, "validation": same_id, "test": fine})


def write_splits(folder: Path, names: tuple[str, ...] = ("train", "validation", "test"), **added: bytes) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        samples = {f"{key:04d}": sample(50 * number + key, label=key % 2) for key in range(4)}
        for suffix, data in added.items():
            samples["0000"][f".{suffix}.png"] = data
        write_shard(folder / f"{name}-000000.tar", samples)
    return folder


def test_hidden_members_and_further_pictures_of_a_sample_are_left_out_and_counted(tmp_path: Path) -> None:
    """det/18: AppleDouble files, masks, and one key twice."""
    folder = write_splits(tmp_path / "d", mask=png(9))
    with tarfile.open(folder / "train-000000.tar", "a") as tar:
        for name in ("._0000.png", "__MACOSX/._0001.png", ".hidden/0007.png"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"\0\5\26\7"))
    splits = from_path(folder)
    assert [len(split) for split in splits] == [4, 4, 4]
    assert splits.train.dataset[0].image[0, 0, 0] == 0
    assert "4 files are left out (1 .mask.png, 3 hidden)" in splits.notes[0]


def test_a_key_twice_in_a_shard_is_refused(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d")
    with tarfile.open(folder / "test-000000.tar", "a") as tar:
        info = tarfile.TarInfo("0001.png")
        info.size = len(png(7))
        tar.addfile(info, io.BytesIO(png(7)))
    with pytest.raises(InputError, match=r"test-000000\.tar: the member 0001\.png comes a second time"):
        from_path(folder)


def test_a_label_twice_in_a_sample_is_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", {"1": {".png": png(1), ".json": b'{"label": 0, "label": 1}'}})
    with pytest.raises(InputError, match=r"a\.tar: 1\.json is damaged \(the key 'label' comes twice\)"):
        from_webdataset([shard], [shard], [shard])


def test_shards_of_splits_in_any_case_and_of_none(tmp_path: Path) -> None:
    assert [len(split) for split in from_path(write_splits(tmp_path / "a", ("Training", "VAL", "Test")))] == [4, 4, 4]
    folder = write_splits(tmp_path / "b", ("train", "validation", "test", "extra"))
    with pytest.raises(InputError, match=r"extra-000000\.tar is of no split that is known"):
        from_path(folder)


def test_shards_beside_pictures_are_not_certain(tmp_path: Path) -> None:
    folder = write_splits(tmp_path / "d")
    (folder / "real").mkdir()
    (folder / "real" / "a.png").write_bytes(png(1))
    with pytest.raises(InputError, match="tar files and pictures in class folders"):
        from_path(folder)


@pytest.mark.parametrize("kind", ["w:gz", "w:bz2", "w:xz"])
def test_a_packed_shard_is_refused_because_pictures_are_read_in_place(tmp_path: Path, kind: str) -> None:
    with tarfile.open(tmp_path / "a.tar", kind) as tar:
        for suffix, data in sample(1, label=0).items():
            info = tarfile.TarInfo(f"0001{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(InputError, match=r"a\.tar is packed"):
        from_webdataset([tmp_path / "a.tar"], [], [])


def test_hostile_shards_are_one_line(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", {"0001": {".png": png(1), ".json": b"[" * 100_000}})
    with pytest.raises(InputError, match=r"0001\.json is damaged") as caught:
        from_webdataset([shard], [], [])
    assert "\n" not in str(caught.value)
    data = bytearray(write_shard(tmp_path / "b.tar", {"0001": sample(1, label=0)}).read_bytes())
    data[124:136] = b"\x80" + (2**60).to_bytes(11, "big")
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 256 + sum(data[156:512]))
    (tmp_path / "b.tar").write_bytes(data)
    with pytest.raises(InputError, match=r"b\.tar"):
        from_webdataset([tmp_path / "b.tar"], [], [])
    os.mkfifo(tmp_path / "c.tar")
    with pytest.raises(InputError, match=r"c\.tar is a FIFO"):
        from_webdataset([tmp_path / "c.tar"], [], [])
    twice = write_shard(tmp_path / "d.tar", {"x\x1b[2J": sample(1, label=0)})
    with tarfile.open(twice, "a") as tar:
        info = tarfile.TarInfo("x\x1b[2J.png")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"a"))
    with pytest.raises(InputError, match="comes a second time") as caught:
        from_webdataset([twice], [], [])
    assert str(caught.value).isprintable()
