"""The sections of the page in the order in which they are read. Each is one file, with its template beside it."""

from pipelines.report.sections.dataset import audit, ledger, lineage, overview, quality, reals, splits, subsets, versions
from pipelines.report.sections.detectors import ablation, comparison, deliveries, errors, explanation, results, robustness

SECTIONS = (
    overview.SECTION,
    subsets.SECTION,
    reals.SECTION,
    quality.SECTION,
    ledger.SECTION,
    audit.SECTION,
    splits.SECTION,
    results.SECTION,
    errors.SECTION,
    comparison.SECTION,
    ablation.SECTION,
    deliveries.SECTION,
    robustness.SECTION,
    explanation.SECTION,
    versions.SECTION,
    lineage.SECTION,
)

__all__ = ["SECTIONS"]
