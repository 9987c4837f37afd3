"""The datasheet (Gebru et al., 2021) of an export in Markdown, filled from the version's own records, and the card that the Hub shows."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from pipelines.export.selection import Selection
from pipelines.manifest.deliveries import as_data, expanded
from pipelines.manifest.schema import Manifest
from pipelines.manifest.sizes import preparation, said
from pipelines.report.words import describe_chain
from pipelines.store import Store, Version


@dataclass(frozen=True)
class Facts:
    """What metadata says about an export."""

    name: str
    version: int
    created: datetime
    digest: str
    form: str
    manifest: Manifest
    counts: Counter[tuple[str, str, str]]  # subset, role, split
    rejected: dict[str, Counter[str]]
    licences: dict[str, str]
    software: str
    delivery: str = ""

    @classmethod
    def of(cls, store: Store, version: Version, selection: Selection, licences: dict[str, str], form: str) -> Facts:
        rejected: dict[str, Counter[str]] = defaultdict(Counter)
        for batch in store.scan(["subset", "reason"], "role = 'rejected'", version.number):
            for subset, reason in zip(batch.column("subset").to_pylist(), batch.column("reason").to_pylist(), strict=True):
                rejected[subset][reason or ""] += 1
        manifest = Manifest.model_validate(version.manifest)
        software = version.properties.get("ntf", "")
        return cls(
            store.name,
            version.number,
            version.created,
            version.digest,
            form,
            manifest,
            selection.counts,
            rejected,
            licences,
            software,
            selection.delivery,
        )

    @property
    def images(self) -> int:
        return sum(self.counts.values())

    def of_label(self, role: str) -> int:
        return sum(count for (_, kind, _), count in self.counts.items() if kind == role)

    def is_retouched(self, subset: str, role: str) -> bool:
        """Whether the images of a subset are real ones that a chain edited (`label: real`)."""
        return role == "real" and subset in self.manifest.subsets

    @property
    def retouched(self) -> str:
        """How many of the reals were retouched, in words; empty where none were."""
        number = sum(count for (subset, role, _), count in self.counts.items() if self.is_retouched(subset, role))
        return f" ({number:,} of them retouched)" if number else ""


def _delivery(facts: Facts) -> list[str]:
    """What was done to the images after that, if they are those of a delivery."""
    if not facts.delivery:
        return []
    steps = json.dumps(as_data(expanded(facts.manifest.deliveries[facts.delivery])), sort_keys=True)
    text = (
        f"Then each was delivered as `{facts.delivery}`, reals and fakes alike, with draws by its own seed, which its row has: `{steps}`."
    )
    return ["", text]


PURPOSE = "Training and judging detectors of images that generators, and chains of generators, have made."
COLLECTION = (
    "Fakes were made by the generators and checkpoints below from recorded seeds. Reals come from the sources below; "
    "reals and fakes went through the same resize, crop and encoder."
)
BIASES = (
    "Fakes show what their generators learned: mostly faces, in the proportions of age, sex and skin colour of the generators' own "
    "training data. The real sources have their own proportions. Nothing was balanced."
)
LIMITATIONS = (
    "A detector that does well here has seen these generators at this size and encoding; others, and images that were compressed or "
    "edited afterwards, are another question."
)
SENSITIVE = (
    "Real photographs of people may be in it, and swaps put the identity of a person on an image they were never in. A person can be "
    "taken out with everything that was made from them: `ntf store forget`."
)
USES = "Research on detection. Not for making images of people, identifying them, or judging a person by a detector's score."


def render(facts: Facts) -> str:
    """The datasheet."""
    return "\n".join(
        [
            f"# Datasheet: {facts.name}, version {facts.version}",
            "",
            f"{facts.images:,} images at {said(facts.manifest.size)}: {facts.of_label('final'):,} fakes and "
            f"{facts.of_label('real'):,} reals{facts.retouched}, made {facts.created:%Y-%m-%d} by Natural Trace Foundry {facts.software}, "
            f"exported as {facts.form}.",
            f"Digest of the version: `{facts.digest}`.",
            "",
            "## Why it was made",
            "",
            PURPOSE,
            "",
            "## What is in it",
            "",
            *_composition(facts),
            "",
            "## How it was made",
            "",
            COLLECTION,
            "",
            f"{preparation(facts.manifest.size)}: fakes and reals alike.",
            *_delivery(facts),
            "",
            *_chains(facts),
            "",
            f"Splits go by photograph and identity (seed {facts.manifest.splits.seed}): an image and everything made from it or from the "
            "same person are in one split. The seed of every image is in its row.",
            "",
            *_rejections(facts),
            "## People",
            "",
            SENSITIVE,
            "",
            "## Bias and limits",
            "",
            BIASES,
            "",
            LIMITATIONS,
            "",
            "## What it may be used for",
            "",
            USES,
            "",
            "| from | licence |",
            "|---|---|",
            *[f"| {name} | {licence} |" for name, licence in facts.licences.items()],
            "",
        ]
    )


def render_card(facts: Facts) -> str:
    """The README that the Hub shows, with the data files of each split in its head."""
    splits = [split for split in ("train", "validation", "test") if any(key[2] == split for key in facts.counts)]
    path = "data/{}-*.parquet" if facts.form == "parquet" else "{}/**"
    files = "\n".join(f"  - split: {split}\n    path: {path.format(split)}" for split in splits)
    head = f"---\npretty_name: {facts.name}\nlicense: other\ntask_categories: [image-classification]\n"
    return f"{head}configs:\n- config_name: default\n  data_files:\n{files}\n---\n\n{render(facts)}"


def _composition(facts: Facts) -> list[str]:
    lines = ["| subset | what | train | validation | test |", "|---|---|---|---|---|"]
    for subset, role in sorted({(subset, role) for subset, role, _ in facts.counts}, key=lambda pair: (pair[1], pair[0])):
        numbers = " | ".join(f"{facts.counts[subset, role, split]:,}" for split in ("train", "validation", "test"))
        what = "retouched reals" if facts.is_retouched(subset, role) else "fakes" if role == "final" else "reals"
        lines.append(f"| {subset} | {what} | {numbers} |")
    return lines


def _chains(facts: Facts) -> list[str]:
    present = {subset for subset, _, _ in facts.counts}
    lines = ["| subset | chain | checkpoints | compared with |", "|---|---|---|---|"]
    for name, _, part in facts.manifest.walk():
        if name in present:
            checkpoints = ", ".join(dict.fromkeys(step.checkpoint for step in part.chain))
            lines.append(f"| {name} | {describe_chain(part.chain)} | {checkpoints} | {part.real} |")
    return lines


def _rejections(facts: Facts) -> list[str]:
    if not facts.rejected:
        return []
    reasons = {name: ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) for name, counts in facts.rejected.items()}
    lines = [f"- {name}: {text}" for name, text in sorted(reasons.items())]
    return ["Tries that were rejected and replaced by others:", "", *lines, ""]
