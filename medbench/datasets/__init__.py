"""A task's data as a person handles it: listed, fetched, verified, looked at. `data` opens it for a run."""

from medbench.datasets.getting import complete, get, steps
from medbench.datasets.listing import details, table
from medbench.datasets.sheet import save, sheet
from medbench.datasets.verifying import Report, verify

__all__ = ["Report", "complete", "details", "get", "save", "sheet", "steps", "table", "verify"]
