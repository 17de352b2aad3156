"""A pivot as a terminal's table, Markdown, tidy CSV, LaTeX (booktabs, siunitx) and HTML."""

from __future__ import annotations

import csv
import html
import io
from typing import TYPE_CHECKING

import numpy as np

from medbench.report.leaderboard.pivot_table import Pivot, PivotCell
from medbench.report.leaderboard.standard_tables import grid
from medbench.schema import csv_cell, in_markdown
from medbench.stats import number_format

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("terminal", "markdown", "csv", "latex", "html")
FORMAT_OF = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".html": "html"}  # of a file's name
SPREADS = ("interval", "sd", "none")
_DONE = "done"


def pivot_terminal(table: Pivot, spread: str = "interval") -> list[Table | str]:
    """Return a pivot table and the sentences around it, for `screen.show`.

    spread: what stands behind a mean, one of SPREADS.
    """
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(table.caption), title_justify="left", title_style="bold")
    header, *body = _text(table, spread)
    for place, name in enumerate(header):
        shown.add_column(Text(name), justify="left" if place < len(table.row_axes) else "right")
    for row, cells in zip(table.rows, body, strict=True):
        best = (
            [False] * len(table.row_axes)
            + [_is_best(table.entries.get((row, column))) for column in table.columns]
            + [False]
        )
        shown.add_row(
            *(
                Text(cell, style="bold" if bold else "")
                for cell, bold in zip(cells, best, strict=False)
            )
        )
    return [*table.first_sentences, shown, *table.sentences]


def pivot_markdown(table: Pivot, spread: str = "interval") -> str:
    """Write a pivot table in Markdown, with the best entries in bold.

    spread: as `pivot_terminal` takes it.
    """
    above = [
        *(f"- {in_markdown(note)}" for note in table.first_sentences),
        *([""] if table.first_sentences else []),
    ]
    lines = [
        f"**{in_markdown(table.caption)}**",
        "",
        *above,
        *grid(_text(table, spread, bold="**{}**")),
    ]
    return "\n".join([*lines, "", *(f"- {in_markdown(note)}" for note in table.sentences), ""])


