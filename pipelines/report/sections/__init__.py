"""The sections of the page, one file and one template each, in the order in which they are read."""

from pipelines.report.sections import (
    ablation,
    audit,
    comparison,
    detectors,
    explanation,
    ledger,
    lineage,
    overview,
    quality,
    reals,
    robustness,
    splits,
    subsets,
    versions,
)

SECTIONS = (
    overview.SECTION,
    subsets.SECTION,
    reals.SECTION,
    quality.SECTION,
    ledger.SECTION,
    audit.SECTION,
    splits.SECTION,
    detectors.SECTION,
    comparison.SECTION,
    ablation.SECTION,
    robustness.SECTION,
    explanation.SECTION,
    versions.SECTION,
    lineage.SECTION,
)

__all__ = ["SECTIONS"]
