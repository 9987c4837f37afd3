"""The manifest: what to build, as data. `pipelines.manifest.load` reads one, and `docs/manifests.md` shows one by example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from generators import registry
from pipelines.catalogue.catalogue import CheckpointEntry
from pipelines.manifest.chains import Part, Strict, Subset
from pipelines.manifest.deliveries import Delivery, faults
from pipelines.manifest.origins import with_inherited
from pipelines.manifest.publication import Publication
from pipelines.manifest.sizes import Crop, Size

CASCADE = "cascade"  # the face detector that needs no checkpoint
RECONSTRUCTION = "Reconstruction"  # the subset that `parity.reconstruct` adds
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class RealSource(Strict):
    """A source of real images: a folder of image files, or `package: faces | photos`, the pictures that ship with the libraries.

    `licence` states the licence or consent basis, and there is no default: whoever builds must know it. `identities` is a CSV file
    `file,identity`; without one, every picture counts as a person (or photograph) of its own. `count` bounds how many images are taken; by
    default as many as the largest number of fakes that is compared with them. Swaps and edits may draw from `pool` images, by default from
    those that are taken. `source_type` is IPTC's digital source type of all its pictures, where somebody knows it; files that carry their
    provenance then say it.
    """

    path: Path | None = None
    package: Literal["faces", "photos"] | None = None
    licence: str = Field(min_length=1)
    identities: Path | None = None
    exclude: Path | None = None
    count: int | None = Field(None, ge=1)
    pool: int | None = Field(None, ge=1)
    source_type: Literal["digitalCapture", "computationalCapture", "negativeFilm", "positiveFilm", "print"] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> RealSource:
        if (self.path is None) == (self.package is None):
            raise ValueError("give either `path: FOLDER` or `package: faces | photos`")
        return self


class Codec(Strict):
    """How final images are encoded; reals and fakes alike. Intermediate images are always PNG."""

    format: Literal["png", "jpeg", "webp"] = "png"
    quality: int = Field(95, ge=1, le=100)  # of JPEG; WebP is lossless


class Splits(Strict):
    """Shares of the three splits. `seed` moves whole photographs and identities between them."""

    train: float = Field(0.6, gt=0, lt=1)
    validation: float = Field(0.2, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_a_test_split(self) -> Splits:
        if self.train + self.validation >= 1:
            raise ValueError("train and validation together must stay below 1: the rest is the test split")
        return self


class Faces(Strict):
    """How a swap finds faces, puts them back and judges the result.

    Networks are named as checkpoints are: `detector` is YuNet, an insightface model or its pack, or "cascade", which needs no file;
    `parsing` a BiSeNet; `identity` an insightface recognition model or SimSwap's ArcFace. Without `identity` the swapper's own network
    judges, and only where there is a `min_similarity`: the least cosine similarity to the source that a swap must reach. `padding` is the
    margin, as a part of each side, that a picture gets for detection. `soft_edge` is how far the edge of a pasted crop is pulled in and
    blurred, as a part of the crop's side in the picture (SimSwap's 40 px in 1024 px portraits).
    """

    detector: str = CASCADE
    padding: float = Field(0.5, ge=0, le=2)
    parsing: str | None = None
    identity: str | None = None
    min_similarity: float | None = Field(None, ge=-1, le=1)
    soft_edge: float = Field(0.07, ge=0, lt=0.5)

    @property
    def networks(self) -> tuple[tuple[str, str], ...]:
        """The checkpoints that swaps need beside their own: (key in this section, name)."""
        named = {"detector": self.detector, "parsing": self.parsing, "identity": self.identity}
        return tuple((key, name) for key, name in named.items() if name not in (None, CASCADE))


class Recompression(Strict):
    """A JPEG compression that every image goes through, real or fake: a quality between two bounds, drawn by the image's own seed."""

    quality: tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]]
    chroma: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:2:0"

    @model_validator(mode="after")
    def _in_order(self) -> Recompression:
        if self.quality[0] > self.quality[1]:
            raise ValueError("the lower quality comes first")
        return self


