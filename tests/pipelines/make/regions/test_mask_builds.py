"""Masks that are not drawn, through a build: a folder beside the reals, and parts of a face; and a segmenter that learns from the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from generators.checkpoints import Checkpoint
from generators.demo.pictures import distinct_crops, held_out_pictures
from generators.errors import InputError
from generators.faces.parsing import FaceParser
from generators.networks.faces.bisenet import BiSeNet
from pipelines.build.build import run_build
from pipelines.images import decode
from pipelines.make.regions import masks
from pipelines.manifest.load import load_manifest
from pipelines.manifest.masks import MaskSpec
from pipelines.plan.plan import make_plan
from pipelines.reading import MaskedItem, open_splits
from pipelines.store import Row, Store
from tests.support import write_manifest

SIZE = 32
PAINT = {"inpaint": "stable_diffusion", "checkpoint": "stable-diffusion-demo-32", "steps": 2, "strength": 1.0, "safety": "off"}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures as files, in two folders."""
    folder = tmp_path_factory.mktemp("reals")
    for number, (_, pixels) in enumerate(distinct_crops(held_out_pictures("photos"), 8, seed=0)):
        file = folder / f"{number % 2}" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), cv2.resize(pixels, (SIZE, SIZE))[..., ::-1])
    return folder


def built(folder: Path, photographs: Path, mask: dict[str, Any], count: int = 4, **more: Any) -> tuple[Store, list[Row]]:
    step = {**PAINT, "target": "own", "mask": mask}
    data = {
        "dataset": "masked",
        "size": SIZE,
        "audit": {"gate": False},
        "splits": {"train": 0.5, "validation": 0.25},
        "reals": {"own": {"path": str(photographs), "licence": "test"}},
        "subsets": {"Painted": {"count": count, "real": "own", "chain": [step]}},
    }
    plan = make_plan(load_manifest(write_manifest(folder / "m.yaml", json.loads(json.dumps(data | more)))))
    store = Store(folder / "store", "masked")
    assert run_build(plan, store, "cpu").short == {}
    return store, store.rows("role = 'final'", images=True)


def check_outside(store: Store, rows: list[Row]) -> None:
    reals = {row.id: decode(row.image or b"", row.id) for row in store.rows("role = 'real'", images=True)}
    for row in rows:
        mask = decode(row.mask or b"", row.id)[..., 0] > 127
        changed = (decode(row.image or b"", row.id) != reals[row.target_id or ""]).any(-1)
        assert changed[mask].mean() > 0.5 and not changed[~mask].any()


def test_a_folder_of_masks_beside_the_reals(tmp_path: Path, photographs: Path) -> None:
    """Each picture has a stripe of its own, so that a mask of another picture would be noticed."""
    folder = tmp_path / "masks"
    stripes = {}
    for place, file in enumerate(sorted(photographs.rglob("*.png"))):
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        pixels[place * 4 : place * 4 + 4] = 255
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / file.relative_to(photographs)), pixels)
        stripes[cv2.imread(str(file))[..., ::-1].tobytes()] = pixels[..., 0] > 127
    store, rows = built(tmp_path, photographs, {"folder": str(folder)})
    reals = {row.id: decode(row.image or b"", row.id) for row in store.rows("role = 'real'", images=True)}
    for row in rows:
        want = stripes[reals[row.target_id or ""].tobytes()]
        assert np.array_equal(decode(row.mask or b"", row.id)[..., 0] > 127, want)
    check_outside(store, rows)
    for file in sorted(folder.rglob("*.png"))[1:]:
        file.unlink()
    with pytest.raises(InputError, match="has no mask for"):
        built(tmp_path, photographs, {"folder": str(folder)}, count=8)


@pytest.mark.slow
def test_parts_of_a_face_are_those_that_the_parser_sees(tmp_path: Path, photographs: Path) -> None:
    """The parser is the released network with small random weights: what it sees is no face, and is what must be masked."""
    torch.manual_seed(0)
    network = BiSeNet()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(network.state_dict(), tmp_path / "parser.pth")
    parser = FaceParser.load(Checkpoint(tmp_path / "parser.pth"))
    pictures = [cv2.imread(str(file))[..., ::-1].copy() for file in sorted(photographs.rglob("*.png"))]
    labels = parser.labels(np.stack(pictures))
    shares = {part: np.isin(labels, numbers).mean() for part, numbers in masks.PARTS.items()}
    part = max((name for name, share in shares.items() if share < 0.9), key=lambda name: shares[name])
    spec = MaskSpec.model_validate({"face": part})
    checkpoints = {"parser": {"file": str(tmp_path / "parser.pth"), "licence": "test"}}
    store, rows = built(tmp_path, photographs, {"face": part}, checkpoints=checkpoints, faces={"parsing": "parser"}, allow_missing=4)
    reals = {row.id: decode(row.image or b"", row.id) for row in store.rows("role = 'real'", images=True)}
    assert rows
    for row in rows:
        want = masks.parse(parser, reals[row.target_id or ""], spec)
        assert want is not None and np.array_equal(decode(row.mask or b"", row.id)[..., 0] > 127, want)
    check_outside(store, rows)


def test_a_segmenter_learns_from_images_and_masks(tmp_path: Path, photographs: Path) -> None:
    """Training and evaluation read pairs of image and mask through torch's loader. The painted half is flat noise; three channels of
    local contrast suffice to find it better than saying "nothing"."""
    store, _ = built(tmp_path, photographs, {"shape": "box", "area": [0.2, 0.5]}, count=8)
    splits = open_splits(store, masks=True)
    items = [item for split in splits.values() for item in (split[place] for place in range(len(split)))]
    assert all(isinstance(item, MaskedItem) for item in items)
    assert {item.label: bool(item.mask.any()) for item in items} == {0: False, 1: True}

    def collate(batch: list[MaskedItem]) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(np.stack([item.image for item in batch])).permute(0, 3, 1, 2).float() / 255
        return images, torch.from_numpy(np.stack([item.mask for item in batch])).float()

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(16, 1, 5, padding=2))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    whole = torch.utils.data.ConcatDataset(list(splits.values()))

    def loss_over(train: bool) -> float:
        losses = []
        for images, inside in DataLoader(whole, batch_size=8, collate_fn=collate):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images)[:, 0], inside)
            losses.append(loss.item())
            if train:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return float(np.mean(losses))

    before = loss_over(False)
    for _ in range(25):
        loss_over(True)
    assert loss_over(False) < 0.8 * before
