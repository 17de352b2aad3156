"""A folder's images as a CSV file with a column `group` in which the groups of copies are one.

What a split needs that shall not part them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medbench.schema import UserError, csv_cell
from medbench.system import atomic_write
from medbench.tasks._joined_groups import joined
from medbench.tasks.folder import listing_of
from medbench.tasks.folder.listing import Listing


@dataclass(frozen=True)
class GroupsTable:
    """A table of which image belongs to which patient, for the folder's owner to fill in.

    listing: what the folder says of its images. file: where the table is to lie, above them.
    """

    listing: Listing
    file: Path

    @staticmethod
    def of(task: str, file: Path) -> GroupsTable:
        """Check the file, and open a groups table.

        Raises UserError for a task that is no folder, and for a file that does not lie above the
        images: paths go down from it.
        """
        head, _, argument = task.partition(":")
        if head != "folder":
            raise UserError(
                f"--groups writes a table of a folder of your own; the groups of '{task}' are its own."
            )
        listing = listing_of(argument)
        if file.suffix.lower() != ".csv":
            raise UserError(
                f"--groups writes a CSV file, not '{file.name}'.",
                then=f"--groups {file.with_suffix('.csv')}",
            )
        if not listing.root.is_relative_to(file.absolute().parent):
            what = f"--groups {file} does not lie above the images, and paths of a CSV file go down from it."
            raise UserError(what, then=f"--groups {listing.root / file.name}")
        return GroupsTable(listing, file)

    def write(self, copies: Iterable[tuple[str, str]]) -> str:
        """Write the table over an older one; return a sentence on what it holds.

        Whole or not at all. Columns path, those that the folder has, and group. copies: pairs of
        ids whose groups become one. Raises OSError where it cannot be written.
        """
        listing = self.listing
        ids = np.array(listing.ids)
        given = np.array(listing.columns.get("group", listing.ids))
        groups = joined(ids, given, copies)
        names = np.unique(groups)
        # names of files differ by a zero, which a spelling of a patient must not
        if "group" not in listing.columns:
            groups = np.searchsorted(names, groups).astype(str)
        place = listing.root.relative_to(self.file.absolute().parent)
        paths = [(place / name).as_posix() for name in listing.ids]
        # the same file, and no formula
        paths = [path if csv_cell(path) == path else f"./{path}" for path in paths]
        columns = {"path": paths, **listing.columns, "group": groups.tolist()}
        lines = [list(columns), *map(list, zip(*columns.values(), strict=True))]
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(
            [[csv_cell(cell) for cell in line] for line in lines]
        )
        atomic_write.write(
            self.file, lambda partial: partial.write_text(table.getvalue(), encoding="utf-8")
        )
        said = f"{self.file}: {len(ids)} images in {len(names)} groups, {len(np.unique(given)) - len(names)} fewer than without their copies"
        parts = np.array(listing.columns.get("split", ["all"] * len(ids)))
        torn = sum(len(np.unique(parts[groups == name])) > 1 for name in np.unique(groups))
        if torn:
            return f"{said}; {torn} of them are in two parts: fix the column split, or remove it, and medbench splits by these groups"
        return f"{said}. Next: medbench run --task folder:{self.file}"
