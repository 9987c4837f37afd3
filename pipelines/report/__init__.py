"""One self-contained HTML page for a version of a dataset, and for the detectors that were evaluated on it."""

from pipelines.report.inputs import Inputs, Run
from pipelines.report.page import write_report

__all__ = ["Inputs", "Run", "write_report"]
