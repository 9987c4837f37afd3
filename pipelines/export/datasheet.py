"""The datasheet (Gebru et al., 2021) of an export in Markdown, filled from the version's own records and from what its publisher states."""

from __future__ import annotations

import json

from foreign.text import markdown_text
from pipelines.export.facts import Facts
from pipelines.manifest.deliveries import as_data, expanded
from pipelines.manifest.sizes import preparation, said
from pipelines.report.words import describe_chain


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
    "Fakes show what their generators learned, in the proportions of the generators' own training data; of faces, those of age, sex and "
    "skin colour too. The real sources have their own proportions. Nothing was balanced."
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
    stated = facts.publication.responsible_ai
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
            facts.publication.description or PURPOSE,
            "",
            "## What is in it",
            "",
            *composition(facts),
            "",
            "## How it was made",
            "",
            COLLECTION,
            "",
            f"{preparation(facts.manifest.size)}: fakes and reals alike.",
            *_delivery(facts),
            "",
            *chains(facts),
            "",
            f"Splits go by photograph and identity (seed {facts.manifest.splits.seed}): an image and everything made from it or from the "
            "same person are in one split. The seed of every image is in its row.",
            "",
            *_rejections(facts),
            *_cost(facts),
            "## People",
            "",
            *_stated(SENSITIVE, stated.sensitive),
            *_takedown(facts),
            "## Bias and limits",
            "",
            *_stated(BIASES, stated.biases),
            *_stated(LIMITATIONS, stated.limitations),
            *_stated("", stated.social_impact),
            "## What it may be used for",
            "",
            *_stated(USES, stated.use_cases),
            *licence_table(facts),
            "",
            *_stated("", stated.maintenance),
        ]
    )


def composition(facts: Facts) -> list[str]:
    lines = ["| subset | what | train | validation | test |", "|---|---|---|---|---|"]
    for subset, role in sorted({(subset, role) for subset, role, _ in facts.counts}, key=lambda pair: (pair[1], pair[0])):
        numbers = " | ".join(f"{facts.counts[subset, role, split]:,}" for split in ("train", "validation", "test"))
        what = "retouched reals" if facts.is_retouched(subset, role) else "fakes" if role == "final" else "reals"
        lines.append(f"| {subset} | {what} | {numbers} |")
    return lines


def chains(facts: Facts) -> list[str]:
    present = {subset for subset, _, _ in facts.counts}
    lines = ["| subset | chain | checkpoints | compared with |", "|---|---|---|---|"]
    for name, _, part in facts.manifest.walk():
        if name in present:
            checkpoints = ", ".join(dict.fromkeys(step.checkpoint for step in part.chain))
            lines.append(f"| {name} | {describe_chain(part.chain)} | {checkpoints} | {part.real} |")
    return lines


def licence_table(facts: Facts) -> list[str]:
    whole = facts.publication.licence
    head = [f"The dataset as a whole: {markdown_text(whole)}. Its parts:", ""] if whole else []
    return [*head, "| from | licence |", "|---|---|", *[f"| {name} | {markdown_text(text)} |" for name, text in facts.licences.items()]]


def _stated(general: str, own: str | None) -> list[str]:
    """What holds for every dataset of this program, and the publisher's own words, as paragraphs."""
    return [line for text in (general, own) if text for line in (text.strip(), "")]


def _takedown(facts: Facts) -> list[str]:
    contact = facts.publication.contact
    return [f"To have a picture taken out, write to {contact}.", ""] if contact else []


def _cost(facts: Facts) -> list[str]:
    """The time on devices and the energy, as far as they were measured."""
    energy = facts.publication.energy
    hours = facts.hours.said()
    lines = [f"Making the images took {hours}, as the builds recorded it."] if hours else []
    lines += [f"Energy: {energy.kwh:g} kWh ({energy.measured})."] if energy else []
    return ["## What it cost", "", *lines, ""] if lines else []


def _rejections(facts: Facts) -> list[str]:
    if not facts.rejected:
        return []
    reasons = {name: ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) for name, counts in facts.rejected.items()}
    lines = [f"- {name}: {text}" for name, text in sorted(reasons.items())]
    return ["Tries that were rejected and replaced by others:", "", *lines, ""]
