"""A task's data as a person handles it: listed, fetched, verified, looked at.

`data` opens it for a run.
"""

from medbench.data.manage.contact_sheet import draw_contact_sheet, save_png
from medbench.data.manage.download import get, is_complete, steps
from medbench.data.manage.groups_table import GroupsTable
from medbench.data.manage.overview import details, overview_records, overview_table
from medbench.data.manage.verification import VerificationReport, verify

__all__ = [
    "GroupsTable",
    "VerificationReport",
    "details",
    "draw_contact_sheet",
    "get",
    "is_complete",
    "overview_records",
    "overview_table",
    "save_png",
    "steps",
    "verify",
]
