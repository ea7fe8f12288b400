"""How answers are laid out as text: columns, intervals, times, numbers of things."""

from collections.abc import Mapping


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


def clock(seconds: float) -> str:
    """Elapsed time: "12.3 s" below a minute, "2 min 03 s" above."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def ago(seconds: float) -> str:
    """An age in one coarse unit: "3 minutes ago"."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{counted(int(seconds // size), unit)} ago"
    return "just now"


def counted(number: int, noun: str) -> str:
    """ "1 notebook", "2 notebooks"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
