"""Which lines were ever judged on a scored set.

Rows are replaced and deleted; this record only grows: who tries forty settings and shows the best
one shows how many were tried.

`judged.jsonl` beside the rows, a line each: the row's fingerprint, its cell with and without seeds,
as hashes, and the scored set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from medbench.schema import Row, check_hash, check_name, checked
from medbench.schema import fingerprint as hash_of

#: Name of the file in a results folder.
FILE = "judged.jsonl"


@dataclass(frozen=True)
class Judged:
    """A row that was made.

    cell: hash of what was judged; line: the same without seeds. target: the scored set.
    """

    fingerprint: str
    cell: str
    line: str
    target: str

    @staticmethod
    def of(row: Row) -> Judged:
        line = replace(row.cell, seed=0, pretrain_seed=0)
        cell, line_hash = (hash_of(one.identity())[:16] for one in (row.cell, line))
        return Judged(row.fingerprint, cell, line_hash, str(row.provenance["target"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(record: Any) -> tuple[str, Judged]:
        """Read a fingerprint and what was judged.

        Raises TypeError or ValueError for what is none.
        """
        checked(record, dict.fromkeys(("fingerprint", "cell", "line", "target"), str))
        for name in ("fingerprint", "cell", "line"):
            check_hash(record[name], name)
        check_name(record["target"], "target")
        return record["fingerprint"], Judged(**record)


def lines_judged(every: Iterable[Judged]) -> Mapping[str, int]:
    """Return scored set -> how many lines were judged on it, ever.

    A cell that was made twice, with other weights or another version, has two fingerprints: its
    line counts twice. Draws of one line are one.
    """
    of_cell: dict[tuple[str, str, str], set[str]] = {}
    for one in every:
        of_cell.setdefault((one.target, one.line, one.cell), set()).add(one.fingerprint)
    of_line: dict[tuple[str, str], int] = {}
    for (target, line, _), made in of_cell.items():
        of_line[target, line] = max(of_line.get((target, line), 0), len(made))
    counts: dict[str, int] = {}
    for (target, _), n in of_line.items():
        counts[target] = counts.get(target, 0) + n
    return counts