class Parity(Strict):
    """What is done so that real and fake have the same past; see docs/audit.md for which finding asks for which.

    `jpeg: reals` compresses each fake as a real image of its source was, by the tables in its file; `sizes: reals` takes it through that
    image's size. `recompress` compresses all images once more, real and fake. `reconstruct: GENERATOR/CHECKPOINT` adds the subset
    "Reconstruction": real images through that generator's autoencoder.
    """

    jpeg: Literal["reals"] | None = None
    sizes: Literal["reals"] | None = None
    recompress: Recompression | None = None
    reconstruct: str | None = Field(None, pattern=r"^[^/]+/.+$")

    @property
    def inherits(self) -> bool:
        """Whether fakes get the past of real images."""
        return self.jpeg == "reals" or self.sizes == "reals"


Rule = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


class Classifier(Strict):
    """A network in an .onnx file that scores a picture: RGB float32 `[N, 3, H, W]` in [0, 1] in, scores `[N, K]` out. A picture whose score
    number `output` is above `above` is rejected."""

    file: Path
    output: int = Field(0, ge=0)
    above: float = 0.5


class Filters(Strict):
    """Which prompts and pictures are refused, with the reason in the ledger; see `pipelines.plan.rules`.

    `prompts` and `pictures` are functions, `MODULE:FUNCTION`, of this Python environment: they are imported only where that was allowed.
    """

    prompts: Rule | None = None
    pictures: Rule | None = None
    classifier: Classifier | None = None


class AuditPolicy(Strict):
    """Whether a build fails when the audit of its version does. It is audited in any case."""

    gate: bool = True


class DetectorPolicy(Strict):
    """What `build-multistep` trains after the build; `config` overrides single settings of the preset. It also learns from the images of
    `deliveries`, names of the manifest's own, which the flows then make too.

    `refresh` retrains "always" when the dataset has changed, when a subset's AP falls "below-gate", or "never".
    """

    preset: Literal["demo", "default", "paper"] = "default"
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    deliveries: tuple[Name, ...] = ()
    retrain: Literal["always", "below-gate", "never"] = "below-gate"
    gate: float = Field(0.9, ge=0, le=1)


