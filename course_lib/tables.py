"""Text and tables as harmless HTML: what models wrote is escaped, and shown rather than obeyed."""

import html
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from course_lib.errors import InputError

Row = Mapping[str, Any]
MOST = 4000  # characters of one text that are shown; the rest is counted
EDGE = "1px solid var(--jp-border-color1, rgba(128, 128, 128, 0.5))"
CELL = f"border: {EDGE}; padding: 4px 8px; vertical-align: top; text-align: left;"
WRAP = "overflow-wrap: anywhere; white-space: pre-wrap;"
GRID = "border-collapse: collapse; margin: 0 0 8px;"
# Dollar signs in a model's text are no formulas: both classes keep MathJax out, in old and in new versions.
PLAIN = 'class="tex2jax_ignore mathjax_ignore" style="overflow-x: auto; line-height: 1.4;"'
# Controls, marks that turn the direction of the text around them, halves of characters: shown by name, never obeyed.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` with its control characters by name."""
    return UNSEEN.sub(lambda mark: f"[U+{ord(mark[0]):04X}]", text)


def shown(text: Any) -> str:
    """Any text as harmless HTML: escaped, control characters by name, cut after `MOST` characters."""
    text = str(text).replace("\r\n", "\n")
    return html.escape(visible(text[:MOST])) + rest_of(len(text))


def paragraph(content: str) -> str:
    """HTML as a paragraph."""
    return f'<p style="line-height: 1.4; margin: 6px 0;">{content}</p>'


def rest_of(length: int) -> str:
    return f" … ({length - MOST:,} more characters)" if length > MOST else ""


def as_text(value: Any) -> str:
    """A value as a table shows it: floats with 2 decimals, None as "-", lists joined."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None:
        return "-"
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{value:.2f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {as_text(one)}" for key, one in value.items())
    return ", ".join(map(as_text, value)) if isinstance(value, list | tuple) else str(value)


class Table:
    """A table of `rows`, or of some of their `columns`: HTML as the value of a cell, text elsewhere."""

    def __init__(self, rows: Sequence[Row], columns: Sequence[str] | None = None):
        self.rows = list(rows)
        if not all(isinstance(row, Mapping) for row in self.rows):
            raise InputError("A table is a list of dicts, one per row. For a single dict, give [dict].")
        known = list(dict.fromkeys(name for row in self.rows for name in row))
        unknown = [name for name in columns or [] if known and name not in known]
        if unknown:
            raise InputError(f"No row has the column {as_text(unknown)}. There is: {as_text(known)}.")
        self.columns = list(known if columns is None else columns)

    def _repr_html_(self) -> str:
        return grid(self.columns, [[row.get(name) for name in self.columns] for row in self.rows])

    def __repr__(self) -> str:
        cells = [self.columns, *([as_text(row.get(name)) for name in self.columns] for row in self.rows)]
        short = [[shortened(cell, 40) for cell in line] for line in cells]
        widths = [max(map(len, column)) for column in zip(*short, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in short]
        return "\n".join(lines) if self.rows else "(no rows)"


def grid(columns: Sequence[str], lines: Sequence[Sequence[Any]], style: str = "") -> str:
    """A table with headers above; the values are escaped."""
    if not lines:
        return paragraph("(no rows)")
    head = "".join(f'<th scope="col" style="{CELL}">{shown(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, line))}</tr>" for line in lines)
    return _framed(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", style)


def _cell(value: Any) -> str:
    text = as_text(value)
    width = (
        f"min-width: {7.5 if len(text) <= 40 else 13}em; {WRAP}" if len(text) > 16 else "white-space: pre;"
    )
    side = "text-align: right;" if isinstance(value, Real) and not isinstance(value, bool) else ""
    return f'<td dir="auto" style="{CELL} {width} {side}">{shown(text)}</td>'


def facts(lines: Mapping[str, str]) -> str:
    """A table with headers at the left; the values are HTML already."""
    head, cell = f'th scope="row" style="{CELL} width: 9em;"', f'td dir="auto" style="{CELL} {WRAP}"'
    body = "".join(f"<tr><{head}>{name}</th><{cell}>{value}</td></tr>" for name, value in lines.items())
    return _framed(f"<tbody>{body}</tbody>", "width: 100%;")


def _framed(rows: str, style: str) -> str:
    return f'<div {PLAIN}><table style="{GRID} {style}">{rows}</table></div>'


def shortened(text: Any, most: int) -> str:
    """A text in one line of at most `most` characters, control characters by name."""
    line = visible(" ".join(str(text).split()))
    return line if len(line) <= most else line[: most - 1] + "…"
