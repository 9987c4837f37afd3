"""What a detector looks at: heat maps by subset, the distance to the natural trace as a score, a map of the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw

from foreign.progress import Progress, counting, silent
from ntf_model.data.data import FAKE, DetectionData
from ntf_model.data.images import center_crop
from ntf_model.data.loader import batches_of
from ntf_model.encoders.build import last_feature_map
from ntf_model.errors import InputError
from ntf_model.files import write_image, write_json, written_whole
from ntf_model.judging.evaluate import Evaluation, Scored, as_columns, basis_of, summarise
from ntf_model.ntf.augment import to_tensor
from ntf_model.ntf.cam import grad_cam
from ntf_model.ntf.ntf import NTFDetector
from ntf_model.runs import EMBEDDINGS_FIGURE, EMBEDDINGS_FILE, GRADCAM_FILE, GRADCAM_FOLDER, GRADCAM_SHEET

BATCH = 64  # pictures
BRIGHTEST = 99.5  # per cent of the places of all pictures that are below full brightness, so that one place does not darken the rest


def explain(detector: NTFDetector, images: Sequence[np.ndarray], scaled: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Grad-CAM++ of the logit for "fake": centre crops `uint8` `[N, S, S, 3]` and their heat maps float32 `[N, S, S]`, each in [0, 1] if
    `scaled`, else as they come, at least 0.

    Raises InputError if the encoder has no feature maps.
    """
    encoder = detector.network.encoder
    size = encoder.crop
    crops = np.stack([center_crop(image, size) for image in images])
    pixels = to_tensor(torch.from_numpy(crops.transpose(0, 3, 1, 2).copy()), encoder.mean, encoder.std, detector.device)
    network = detector.network.eval()
    layer = last_feature_map(network.encoder)
    wanted = [parameter.requires_grad for parameter in network.encoder.parameters()]
    try:
        network.encoder.requires_grad_(True)  # a frozen encoder gives no gradients otherwise

        def score(pixels: torch.Tensor) -> torch.Tensor:
            return network.heads(network.encoder(pixels))[1]

        return crops, grad_cam(score, [layer], pixels, scaled=scaled)
    finally:
        for parameter, value in zip(network.encoder.parameters(), wanted, strict=True):
            parameter.requires_grad_(value)


