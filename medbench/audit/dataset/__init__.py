"""Whether a task's data can be trusted.

Leaks between parts, copies, contradicting labels, metadata that gives the label away. See
`auditing.audit`.
"""

from __future__ import annotations

from medbench.audit.dataset.audited_data import Subject, of_data, of_list, of_task
from medbench.audit.dataset.auditing import audit, audited
from medbench.audit.dataset.report import DatasetFinding, DatasetReport

__all__ = [
    "DatasetFinding",
    "DatasetReport",
    "Subject",
    "audit",
    "audited",
    "of_data",
    "of_list",
    "of_task",
]
