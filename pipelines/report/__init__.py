"""One self-contained HTML page for a version of a dataset, and for the detectors that were judged on it."""

from pipelines.report.findings import Findings, Run
from pipelines.report.page import write_report

__all__ = ["Findings", "Run", "write_report"]
