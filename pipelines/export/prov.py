"""The provenance of an export in W3C PROV (w3.org/TR/prov-o), as Croissant 1.1 takes it: what was used, by which step, by what program."""

from __future__ import annotations

from typing import Any

from foreign.secrets import shown
from pipelines.catalogue.catalogue import Catalogue, CheckpointEntry
from pipelines.export.facts import Facts, Step


def provenance(facts: Facts) -> dict[str, Any]:
    """`prov:wasDerivedFrom` (checkpoints and real sources), `prov:wasGeneratedBy` (the build, and every step of every chain with its
    number of images) and, where they are stated, `prov:wasAttributedTo` the creators."""
    agents = [{"@type": "prov:Agent", "prov:label": creator.name} for creator in facts.publication.creators]
    return {
        "prov:wasDerivedFrom": [*_checkpoints(facts), *_reals(facts)],
        "prov:wasGeneratedBy": [_build(facts), *_steps(facts)],
        **({"prov:wasAttributedTo": agents} if agents else {}),
    }


def _checkpoints(facts: Facts) -> list[dict[str, Any]]:
    """Each checkpoint file that made exported images: its sha256, licence and, where it is known, its address."""
    entries = Catalogue.shipped().joined(facts.manifest.checkpoints).entries
    known: dict[str, dict[str, Any]] = {}
    for step in facts.lineage.steps:
        entry = entries.get(step.checkpoint)
        address = _address(entry) if entry else None
        known[_checkpoint_id(step)] = {
            "@type": "prov:Entity",
            "@id": _checkpoint_id(step),
            "prov:label": f"checkpoint {step.checkpoint}",
            "sha256": step.sha256,
            "license": entry.licence if entry else "unknown",
            **({"url": address} if address else {}),
        }
    return [known[name] for name in sorted(known)]


def _address(entry: CheckpointEntry) -> str | None:
    if entry.hub:
        return f"https://huggingface.co/{entry.hub}"
    return shown(entry.url or entry.page or "") or None


def _reals(facts: Facts) -> list[dict[str, Any]]:
    names = sorted(name.removeprefix("real source ") for name in facts.licences if name.startswith("real source "))
    return [
        {
            "@type": "prov:Entity",
            "@id": _real_id(name),
            "prov:label": f"real images {name}",
            "license": facts.licences[f"real source {name}"],
        }
        for name in names
    ]


def _build(facts: Facts) -> dict[str, Any]:
    """The build that committed the version."""
    program = f"Natural Trace Foundry {facts.software}".strip()
    return {
        "@type": "prov:Activity",
        "@id": f"build/{facts.run_id or facts.version}",
        "prov:label": f"Build of version {facts.version}, digest {facts.digest}",
        "prov:endedAtTime": facts.created.isoformat(),
        "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "@id": "natural-trace-foundry", "prov:label": program},
    }


def _steps(facts: Facts) -> list[dict[str, Any]]:
    """One activity for each step of each subset and checkpoint file; a later step is informed by those before it."""
    steps = sorted(facts.lineage.steps.items(), key=lambda pair: (pair[0].subset, pair[0].position, pair[0].sha256))
    chains = {(name, place): step for name, _, part in facts.manifest.walk() for place, step in enumerate(part.chain, 1)}
    activities = []
    for step, images in steps:
        planned = chains.get((step.subset, step.position))
        reals = [real for real in (planned.source, planned.target) if real] if planned else []
        before = [other for other, _ in steps if other.subset == step.subset and other.position == step.position - 1]
        activities.append(
            {
                "@type": "prov:Activity",
                "@id": _step_id(step),
                "prov:label": f"{step.subset}, step {step.position}: {step.kind} {step.generator}, {images:,} images",
                "prov:used": [{"@id": _checkpoint_id(step)}, *[{"@id": _real_id(real)} for real in dict.fromkeys(reals)]],
                **({"prov:wasInformedBy": [{"@id": _step_id(other)} for other in before]} if before else {}),
            }
        )
    return activities


def _checkpoint_id(step: Step) -> str:
    return f"checkpoint/{step.checkpoint}/{step.sha256[:16]}"


def _real_id(name: str) -> str:
    return f"real/{name}"


def _step_id(step: Step) -> str:
    return f"chain/{step.subset}/{step.position}/{step.checkpoint}/{step.sha256[:16]}"
