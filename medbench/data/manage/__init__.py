"""A task's data as a person handles it: listed, fetched, verified, looked at. `data` opens it for a run."""

from medbench.data.manage.contact_sheet import save, sheet
from medbench.data.manage.download import complete, get, steps
from medbench.data.manage.overview import details, table
from medbench.data.manage.verification import Report, verify

__all__ = ["Report", "complete", "details", "get", "save", "sheet", "steps", "table", "verify"]
