"""How answers are laid out as text: columns, intervals."""

from collections.abc import Mapping

GOOD = ("ok", "reused")  # how a run ended, if all went well


def columns(lines: list[tuple[str, ...]]) -> str:
    """Lines of equally many texts as aligned columns, the first line underlined."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [lines[0], tuple("-" * width for width in widths), *lines[1:]]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def interval(row: Mapping) -> str:
    """The effect of a claim with its interval, such as "+0.200 (+0.100 to +0.300)"; a dash where there is none."""
    if row["effect"] is None:
        return "–"
    return f"{row['effect']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
