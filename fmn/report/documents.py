"""Tables for documents: one table, the same cells, as Markdown, as CSV, as LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from fmn.report.text import printable

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files.
        title: above.
        names: headings of the columns of text, on the left.
        numbers: headings of the columns of numbers.
        rows: a cell for each column; numbers are written already, so that every form says the same.
        notes: below, a paragraph each.
        is_long: it is for programs: as CSV only.
    """

    name: str
    title: str
    names: tuple[str, ...]
    numbers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    is_long: bool = False

    def __post_init__(self) -> None:
        assert {len(row) for row in self.rows} <= {len(self.heading)}

    @property
    def heading(self) -> tuple[str, ...]:
        """All headings."""
        return self.names + self.numbers


def markdown(tables: Sequence[Table]) -> str:
    """Return tables with titles and notes as a Markdown document."""
    return "\n".join(_markdown(table) for table in tables if not table.is_long)


def _markdown(table: Table) -> str:
    rows = [[_piped(cell) for cell in row] for row in (table.heading, *table.rows)]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(table.heading))]
    lines = [f"## {table.title}", ""]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if column < len(table.names) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if number == 0:
            rules = [
                "-" * width if column < len(table.names) else "-" * (width - 1) + ":"
                for column, width in enumerate(widths)
            ]
            lines.append(f"| {' | '.join(rules)} |")
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes), ""])


def _piped(cell: str) -> str:
    return printable(cell).replace("\\", "\\\\").replace("|", "\\|")


def comma_separated(table: Table) -> str:
    """Return a table as CSV, without title and notes."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.heading, *table.rows])
    return text.getvalue()


def latex(tables: Sequence[Table]) -> str:
    r"""Return tables as LaTeX, each a float with a label.

    Whoever includes it loads the package booktabs.
    """
    parts = [r"% Include it with \input; it needs \usepackage{booktabs}."]
    return "\n\n".join([*parts, *(_latex(table) for table in tables if not table.is_long)]) + "\n"


def _latex(table: Table) -> str:
    wide = (
        "" if table.numbers else rf"p{{{0.9 / len(table.names):.2f}\linewidth}}"
    )  # texts alone are sentences
    columns = (wide or "l") * len(table.names) + "r" * len(table.numbers)
    stacked = [
        r"\shortstack[r]{" + _escaped(number).replace(" ", r"\\") + "}" for number in table.numbers
    ]
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{' '.join(map(_escaped, (table.title + '.', *table.notes)))}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join([*map(_escaped, table.names), *stacked]) + r" \\",
        r"\midrule",
        *map(_line, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in printable(text))