class Manifest(Strict):
    """A whole dataset."""

    dataset: Name
    size: Size
    seed: int = Field(0, ge=0)
    shard_size: int = Field(256, ge=1, le=4096)
    attempts: int = Field(4, ge=1, le=64)  # how often a rejected image is tried again, the first try included
    allow_missing: int = Field(0, ge=0)  # images that may stay rejected without the build failing
    codec: Codec = Codec()
    splits: Splits = Splits()
    faces: Faces = Faces()
    parity: Parity = Parity()
    filters: Filters = Filters()
    audit: AuditPolicy = AuditPolicy()
    detector: DetectorPolicy = DetectorPolicy()
    publish: Publication = Publication()
    deliveries: dict[Name, Delivery] = Field(default_factory=dict)
    checkpoints: dict[Name, CheckpointEntry] = Field(default_factory=dict)
    reals: dict[Name, RealSource]
    subsets: dict[Name, Subset] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _with_reconstructions(cls, data: Any) -> Any:
        """With the subset that `parity.reconstruct` asks for: as many images of each real source as its largest subset has."""
        if not isinstance(data, Mapping) or not isinstance(data.get("parity"), Mapping) or not isinstance(data.get("subsets"), Mapping):
            return data
        generator, _, checkpoint = str(data["parity"].get("reconstruct") or "").partition("/")
        parameters = registry.get(generator).reconstruction if generator in registry.names() else None
        if parameters is None or RECONSTRUCTION in data["subsets"]:
            return data
        counts: dict[str, int] = {}
        for subset in data["subsets"].values():
            for part in subset.get("parts", [subset]) if isinstance(subset, Mapping) else ():
                if isinstance(part, Mapping) and isinstance(part.get("real"), str) and isinstance(part.get("count"), int):
                    counts[part["real"]] = max(counts.get(part["real"], 0), part["count"])
        step = {"edit": generator, "checkpoint": checkpoint, **parameters}
        parts = [{"count": count, "real": real, "chain": [{**step, "target": real}]} for real, count in counts.items()]
        return {**data, "subsets": {**data["subsets"], RECONSTRUCTION: {"parts": parts}}}

    @field_validator("deliveries")
    @classmethod
    def _deliveries_can_be_done(cls, named: dict[str, Any]) -> dict[str, Any]:
        if problem := faults(named):
            raise ValueError(problem)
        return named

    @model_validator(mode="after")
    def _learns_from_its_own_deliveries(self) -> Manifest:
        unknown = [name for name in self.detector.deliveries if name not in self.deliveries]
        if unknown:
            raise ValueError(
                f"detector: there is no delivery {unknown[0]!r} to learn from; known: {', '.join(self.deliveries) or 'none'}; "
                "name it under `deliveries`"
            )
        return self

    @model_validator(mode="after")
    def _past_fits_the_size(self) -> Manifest:
        if isinstance(self.size, Crop) and self.parity.sizes is not None:
            raise ValueError("`parity: {sizes: reals}` resamples fakes, and `size: {crop: ...}` resamples nothing: leave one of them out")
        return self

    @model_validator(mode="after")
    def _compressed_once(self) -> Manifest:
        twice = [name for name, _, part in self.walk() if any(step.real_jpeg is not None for step in part.chain)]
        if twice and self.parity.jpeg == "reals":
            raise ValueError(f"subset {twice[0]}: `real_jpeg` and `parity: {{jpeg: reals}}` would compress it twice: leave one of them out")
        return self

    @model_validator(mode="after")
    def _with_inherited_steps(self) -> Manifest:
        object.__setattr__(self, "subsets", with_inherited(self.subsets))
        return self

    def limited(self, count: int | None) -> Manifest:
        """The same dataset with at most `count` fakes in each part: for trying a manifest out. None changes nothing.

        Fakes draw from as many real images as in the whole dataset: a swap of one image needs two people, and its draws stay the same.
        """
        if count is None:
            return self
        whole = self.images_of_reals()
        reals = {name: real if real.pool else real.model_copy(update={"pool": whole.get(name)}) for name, real in self.reals.items()}
        subsets = {
            name: subset.model_copy(
                update={"parts": tuple(part.model_copy(update={"count": min(part.count, count)}) for part in subset.parts)}
            )
            for name, subset in self.subsets.items()
        }
        return self.model_copy(update={"subsets": subsets, "reals": reals})

    def images_of_reals(self) -> dict[str, int]:
        """How many images of each real source are taken if its own `count` does not say: as many as its largest part has fakes."""
        counts: dict[str, int] = {}
        for _, _, part in self.walk():
            for real in part.all_reals:
                counts[real] = max(counts.get(real, 0), part.count)
        return counts

    def walk(self) -> Iterator[tuple[str, int, Part]]:
        """Every part: the name of its subset, its number among the parts of the subset with the same real source, and the part itself."""
        for name, subset in self.subsets.items():
            seen: Counter[str] = Counter()
            for part in subset.parts:
                yield name, seen[part.real], part
                seen[part.real] += 1

    def part(self, subset: str, real: str, number: int) -> Part:
        """The part of a subset that `walk` gives this number. KeyError if there is no such subset, IndexError if no such part."""
        return [part for part in self.subsets[subset].parts if part.real == real][number]

    def origin(self, subset: str, real: str, number: int) -> str | None:
        """The subset that a part begins at; None if it makes its images itself. That part has the same real source and number."""
        return self.part(subset, real, number).origin

    def root(self, subset: str, real: str, number: int) -> str:
        """The subset in which the images of a part were first made: the one that its seeds, splits and people come from."""
        origin = self.origin(subset, real, number)
        return subset if origin is None else self.root(origin, real, number)

    def maker(self, subset: str, real: str, number: int, step: int) -> str:
        """The subset that makes step `step` of a part: itself, or one that it begins at."""
        part = self.part(subset, real, number)
        return subset if step >= part.inherited or part.origin is None else self.maker(part.origin, real, number, step)