def tidy_csv(table: Pivot) -> str:
    """Write a pivot table as CSV, one line for each number, in the metric's own range.

    The axes, metric, mean, sd, low, high, seeds, mark, the difference to the best with its interval
    and corrected p, status. Empty where undefined.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    axes = (*table.row_axes, *table.column_axes)
    writer.writerow(
        [
            *axes,
            "metric",
            "mean",
            "sd",
            "low",
            "high",
            "seeds",
            "mark",
            "to_best",
            "to_best_low",
            "to_best_high",
            "p",
            "status",
        ]
    )
    for row in table.rows:
        for column in table.columns:
            entry = table.entries.get((row, column))
            if entry is None:
                continue
            s, gap = entry.summary, entry.mark.to_best
            ends = gap.interval() if gap else (None, None)
            numbers = [
                s.mean,
                s.sd,
                s.low,
                s.high,
                entry.seeds,
                entry.mark.sign,
                gap.value if gap else None,
                *ends,
            ]
            record = [
                *row,
                *column,
                entry.metric,
                *(_plain(value) for value in numbers),
                _plain(entry.mark.p, 3),
                entry.status,
            ]
            writer.writerow(map(csv_cell, record))
    return out.getvalue()


def latex(table: Pivot, spread: str = "interval") -> str:
    """Write a pivot table as a `table` environment of LaTeX (booktabs, siunitx).

    Each number stands in two columns: siunitx's, then its spread and mark, so that points stand
    under each other. spread: as `pivot_terminal` takes it.
    """
    sign = "-" if any(entry.summary.mean < 0 for entry in table.entries.values()) else ""
    ranks = "S[table-format=2.2]" if table.ranks else ""
    format_ = (
        "l" * len(table.row_axes)
        + f"S[table-format={sign}1.3]@{{\\,}}l" * len(table.columns)
        + ranks
    )
    lines = [
        "% \\usepackage{booktabs,siunitx}; in a column of two: table*, or --spread none",
        "\\begin{table}",
        "  \\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}",
        "  \\sisetup{detect-weight=true, mode=text}",
        f"  \\caption{{{escape_tex(table.caption)}.}}",
        f"  \\begin{{tabular}}{{{format_}}}",
        "    \\toprule",
        *(f"    {line} \\\\" for line in _tex_header(table)),
        "    \\midrule",
    ]
    for row in table.rows:
        cells = [escape_tex(name) for name in row] + [
            _tex_entry(table.entries.get((row, column)), spread) for column in table.columns
        ]
        if table.ranks:
            rank = table.ranks[row]
            cells.append("{--}" if rank is None else f"{rank:.2f}")
        lines.append(f"    {' & '.join(cells)} \\\\")
    notes = [f"  \\par {escape_tex(note)}" for note in (*table.first_sentences, *table.sentences)]
    return "\n".join(
        [
            *lines,
            "    \\bottomrule",
            "  \\end{tabular}",
            "  \\footnotesize\\raggedright",
            *notes,
            "\\end{table}",
            "",
        ]
    )


def page(table: Pivot, spread: str = "interval") -> str:
    """Write a pivot table with its notes as one self-contained HTML page.

    Every name is escaped. spread: as `pivot_terminal` takes it.
    """
    style = (
        "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse;border-top:2px solid;border-bottom:2px solid}"
        "th,td{padding:.25em .8em;text-align:right;white-space:nowrap}thead{border-bottom:1px solid}"
        "th[scope=row]{text-align:left;font-weight:normal}caption{text-align:left;font-weight:bold;padding:.5em 0}"
    )
    header, *body = _text(table, spread)
    n = len(table.row_axes)
    rows = []
    for row, cells in zip(table.rows, body, strict=True):
        texts = [f'<th scope="row">{html.escape(cell)}</th>' for cell in cells[:n]]
        for column, cell in zip([*table.columns, None], cells[n:], strict=False):
            best = column is not None and _is_best(table.entries.get((row, column)))
            texts.append(
                f"<td>{'<strong>' if best else ''}{html.escape(cell)}{'</strong>' if best else ''}</td>"
            )
        rows.append(f"<tr>{''.join(texts)}</tr>")
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(table.caption)}</title><style>{style}</style></head><body>',
            *(f"<p>{html.escape(note)}</p>" for note in table.first_sentences),
            f"<table><caption>{html.escape(table.caption)}</caption>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *rows,
            "</tbody></table>",
            f"<ul>{''.join(f'<li>{html.escape(note)}</li>' for note in table.sentences)}</ul>",
            "</body></html>",
            "",
        ]
    )


def _text(table: Pivot, spread: str, bold: str = "{}") -> list[list[str]]:
    """Header and body as plain words."""
    header = [
        *table.row_axes,
        *(" ".join(column) for column in table.columns),
        *(["mean rank"] if table.ranks else []),
    ]
    body = []
    for row in table.rows:
        cells = [_entry(table.entries.get((row, column)), spread, bold) for column in table.columns]
        body.append([*row, *cells, *([_rank(table.ranks[row])] if table.ranks else [])])
    return [header, *body]


def _entry(entry: PivotCell | None, spread: str, bold: str) -> str:
    if entry is None or entry.status != _DONE:
        return "–" if entry is None else entry.status
    mean = (
        bold.format(number_format.number_text(entry.summary.mean))
        if _is_best(entry)
        else number_format.number_text(entry.summary.mean)
    )
    return " ".join(
        part for part in (mean, _spread(entry, spread), entry.mark.sign.replace("*", "")) if part
    )


def _spread(entry: PivotCell, spread: str) -> str:
    s = entry.summary
    if spread == "none" or np.isnan(s.mean):
        return ""
    if spread == "sd":
        return "" if s.sd is None or np.isnan(s.sd) else f"± {s.sd:.3f}"
    return number_format.interval_text(s.low, s.high)


def _is_best(entry: PivotCell | None) -> bool:
    return entry is not None and entry.mark.sign == "*"


def _rank(rank: float | None) -> str:
    return number_format.number_text(rank, ".2f")


def _tex_header(table: Pivot) -> list[str]:
    """One line for each column axis; equal neighbours of an outer axis share a heading."""
    lines = []
    for depth, axis in enumerate(table.column_axes):
        last = depth == len(table.column_axes) - 1
        cells = (
            [escape_tex(name) for name in table.row_axes] if last else [""] * len(table.row_axes)
        )
        spans: list[tuple[tuple[str, ...], int]] = []
        for column in table.columns:
            if spans and spans[-1][0] == column[: depth + 1] and not last:
                spans[-1] = (spans[-1][0], spans[-1][1] + 1)
            else:
                spans.append((column[: depth + 1], 1))
        cells += [
            f"\\multicolumn{{{2 * width}}}{{c}}{{{escape_tex(_heading(axis, name[-1]))}}}"
            for name, width in spans
        ]
        if table.ranks:
            cells.append("{mean rank}" if last else "")
        lines.append(" & ".join(cells))
    return lines


def _heading(axis: str, name: str) -> str:
    return f"{name} labels" if axis == "labels" else name


def _tex_entry(entry: PivotCell | None, spread: str) -> str:
    if entry is None or entry.status != _DONE or np.isnan(entry.summary.mean):
        return f"{{--}} & {escape_tex(entry.status) if entry is not None and entry.status not in (_DONE, '–') else ''}"
    mean = ("\\bfseries " if _is_best(entry) else "") + number_format.number_text(
        entry.summary.mean
    )
    beside = _spread(entry, spread).replace("±", "$\\pm$")
    mark = {"=": "$^{=}$", "?": "$^{?}$"}.get(entry.mark.sign, "")
    small = "{\\scriptsize " + beside + "}" if beside else ""
    return f"{mean} & {small}{mark}"


def escape_tex(text: str) -> str:
    """Escape plain text for LaTeX."""
    special = {
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "–": "--",
        "<": "$<$",
        ">": "$>$",
    }
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _plain(value: float | str | None, digits: int = 6) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def render_pivot(table: Pivot, form: str, spread: str = "interval") -> str:
    """Write the table as text of a format other than "terminal".

    Raises ValueError for another.
    """
    if form == "csv":
        return tidy_csv(table)
    makers = {"markdown": pivot_markdown, "latex": latex, "html": page}
    if form not in makers:
        raise ValueError(f"format {form!r} is none of {FORMATS[1:]}")
    return makers[form](table, spread)
