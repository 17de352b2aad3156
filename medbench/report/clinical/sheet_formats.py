"""One table of plain words, and how it is written: terminal, Markdown, LaTeX, tidy CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medbench.report.leaderboard import escape_tex
from medbench.report.leaderboard.standard_tables import grid
from medbench.schema import csv_cell, in_markdown, printable

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


FORMATS = ("terminal", "markdown", "csv", "latex")
FORMAT_OF = {".md": "markdown", ".csv": "csv", ".tex": "latex"}  # of a file's name


@dataclass(frozen=True, eq=False)
class Sheet:
    """Hold one table as plain words.

    Its title, header and body, and what a reader must know. frame: the numbers behind it. bold:
    which lines of the body a terminal makes bold, where any. Without a body its notes are shown.
    """

    title: str
    header: Sequence[str]
    body: Sequence[Sequence[str]]
    notes: Sequence[str]
    frame: pd.DataFrame
    bold: Sequence[bool] = ()


def clinical_terminal(title: str, made: Sequence[Sheet]) -> list[Table | str]:
    """Return a title, and each sheet's table with its notes, for `screen.show`."""
    from rich.table import Table
    from rich.text import Text

    found: list[Table | str] = [title]
    for sheet in made:
        shown = Table(title=Text(sheet.title), title_justify="left", title_style="bold")
        for place, name in enumerate(sheet.header):
            shown.add_column(
                Text(name), justify="left" if place == 0 else "right", no_wrap=place == 0
            )
        for row, bold in zip(sheet.body, sheet.bold or [False] * len(sheet.body), strict=True):
            shown.add_row(*map(Text, row), style="bold" if bold else None)
        found += [*([shown] if sheet.body else [sheet.title]), *sheet.notes]
    return found


def render_tables(made: Sequence[tuple[str, Sequence[Sheet]]], form: str) -> str:
    """Write the tables of several lines as "markdown", "latex" or "csv".

    CSV is one tidy table: line, table, then every frame's columns.
    """
    if form == "csv":
        import pandas as pd

        frames = [
            sheet.frame.assign(line=title, table=sheet.title)
            for title, of_line in made
            for sheet in of_line
            if len(sheet.frame)
        ]
        whole = pd.concat([frame.dropna(axis=1, how="all") for frame in frames], ignore_index=True)
        whole = whole[
            ["line", "table", *(c for c in whole.columns if c not in ("line", "table"))]
        ].map(csv_cell)
        return str(whole.to_csv(index=False, lineterminator="\n"))
    parts = []
    for title, of_line in made:
        parts.append(
            f"**{in_markdown(title)}**\n" if form == "markdown" else f"% {printable(title)}"
        )
        parts += [
            _markdown(sheet) if form == "markdown" else _latex(title, sheet) for sheet in of_line
        ]
    return "\n".join(parts) + ("" if form == "latex" else "\n")


def _markdown(sheet: Sheet) -> str:
    return "\n".join(
        [
            f"{in_markdown(sheet.title)}:",
            "",
            *([*grid([sheet.header, *sheet.body]), ""] if sheet.body else []),
            *(f"- {in_markdown(note)}" for note in sheet.notes),
            *([""] if sheet.notes else []),
        ]
    )


def _latex(title: str, sheet: Sheet) -> str:
    if not sheet.body:
        return "\n".join(f"% {printable(words)}" for words in (sheet.title, *sheet.notes))
    # of a number, not of a name or a range
    minus = lambda cell: re.sub(r"(?<![\w.])-(?=\d)", "$-$", escape_tex(cell))
    header, *body = [
        [escape_tex(cell) for cell in sheet.header],
        *([escape_tex(row[0]), *map(minus, row[1:])] for row in sheet.body),
    ]
    rows = [" & ".join(cells) + " \\\\" for cells in (header, *body)]
    notes = [f"  \\par {escape_tex(note)}" for note in sheet.notes]
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            "\\begin{table}",
            "  \\centering",
            f"  \\caption{{{escape_tex(f'{sheet.title}. {title}')}.}}",
            f"  \\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}",
            "    \\toprule",
            f"    {rows[0]}",
            "    \\midrule",
            *(f"    {row}" for row in rows[1:]),
            "    \\bottomrule",
            "  \\end{tabular}",
            *(["  \\footnotesize\\raggedright"] if notes else []),
            *notes,
            "\\end{table}",
            "",
        ]
    )
