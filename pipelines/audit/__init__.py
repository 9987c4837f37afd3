"""The shortcut audit: can fake be told from real by what has nothing to do with forgery?"""

from pipelines.audit.audit import audit_folder, audit_version
from pipelines.audit.verdict import Audit, Gate, Verdict, read_audit, write_audit

__all__ = ["Audit", "Gate", "Verdict", "audit_folder", "audit_version", "read_audit", "write_audit"]
