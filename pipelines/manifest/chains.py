"""The chains of a manifest: steps, parts and subsets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from generators import registry
from generators.base import StepKind
from generators.numbers import StrictNumbers
from pipelines.manifest.masks import MaskSpec
from pipelines.manifest.recipes import expanded

STEP_KINDS: tuple[StepKind, ...] = ("sample", "prompt", "swap", "edit", "inpaint")
ON_IMAGES: tuple[StepKind, ...] = ("swap", "edit", "inpaint")  # the kinds that work on an image


class Strict(StrictNumbers):
    model_config = ConfigDict(extra="forbid", frozen=True)


Share = Annotated[float, Field(ge=0, lt=1)]
Chance = Annotated[float, Field(gt=0, le=1)]


class Blend(Strict):
    """Mixing with the real image: for a part of the images (`chance`), with a share of the real that is drawn evenly between the two of
    `real`. It stays below 1: an image that is the real one is no fake."""

    chance: Chance = 1.0
    real: tuple[Share, Share] = (0.0, 0.8)

    @model_validator(mode="after")
    def _in_order(self) -> Blend:
        if self.real[0] > self.real[1]:
            raise ValueError("the smaller share of `real` comes first")
        return self


class FrequencyBlend(Blend):
    """Mixing of the DCT coefficients of the whole image whose frequency is at least `above`, 0 being the mean and 1 the highest in both
    directions. At 0 all are mixed, which is the same as mixing pixels."""

    above: Share = 0.25


class Mix(Strict):
    """What is mixed of an edited image with the real one that it was made from: first pixels, then frequencies."""

    pixels: Blend | None = None
    frequency: FrequencyBlend | None = None

    @model_validator(mode="after")
    def _something(self) -> Mix:
        if self.pixels is None and self.frequency is None:
            raise ValueError("`mix` has `pixels`, `frequency` or both")
        return self


class ChainStep(Strict):
    """One application of a generator. In YAML: `{swap: simswap, checkpoint: simswap-224, source: celebahq, ...parameters}`."""

    kind: StepKind
    generator: str
    checkpoint: str
    source: str | None = None  # swap: the real source that identities are drawn from
    target: str | None = None  # swap or edit as a first step: the real source that is worked on
    prompts: tuple[str, ...] | Path | None = None
    mask: MaskSpec | None = None  # inpaint: where the image is reworked
    keep: Literal["exact", "pipeline"] = "exact"  # inpaint: the original outside the mask, or what the model made of it
    repeat_pairs: bool = False  # whether one person may be put on one real image more than once
    repeat_targets: bool = True  # whether a real image may be worked on again before all of its split have been
    real_jpeg: Chance | None = None  # edit of a real: the part of the images that are compressed as the file of that real is
    mix: Mix | None = None  # edit of a real
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "kind" in data:
            return data
        kinds = [kind for kind in STEP_KINDS if kind in data]
        if "prompt" in kinds and ("edit" in kinds or "inpaint" in kinds):
            kinds.remove("prompt")  # the text of an edit is a parameter of it
        if len(kinds) != 1:
            raise ValueError(
                f"a step has exactly one of {', '.join(STEP_KINDS)}, naming its generator; this one has {' and '.join(kinds) or 'none'}"
            )
        own = {"checkpoint", "source", "target", "prompts", "repeat_pairs", "repeat_targets"}
        if kinds == ["edit"]:
            own |= {"real_jpeg", "mix"}
        if kinds == ["inpaint"]:  # `mask` is a parameter of some generators
            own |= {"mask", "keep"}
        rest = {key: value for key, value in data.items() if key not in own and key != kinds[0]}
        return {"kind": kinds[0], "generator": data[kinds[0]], "parameters": rest, **{key: data[key] for key in own if key in data}}

    @model_validator(mode="after")
    def _of_a_real(self) -> ChainStep:
        if self.is_aligned and (self.kind != "edit" or self.target is None):
            raise ValueError("`real_jpeg` and `mix` need an `edit` of a real image: the first step of a chain, with a `target`")
        if not self.repeat_targets and (self.target is None or self.source is not None):
            raise ValueError("`repeat_targets` is for a step with a `target` and without a `source`; swaps have `repeat_pairs`")
        return self

    @property
    def is_aligned(self) -> bool:
        """Whether what the step makes is brought nearer to the real image that it was made from."""
        return self.real_jpeg is not None or self.mix is not None

    def alignment(self) -> dict[str, Any]:
        """How it is, as plain data for keys and chains."""
        return {"real_jpeg": self.real_jpeg, "mix": self.mix.model_dump(mode="json", exclude_none=True) if self.mix else None}

    @property
    def uses_faces(self) -> bool:
        """Whether the step finds faces with the networks that the manifest names under `faces`."""
        if self.kind == "inpaint":
            return self.mask is not None and self.mask.face is not None
        if self.kind != "edit":
            return self.kind == "swap"
        method = registry.get(self.generator)
        return method.edit_input(method.parse_parameters(self.parameters)) == "faces"

    def settings(self) -> dict[str, Any]:
        """All parameters with defaults filled in, as plain data. They are part of the shard's key."""
        return registry.get(self.generator).parse_parameters(self.parameters).model_dump(mode="json")


