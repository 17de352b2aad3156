"""Can a task's data be trusted? Leaks between parts, copies, contradicting labels, metadata that gives the label away. See `auditing.audit`."""

from __future__ import annotations

from medbench.audit.auditing import audit, audited
from medbench.audit.report import Finding, Report
from medbench.audit.subject import Subject, of_data, of_list, of_task

__all__ = ["Finding", "Report", "Subject", "audit", "audited", "of_data", "of_list", "of_task"]
