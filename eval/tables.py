"""A table of measurements, and how it is printed: Markdown, CSV, LaTeX, terminal (HTML: ``templates/tables.html.j2``).

The number in a cell is rounded here and nowhere else. The best of a column is bold; rounding decides ties, so that
two methods which print the same number are both best. Published values stand beside ours as a table of their own
(:attr:`Table.beside`), which shares the rows and nothing more: it takes no part in any comparison. What is said about
a table in further tables of text (:class:`TextTable`) is printed under it.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

ABSENT = "—"


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, in the metric's unit; ``None`` where nothing finite was measured or printed."""

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Column:
    """A metric as it is printed. ``decimals`` is chosen so that the last digit is well inside the interval."""

    key: str
    label: str
    higher_is_better: bool
    decimals: int

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def heading(self) -> str:
        return f"{self.label} {self.arrow}"

    def mean(self, estimate: Estimate | None) -> str:
        return ABSENT if estimate is None else self._printed(estimate.mean)

    def interval(self, estimate: Estimate | None) -> str:
        """``[low, high]``, or nothing when the cell has no interval."""
        if estimate is None or estimate.low is None or estimate.high is None:
            return ""
        return f"[{self._printed(estimate.low)}, {self._printed(estimate.high)}]"

    def _printed(self, value: float | None) -> str:
        return ABSENT if value is None else f"{value:.{self.decimals}f}"


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes
    ----------
    key, label : str
        Its key in files, and its name in print.
    cells : mapping
        METRIC -> estimate.
    subset : int, optional
        The number of pictures, the first ones, where it was measured on these only: it is no competitor for "best".
    further : mapping
        Further columns of the CSV file.
    competes : bool
        False of what methods are held against, such as the source itself, and of a method with another budget.
    """

    key: str
    label: str
    cells: Mapping[str, Estimate]
    subset: int | None = None
    further: Mapping[str, str] = field(default_factory=dict)
    competes: bool = True

    @property
    def name(self) -> str:
        """In print, with the subset."""
        return self.label if self.subset is None else f"{self.label} (first {self.subset})"


@dataclass(frozen=True)
class TextTable:
    """A small table of text, with sentences under it; the first column names the row."""

    key: str
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [f"#### {self.title}", "", _pipes(self.headings), _pipes(["---"] * len(self.headings))]
        return "\n".join([*lines, *map(_pipes, self.rows), "", *(f"- {note}" for note in self.notes), ""])

    def latex(self) -> str:
        width = rf"{0.9 / len(self.headings):.3f}\linewidth"
        caption = " ".join([_tex(self.title) + ".", *(_tex(note) for note in self.notes)])
        columns = rf"*{{{len(self.headings)}}}{{>{{\raggedright\arraybackslash}}p{{{width}}}}}"
        lines = [" & ".join(map(_tex, cells)) + r" \\" for cells in (self.headings, *self.rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        head = [
            r"\begin{table}",
            r"  \centering\scriptsize\setlength{\tabcolsep}{2pt}",
            rf"  \caption{{{caption}}}\smallskip",
        ]
        head += [rf"  \label{{tab:{self.key}}}", rf"  \begin{{tabular}}{{{columns}}}"]
        return "\n".join([*head, *(f"    {line}" for line in body), r"  \end{tabular}", r"\end{table}", ""])

    def rich(self) -> RenderableType:
        table = RichTable(title=escape(self.title), title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.show_edge, table.padding = False, (0, 1, 0, 0)
        for heading, cells in zip(self.headings, zip(*self.rows, strict=True), strict=True):
            longest = max(len(word) for text in (heading, *cells) for word in text.split())
            table.add_column(Text(heading), min_width=longest)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return Group(table, "", *(f"[dim]{escape(note)}[/dim]" for note in self.notes))


@dataclass(frozen=True)
class Table:
    """Methods by metrics.

    ``notes`` are sentences under the table, ``failures`` name each picture that could not be measured and why (not
    repeated in LaTeX), ``beside`` has the same methods on other data, ``under`` says more about this table.
    """

    key: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()
    beside: Table | None = None
    under: Sequence[TextTable] = ()

    def best(self, column: Column) -> frozenset[str]:
        """Keys of the rows that print the best mean of a column; none when fewer than two rows compete.

        Means over fewer pictures than the set has do not compare, so that rows of a subset take no part.
        """
        competing = [row for row in self.rows if row.subset is None and row.competes and column.key in row.cells]
        means = {row.key: row.cells[column.key].mean for row in competing}
        rounded = {key: round(mean, column.decimals) for key, mean in means.items() if mean is not None}
        if len(rounded) < 2:
            return frozenset()
        best = (max if column.higher_is_better else min)(rounded.values())
        return frozenset(key for key, value in rounded.items() if value == best)

    def row(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.key == key), None)

    def published(self, key: str, column: Column) -> str:
        """The printed value of a method in the table beside this one."""
        row = self.beside.row(key) if self.beside else None
        return column.mean(row.cells.get(column.key)) if row else ABSENT

    def _beside_columns(self) -> Sequence[Column]:
        return self.beside.columns if self.beside else ()

    def markdown(self) -> str:
        """A GitHub table; intervals on a second line of the cell, published values in the columns on the right."""

        def cell(column: Column, row: Row) -> str:
            estimate = row.cells.get(column.key)
            mean, interval = column.mean(estimate), column.interval(estimate)
            mean = f"**{mean}**" if row.key in self.best(column) else mean
            return f"{mean}<br>{interval}" if interval else mean

        beside = self._beside_columns()
        head = ["Method", *(c.heading for c in self.columns), *(f"*paper: {c.heading}*" for c in beside)]
        lines = [f"### {self.title}", "", _pipes(head), _pipes(["---"] + ["---:"] * (len(head) - 1))]
        for row in self.rows:
            ours = [cell(column, row) for column in self.columns]
            lines.append(_pipes([row.name, *ours, *(f"*{self.published(row.key, c)}*" for c in beside)]))
        notes = [f"Columns *paper*: {self.beside.title}."] if self.beside else []
        text = "\n".join([*lines, "", *(f"- {note}" for note in [*notes, *self.notes, *self.failures]), ""])
        return "\n".join([text, *(table.markdown() for table in self.under)])

    def csv_rows(self) -> list[dict[str, str]]:
        """One dictionary a method: unrounded ``METRIC``, ``METRIC_low``, ``METRIC_high``, then ``paper_METRIC``, and
        the row's further columns."""
        found = []
        for row in self.rows:
            line = {"set": self.key, "method": row.key}
            for column in self.columns:
                estimate = row.cells.get(column.key, Estimate(None))
                for suffix, value in (("", estimate.mean), ("_low", estimate.low), ("_high", estimate.high)):
                    line[column.key + suffix] = "" if value is None else f"{value:.7g}"
            for column in self._beside_columns():
                printed = self.published(row.key, column)
                line[f"paper_{column.key}"] = "" if printed == ABSENT else printed
            found.append(line | dict(row.further))
        return found

    def latex(self) -> str:
        """A ``table`` for ``\\usepackage{booktabs,graphicx}``, as wide as the line.

        Intervals stand under their means, published values in a second block.
        """

        def means(row: Row) -> list[str]:
            texts = [(c, _tex(c.mean(row.cells.get(c.key)))) for c in self.columns]
            return [rf"\textbf{{{text}}}" if row.key in self.best(c) else text for c, text in texts]

        def intervals(row: Row) -> list[str]:
            texts = [_tex(c.interval(row.cells.get(c.key))) for c in self.columns]
            return [rf"{{\scriptsize {text}}}" if text else "" for text in texts]

        def line(first: str, cells: Sequence[str], after: str = "") -> str:
            return "    " + " & ".join([first, *cells, *[""] * (width - len(cells))]) + r" \\" + after

        beside = self._beside_columns()
        width = max(len(self.columns), len(beside))
        body = [r"    \toprule", line("Method", [_tex(c.heading) for c in self.columns]), r"    \midrule"]
        for row in self.rows:
            body.append(line(_tex(row.name), means(row)))
            if any(intervals(row)):
                body.append(line("", intervals(row), "[2pt]"))
        if self.beside:
            title = rf"    \multicolumn{{{width + 1}}}{{l}}{{\itshape {_tex(self.beside.title)}}} \\"
            body += [r"    \midrule", title, line("", [_tex(c.heading) for c in beside]), r"    \midrule"]
            rows = [row for row in self.rows if self.beside.row(row.key)]
            body += [line(_tex(row.label), [_tex(self.published(row.key, c)) for c in beside]) for row in rows]
        caption = " ".join([_tex(self.title) + ".", *(_tex(note) for note in self.notes)])
        head = [
            r"\begin{table}",
            r"  \centering\small\setlength{\tabcolsep}{4pt}",
            rf"  \caption{{{caption}}}\smallskip",
        ]
        head += [
            rf"  \label{{tab:{self.key}}}",
            r"  \resizebox{\linewidth}{!}{%",
            rf"  \begin{{tabular}}{{l{'r' * width}}}",
        ]
        text = "\n".join([*head, *body, r"    \bottomrule", r"  \end{tabular}}", r"\end{table}", ""])
        return "\n".join([text, *(table.latex() for table in self.under)])

    def rich(self, width: int = 80) -> RenderableType:
        """For a terminal of ``width`` characters: our table, the published one under it, and the notes."""
        wide = width >= 18 * (1 + len(self.columns))

        def narrowed(text: str, hyphens: bool = False) -> str:  # so that eight metrics fit 80 characters
            return text if wide else textwrap.fill(text, 8, break_long_words=False, break_on_hyphens=hyphens)

        def grid(title: str, columns: Sequence[Column], style: str) -> RichTable:
            table = RichTable(title=title, title_justify="left", title_style=style, box=SIMPLE_HEAD)
            table.show_edge, table.padding = False, (0, 0, 0, 2 * wide)
            table.add_column("Method", no_wrap=True)
            for column in columns:
                table.add_column(Text(narrowed(column.heading, hyphens=True)), justify="right")
            return table

        def cell(column: Column, row: Row) -> Text:
            estimate = row.cells.get(column.key)
            text = Text(column.mean(estimate), style="bold" if row.key in self.best(column) else "")
            interval = column.interval(estimate)
            return text.append(f"\n{narrowed(interval)}", style="not bold dim") if interval else text

        ours = grid(escape(self.title), self.columns, "bold")
        for row in self.rows:
            ours.add_row(
                Text(row.name if wide else textwrap.fill(row.name, 12)), *(cell(column, row) for column in self.columns)
            )
        parts: list[RenderableType] = [ours]
        if self.beside:
            theirs = grid(escape(self.beside.title), self.beside.columns, "italic")
            for row in (row for row in self.rows if self.beside.row(row.key)):
                theirs.add_row(Text(row.label), *(self.published(row.key, c) for c in self.beside.columns))
            parts += ["", theirs]
        parts += ["", *(f"[dim]{escape(note)}[/dim]" for note in self.notes)]
        parts += [f"[yellow]{escape(failure)}[/yellow]" for failure in self.failures]
        return Group(*parts, *(part for table in self.under for part in ("", table.rich())))


def to_csv(tables: Sequence[Table]) -> str:
    """All tables in one sheet, one row a set and method; a metric that a set lacks is empty."""
    rows = [row for table in tables for row in table.csv_rows()]
    fields = list(dict.fromkeys(field for row in rows for field in row))
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, fields, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sheet.getvalue()


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "—": "---", "…": r"\ldots{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "∞": r"$\infty$", "‰": r"\textperthousand{}",
    "<": r"$<$", ">": r"$>$", "≥": r"$\geq$", "≤": r"$\leq$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def _tex(text: str) -> str:
    """Escape for LaTeX; the sign of a negative number becomes a minus and not a hyphen."""
    escaped = "".join(_TEX.get(character, character) for character in text)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)