def overlay(image: np.ndarray, heat: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """A heat map `[H, W]` in [0, 1] over its picture `uint8` `[H, W, 3]`."""
    colours = cv2.cvtColor(cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return np.clip((1 - strength) * image + strength * colours, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Explained:
    """Some pictures of one subset of fakes or one real source: crops `uint8` `[N, S, S, 3]`, heat maps float32 `[N, S, S]` in [0, 1], and
    P(fake) of each. Where the maps of all rows have one scale, `full` is the value of the map that 1 stands for; it is 0 otherwise."""

    name: str
    label: int
    ids: list[str]
    crops: np.ndarray
    heats: np.ndarray
    scores: list[float]
    full: float = 0.0


def explain_subsets(
    detector: NTFDetector, data: DetectionData, *, count: int = 6, seed: int = 0, on_progress: Progress = silent
) -> list[Explained]:
    """Grad-CAM++ of `count` pictures, drawn at random, of every real source and every subset of fakes that has any. All maps have one
    scale: 1 is what `BRIGHTEST` per cent of all places are below."""
    names = list(dict.fromkeys([*(source for name in data.fake_subsets for source in data.sources_of(name)), *data.fake_subsets]))
    rng = np.random.default_rng(seed)
    rows = []
    for name in counting(names, len(names), "heat maps of subsets", on_progress):
        fake = name in data.real_of
        members = np.flatnonzero((data.subsets == name) & ((data.labels == FAKE) == fake))
        items = [data.dataset[int(index)] for index in rng.permutation(members)[:count]]
        if items:
            images = [item.image for item in items]
            crops, heats = explain(detector, images, scaled=False)
            rows.append(Explained(name, int(fake), [item.id for item in items], crops, heats, detector.score(images).tolist()))
    return on_one_scale(rows)


def on_one_scale(rows: Sequence[Explained]) -> list[Explained]:
    """The same rows with all maps divided by one value, and cut off at 1."""
    full = float(np.percentile(np.concatenate([row.heats.ravel() for row in rows]), BRIGHTEST)) if rows else 0.0
    if full <= 0:  # no place of any picture speaks for "fake"
        return [replace(row, heats=np.zeros_like(row.heats), full=0.0) for row in rows]
    return [replace(row, heats=np.minimum(row.heats / full, 1).astype(np.float32), full=full) for row in rows]


def explanation_sheet(rows: Sequence[Explained], *, shown: int = 112) -> np.ndarray:
    """A contact sheet: a row for each of `rows`, every picture beside its heat map, with its P(fake) under it. `shown` is the side of a
    picture in pixels. Gives `uint8` `[H, W, 3]`."""
    label_width, line, pair = 150, shown + 18, 2 * shown + 8
    sheet = Image.new("RGB", (label_width + max(len(row.ids) for row in rows) * pair, len(rows) * line), "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        draw.text((4, number * line + shown // 2), row.name, fill="black")
        for place, (crop, heat, score) in enumerate(zip(row.crops, row.heats, row.scores, strict=True)):
            left = label_width + place * pair
            for offset, picture in ((0, crop), (shown, overlay(crop, heat))):
                sheet.paste(Image.fromarray(picture).resize((shown, shown), Image.Resampling.NEAREST), (left + offset, number * line))
            draw.text((left, number * line + shown + 2), f"P(fake) {score:.2f}", fill="black")
    return np.asarray(sheet)


def save_explanations(rows: Sequence[Explained], folder: Path) -> list[Path]:
    """`gradcam.png`, the sheet, and the same as plain data: `gradcam.json` names for each row a PNG strip (each crop, then its overlay,
    side by side), and for each picture its id and score. `full` is the value at full brightness, for all maps."""
    record = []
    for number, row in enumerate(rows):
        pairs = [picture for crop, heat in zip(row.crops, row.heats, strict=True) for picture in (crop, overlay(crop, heat))]
        strip = f"{GRADCAM_FOLDER}/{number:02d}.png"
        write_image(folder / strip, np.concatenate(pairs, axis=1))
        pictures = [{"id": name, "score": score} for name, score in zip(row.ids, row.scores, strict=True)]
        record.append({"name": row.name, "label": row.label, "strip": strip, "pictures": pictures})
    facts = {"side": rows[0].crops.shape[1], "full": rows[0].full} if rows else {"side": 0, "full": 0.0}
    write_json(folder / GRADCAM_FILE, {**facts, "rows": record})
    write_image(folder / GRADCAM_SHEET, explanation_sheet(rows))
    return [folder / GRADCAM_SHEET, folder / GRADCAM_FILE]


def evaluate_distance(
    detector: NTFDetector, data: DetectionData, validation: DetectionData, *, bootstrap: int = 1000, on_progress: Progress = silent
) -> Evaluation:
    """The distance to the natural trace as the only score, beside the classifier's. Raises InputError if the detector has no trace."""
    if detector.trace is None:
        raise InputError("this detector was trained without a natural trace", "Train with `stage2.from_stage1`")

    def distances(split: DetectionData) -> Scored:
        ids: list[str] = []
        parts = []
        for items in counting(batches_of(split, BATCH), -(-len(split) // BATCH), "distances, in batches", on_progress):
            ids += [item.id for item in items]
            parts.append(detector.distance([item.image for item in items]))
        return Scored(ids, np.concatenate(parts))

    basis = basis_of(0.5, None, as_columns(validation, distances(validation)), None, validation.digest)
    return summarise(
        data,
        distances(data),
        basis,
        name=f"{detector.name}-distance",
        title=f"{detector.title} (distance to the trace)",
        validation_digest=validation.digest,
        bootstrap=bootstrap,
    )


@dataclass(frozen=True)
class EmbeddingMap:
    """Two coordinates `[N, 2]` for each picture, with its subset, label and id."""

    points: np.ndarray
    subsets: list[str]
    labels: list[int]
    ids: list[str]


def embedding_map(
    detector: NTFDetector,
    data: DetectionData,
    *,
    method: Literal["pca", "tsne"] = "pca",
    limit: int = 200,
    seed: int = 0,
    on_progress: Progress = silent,
) -> EmbeddingMap:
    """Where the features z of at most `limit` pictures of each subset and each real source lie, in two dimensions."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rng = np.random.default_rng(seed)
    keys = [f"{label}\x1f{name}" for label, name in zip(data.labels, data.subsets, strict=True)]
    groups = {key: np.flatnonzero(np.array(keys) == key) for key in dict.fromkeys(keys)}
    chosen = np.sort(np.concatenate([rng.permutation(rows)[:limit] for rows in groups.values()]))
    part = data.take(chosen)
    ids: list[str] = []
    features = []
    for items in counting(batches_of(part, BATCH), -(-len(part) // BATCH), "embeddings, in batches", on_progress):
        ids += [item.id for item in items]
        features.append(detector.embed([item.image for item in items]))
    stacked = np.concatenate(features)
    if method == "pca":
        points = PCA(2, random_state=seed).fit_transform(stacked)
    else:
        points = TSNE(2, perplexity=min(30, max(2, len(stacked) // 4)), random_state=seed, init="pca").fit_transform(stacked)
    return EmbeddingMap(points, part.subsets.tolist(), part.labels.tolist(), ids)


def save_embeddings(embeddings: EmbeddingMap, folder: Path) -> list[Path]:
    """`embeddings.png` and the same as plain data in `embeddings.json`: `points`, `subsets`, `labels` and `ids`, column by column."""
    embedding_figure(embeddings, folder / EMBEDDINGS_FIGURE)
    write_json(folder / EMBEDDINGS_FILE, {**vars(embeddings), "points": embeddings.points.round(4)})
    return [folder / EMBEDDINGS_FIGURE, folder / EMBEDDINGS_FILE]


def embedding_figure(embeddings: EmbeddingMap, file: Path) -> None:
    """The map as a picture: reals as circles, fakes as crosses, one colour for each subset."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    panel = figure.subplots()
    subsets = np.array(embeddings.subsets)
    labels = np.array(embeddings.labels)
    for label, name in dict.fromkeys(zip(embeddings.labels, embeddings.subsets, strict=True)):
        rows = (subsets == name) & (labels == label)
        panel.scatter(
            embeddings.points[rows, 0],
            embeddings.points[rows, 1],
            s=14,
            marker="x" if label == FAKE else "o",
            alpha=0.6,
            linewidths=0.8,
            label=name,
        )
    panel.legend(fontsize=8, markerscale=1.5)
    panel.set_xticks([])
    panel.set_yticks([])
    with written_whole(file) as partial:
        figure.savefig(partial, dpi=130)