class Part(Strict):
    """A chain, its real source and a count: most subsets have one part, some rows of the paper have one for each training source.

    `chain: [{from: SUBSET}, ...]` begins at the final images of another subset (`pipelines.manifest.origins`). Then `origin` names it, and
    the first `inherited` steps of `chain` are those that its images went through. `recipe: NAME` stands for a chain
    (`pipelines.manifest.recipes`).

    `label: real` puts what the chain makes on the real side: photographs that were only restored or retouched. Their rows have the label 0
    and the subset's own name, and fakes of the same real source are compared with them too.
    """

    count: int = Field(ge=1)
    real: str
    label: Literal["fake", "real"] = "fake"
    chain: tuple[ChainStep, ...] = Field(min_length=1)
    origin: str | None = None
    inherited: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        data = expanded(data) if isinstance(data, Mapping) else data
        chain = data.get("chain") if isinstance(data, Mapping) else None
        if not isinstance(chain, list) or not chain or not isinstance(chain[0], Mapping) or "from" not in chain[0]:
            return data
        first = chain[0]
        if len(first) > 1 or not isinstance(first["from"], str):
            raise ValueError("a chain may begin with `{from: SUBSET}`, and nothing else stands beside `from`")
        if len(chain) == 1:
            raise ValueError("`from` alone makes nothing: a step must follow it")
        return {**data, "origin": first["from"], "chain": chain[1:]}

    @model_validator(mode="after")
    def _only_edited(self) -> Part:
        edited = self.origin is None and self.chain[0].target is not None and all(step.kind == "edit" for step in self.chain)
        if self.label == "real" and not edited:
            raise ValueError("`label: real` is for real images that were only edited: the first step needs a `target`, and all are `edit`")
        return self

    @property
    def all_reals(self) -> tuple[str, ...]:
        """The real source that it is compared with, and those that its steps draw from."""
        drawn = (role for step in self.chain for role in (step.source, step.target) if role is not None)
        return tuple(dict.fromkeys((self.real, *drawn)))


class Subset(Strict):
    """One row of the dataset."""

    parts: tuple[Part, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _single_part(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "parts" not in data:
            return {"parts": [data]}
        return data

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def retouched(self) -> int:
        """How many of its images stand on the real side (`label: real`)."""
        return sum(part.count for part in self.parts if part.label == "real")

    @property
    def fakes(self) -> int:
        """How many of its images are fakes."""
        return self.count - self.retouched

    @property
    def reals(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.real for part in self.parts))

    @property
    def families(self) -> tuple[str, ...]:
        """The families of the steps, last step first, as the paper writes its hybrids: SimSwap_LDM is ("GAN", "DM")."""
        return tuple(registry.get(step.generator).family for step in reversed(self.parts[0].chain))

    @property
    def family(self) -> str:
        """ "GAN", "DM" or "multi-step"."""
        return self.families[0] if len(self.families) == 1 else "multi-step"

    @property
    def mode(self) -> str:
        """ "GAN", "DM", "GAN-DM", ..."""
        return "-".join(self.families)
