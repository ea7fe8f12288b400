"""What every command of `ilbook` gives back, and how it is laid out as text."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a command has to say: rows for --json, text for people, the exit status."""

    rows: object
    text: str
    status: int = 0


def columns(lines: list[tuple[str, ...]]) -> str:
    """Lines of equally many texts as aligned columns, the first line underlined."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [lines[0], tuple("-" * width for width in widths), *lines[1:]]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)
