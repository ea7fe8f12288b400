"""How answers are laid out as text: tables, intervals."""

from collections.abc import Iterable, Mapping

GOOD = ("ok", "reused")  # how a run ended, if all went well


class _Dash(str):
    """Stands for what is not there, in whatever format that would be written."""

    def __format__(self, form: str) -> str:
        return "–"


def cells(rows: Iterable[Mapping], columns: str) -> list[list[str]]:
    """Headings and texts of a table; `columns` say both: "method: {slug} | year: {year}". A dash for None and []."""
    heads, forms = zip(*(column.split(": ", 1) for column in columns.split(" | ")), strict=True)
    shown = [{name: _Dash() if value in (None, []) else value for name, value in row.items()} for row in rows]
    return [list(heads), *([form.format(**row) for form in forms] for row in shown)]


def table(rows: Iterable[Mapping], columns: str) -> str:
    """The same as aligned text with underlined headings."""
    lines = cells(rows, columns)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def interval(row: Mapping) -> str:
    """The effect of a claim with its interval, such as "+0.200 (+0.100 to +0.300)"; a dash where there is none."""
    return "–" if row["effect"] is None else "{effect:+.3f} ({low:+.3f} to {high:+.3f})".format(**row)
