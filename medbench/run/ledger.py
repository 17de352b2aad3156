"""Which lines were ever judged on a scored set.

Rows are replaced and deleted; this record only grows: who tries forty settings and shows the best
one shows how many were tried.

`judged.jsonl` beside the rows, a line each: the row's fingerprint, its cell with and without seeds,
as hashes, and the scored set. A set is known by its images and labels: a reader that is written
otherwise, and gives the same, does not begin the count anew.
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

    cell: hash of what was judged; line: the same without seeds. target: the scored set. scored:
    its images and labels, "" where the row is too old to say.
    """

    fingerprint: str
    cell: str
    line: str
    target: str
    scored: str = ""

    @staticmethod
    def of(row: Row) -> Judged:
        """Return what the ledger keeps of a row."""
        line = replace(row.cell, seed=0, pretrain_seed=0)
        cell, line_hash = (hash_of(one.identity())[:16] for one in (row.cell, line))
        digest = row.provenance.get("parts", {}).get(row.cell.target, {})
        scored = str(digest.get("scored", ""))
        return Judged(row.fingerprint, cell, line_hash, str(row.provenance["target"]), scored)

    def to_json(self) -> dict[str, Any]:
        """Return its fields as JSON values, without empty ones."""
        return {name: value for name, value in asdict(self).items() if value}

    @staticmethod
    def from_json(record: Any) -> tuple[str, Judged]:
        """Read a fingerprint and what was judged.

        Raises TypeError or ValueError for what is none.
        """
        checked(record, dict.fromkeys(("fingerprint", "cell", "line", "target"), str))
        for name in ("fingerprint", "cell", "line"):
            check_hash(record[name], name)
        check_name(record["target"], "target")
        if "scored" in record:
            check_hash(record["scored"], "scored")
        return record["fingerprint"], Judged(**record)


def lines_judged(every: Iterable[Judged]) -> Mapping[str, int]:
    """Return how many lines were judged on each scored set, ever: set -> number.

    A cell that was made twice, with other weights or another version, has two fingerprints: its
    line counts twice. Draws of one line are one.
    """
    every = list(every)
    same = {one.target: one.scored for one in every if one.scored}
    of_cell: dict[tuple[str, str, str], set[str]] = {}
    for one in every:
        name = same.get(one.target, one.target)
        of_cell.setdefault((name, one.line, one.cell), set()).add(one.fingerprint)
    of_line: dict[tuple[str, str], int] = {}
    for (target, line, _), made in of_cell.items():
        of_line[target, line] = max(of_line.get((target, line), 0), len(made))
    counts: dict[str, int] = {}
    for (target, _), n in of_line.items():
        counts[target] = counts.get(target, 0) + n
    return {target: counts[same.get(target, target)] for target in {one.target for one in every}}
