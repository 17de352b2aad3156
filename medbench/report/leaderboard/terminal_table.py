"""A table on a screen.

Long names break where a reader would break them, so that every column keeps its place. Why rich
does not fit it: on 80 columns it takes room from every column that may break in the same
proportion, and cuts inside numbers ("0.51" above "1,") and names ("vit_sma"); told each column's
least width, it lets the last column leave the screen. `results/derm-standard-classical` shows both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_MEMBERS = re.compile(r"(?=\+)")
_PIECES = re.compile(r"(?=[+@/.])|(?<=[:_-])")


def folded(name: str, width: int) -> str:
    """Fold the name into lines of at most `width` characters.

    Whole, else a line a member of a fusion, these cut before + @ / . and after : _ -

    >>> print(folded("dvme:swav+dino@vit_small_patch8_224.dino", 30))
    dvme:swav
    +dino@vit_small_patch8_224
    .dino
    """
    if len(name) <= width:
        return name
    lines: list[str] = []
    for member in _MEMBERS.split(name):
        lines.append("")
        for piece in [member] if len(member) <= width else _PIECES.split(member):
            if lines[-1] and len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line[i : i + width] for line in lines for i in range(0, len(line), width))


@dataclass(frozen=True)
class Fitted:
    """Fit a table to the terminal, for `rich` to print.

    header, body: its cells, a section for each text of the first column. names: columns of names,
    which are folded; others break at blanks, where there is too little room. bold: places of lines
    in the body.
    """

    title: str
    header: Sequence[str]
    body: Sequence[Sequence[str]]
    names: Sequence[int]
    bold: frozenset[int]

    def widths(self, total: int) -> tuple[list[int], int]:
        """Return the widths of the columns in a table of `total` characters, and of the blanks.

        The blanks beside each. First goes what cannot break, then members whole, then other cells,
        then names.
        """
        columns = [
            [name, *cells]
            for name, cells in zip(self.header, zip(*self.body, strict=True), strict=True)
        ]
        least, members, others, whole = ([0] * len(columns) for _ in range(4))
        for i, cells in enumerate(columns):
            whole[i] = max(map(len, cells))
            if i in self.names:
                least[i] = max(len(piece) for cell in cells for piece in _PIECES.split(cell))
                members[i] = max(len(member) for cell in cells for member in _MEMBERS.split(cell))
            else:
                least[i] = max(len(word) for cell in cells for word in cell.split() or [""])
                others[i] = whole[i]
        padding = 1 if sum(least) + 3 * len(columns) + 1 <= total else 0
        found, spare = least, total - sum(least) - (1 + 2 * padding) * len(columns) - 1
        for goals in (members, others, whole):
            for i, goal in enumerate(goals):
                more = goal - found[i]
                if more > 0 and (more <= spare or i in self.names):
                    more = min(more, max(spare, 0))
                    found[i], spare = found[i] + more, spare - more
        return found, padding

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        widths, padding = self.widths(options.max_width)
        table = Table(
            title=Text(self.title), title_justify="left", title_style="bold", padding=(0, padding)
        )
        for i, name in enumerate(self.header):
            table.add_column(
                Text(name),
                justify="left" if i in self.names else "right",
                width=widths[i],
                overflow="fold",
            )
        for i, cells in enumerate(self.body):
            if i and cells[0] != self.body[i - 1][0]:
                table.add_section()
            shown = [
                Text(folded(cell, widths[j]) if j in self.names else cell)
                for j, cell in enumerate(cells)
            ]
            table.add_row(*shown, style="bold" if i in self.bold else None)
        yield table
