"""Real images in the forms in which they are released: CelebA-HQ, FFHQ, LSUN, LAION and LHQ, on small files of the same form."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from generators.errors import InputError
from pipelines.importing import Imported, import_images
from pipelines.manifest.chains import ChainStep
from pipelines.manifest.schema import RealSource, Splits
from pipelines.plan.keys import prompts_of
from pipelines.plan.reals import open_pool

FACTS = ("real", "research", "their page")


def picture(number: int, form: str = "JPEG", side: int = 24) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form)
    return data.getvalue()


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, Path]:
    """CelebAMask-HQ's mapping and CelebA's identities: pictures 0 and 2 of CelebA-HQ show one person."""
    mapping = tmp_path / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text(
        "idx\torig_idx\torig_file\n0      119613       119614.jpg\n1      99094       099095.jpg\n2      5       000006.jpg\n"
    )
    identities = tmp_path / "identity_CelebA.txt"
    identities.write_text("000006.jpg 2880\n099095.jpg 77\n119614.jpg 2880\n")
    return {"celebahq": mapping, "identities": identities}


def people(imported: Imported) -> list[str]:
    assert imported.identities is not None
    return [line.split(",")[1] for line in imported.identities.read_text().split()]


def test_celebahq_as_a_zip_of_jpegs_splits_by_person(tmp_path: Path, lists: dict[str, Path]) -> None:
    names = {f"CelebAMask-HQ/CelebA-HQ-img/{number}.jpg": picture(number) for number in range(3)}
    imported = import_images(zipped(tmp_path / "c.zip", names), tmp_path / "out", *FACTS, **lists)
    assert people(imported) == ["2880", "77", "2880"]
    source = RealSource(path=imported.folder, identities=imported.identities, licence="research")
    splits = {}
    for image in open_pool("celebahq", source, Splits(), 3).images:
        assert splits.setdefault(image.identity, image.split) == image.split
    assert set(splits) == {"2880", "77"}


def test_celebahq_as_parquet_of_the_hub(tmp_path: Path, lists: dict[str, Path]) -> None:
    def table(paths: list[str | None]) -> Path:
        rows = [{"bytes": picture(number), "path": path} for number, path in enumerate(paths)]
        pq.write_table(pa.table({"image": rows}), tmp_path / "train.parquet")
        return tmp_path / "train.parquet"

    imported = import_images(table(["00002.jpg", "00001.jpg"]), tmp_path / "out", *FACTS, **lists)
    assert people(imported) == ["2880", "77"]
    with pytest.raises(InputError, match=r"does not say whom .* shows"):
        import_images(table([None, None]), tmp_path / "rows", *FACTS, **lists)
    assert not (tmp_path / "rows" / "real").exists()


def test_lists_that_do_not_fit_celebahq_are_errors(tmp_path: Path, lists: dict[str, Path]) -> None:
    source = zipped(tmp_path / "c.zip", {"7.jpg": picture(0)})
    with pytest.raises(InputError, match=r"does not say whom 7\.jpg shows"):
        import_images(source, tmp_path / "a", *FACTS, **lists)
    masks = zipped(tmp_path / "m.zip", {"CelebAMask-HQ-mask-anno/0/00000_hair.png": picture(0, "PNG")})
    with pytest.raises(InputError, match=r"does not say whom .*hair\.png shows.*a mask is no picture"):
        import_images(masks, tmp_path / "m", *FACTS, **lists)
    with pytest.raises(InputError, match="needs CelebA's list"):
        import_images(source, tmp_path / "b", *FACTS, celebahq=lists["celebahq"])
    with pytest.raises(InputError, match="is no line `idx orig_idx orig_file`"):
        import_images(source, tmp_path / "c", *FACTS, celebahq=lists["identities"], identities=lists["identities"])
    lists["identities"].write_text("000006.jpg 2880\n")
    with pytest.raises(InputError, match=r"no identity for 119614\.jpg"):
        import_images(source, tmp_path / "d", *FACTS, **lists)


@pytest.mark.parametrize("packed", [False, True])
def test_ffhq_in_folders_of_thousands_and_lhq_as_a_zip(packed: bool, tmp_path: Path) -> None:
    members = {f"{number // 1000 * 1000:05d}/{number:05d}.png": picture(number, "PNG") for number in (0, 999, 1000, 69999)}
    if packed:
        source = zipped(tmp_path / "lhq_256.zip", {f"lhq_256/{number:07d}.png": picture(number, "PNG") for number in range(4)})
    else:
        source = tmp_path / "ffhq"
        for name, data in members.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
    imported = import_images(source, tmp_path / "out", *FACTS)
    assert imported.images == 4
    assert imported.identities is None
    first = np.asarray(Image.open(imported.folder / "0000" / "00000000.png"))
    assert np.array_equal(first, np.asarray(Image.open(io.BytesIO(picture(0, "PNG")))))


def test_lsun_as_an_lmdb_of_webp(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "church_outdoor_train_lmdb"), map_size=2**24) as database, database.begin(write=True) as transaction:
        for number in range(3):
            transaction.put(f"{number:040x}".encode(), picture(number, "WEBP"))
    imported = import_images(tmp_path / "church_outdoor_train_lmdb", tmp_path / "out", *FACTS)
    assert imported.images == 3
    assert not imported.refused


def test_laion_as_img2dataset_writes_it_gives_prompts(tmp_path: Path) -> None:
    """Shards `00000.tar` with KEY.jpg, KEY.txt and KEY.json, and statistics beside them."""
    folder = tmp_path / "laion"
    folder.mkdir()
    captions = ["a lighthouse\tat dusk", None, "two cats, asleep\non a sofa"]
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for number, caption in enumerate(captions):
            facts = json.dumps({"caption": caption, "url": "https://example.org", "key": f"{number:09d}", "status": "success"}).encode()
            for suffix, data in (("jpg", picture(number)), ("txt", (caption or "").encode()), ("json", facts)):
                member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    imported = import_images(folder, tmp_path / "out", *FACTS)
    assert imported.images == 3
    assert imported.captions is not None
    step = ChainStep(kind="prompt", generator="stable_diffusion", checkpoint="c", prompts=imported.captions)
    assert list(prompts_of(step)) == ["a lighthouse at dusk", "two cats, asleep on a sofa"]
