"""What the runner shows while it works: a live bar on a terminal, one plain line per finished notebook elsewhere."""

from collections import Counter
from typing import TextIO

from tqdm import tqdm

from ilbook.press.layout import ago, clock, columns, counted

INDENT = "      "


class Display:
    """Writes to `stream` (None: nothing at all)."""

    def __init__(self, stream: TextIO | None, total: int):
        self.stream = stream
        self.total = total
        self.finished = 0

    def note(self, text: str) -> None:
        """One lasting line."""
        if self.stream is not None:
            tqdm.write(text, file=self.stream)
            self.stream.flush()

    def start(self, waiting: int, profile: str, jobs: int, threads: int) -> None:
        """Say what is about to happen."""
        share, each = (f"{jobs} at a time, ", " each") if jobs > 1 else ("", "")
        what = f"{counted(waiting, 'notebook')} in the {profile} profile"
        self.note(f"Running {what}, {share}{counted(threads, 'thread')}{each}")
        silent = True if self.stream is None else None  # None: only where it is no terminal
        shape = "[{bar:20}] {desc} {elapsed}"
        self.bar = tqdm(file=self.stream, disable=silent, leave=False, ascii="-#", bar_format=shape)

    def update(self, running: list[tuple[str, int, int]]) -> None:
        """Redraw the live line: a bar over the cells of the running notebooks (id, present cell, cells)."""
        self.bar.n, self.bar.total = sum(cell for _, cell, _ in running), sum(cells for *_, cells in running)
        self.bar.set_description_str(", ".join(f"{name} cell {cell}/{cells}" for name, cell, cells in running))

    def done(self, row: dict, age: float | None = None) -> None:
        """The lasting line of one notebook, and for a bad end the cell and the error."""
        self.finished += 1
        when = f"{clock(row['seconds'])}" if age is None else f"run {ago(age)} in {clock(row['seconds'])}"
        self.note(f"[{self.finished}/{self.total}] {row['id']}  {row['status']}  {when}")
        source = [f"| {line}" for line in (row["source"] or "").splitlines()]
        for line in [*filter(None, [row["why"]]), *source, *(row["trace"] or ())]:
            self.note(f"{INDENT}{line}")


def table(rows: list[dict]) -> str:
    """The result table: notebook, status, seconds, peak memory, claims; then one line for each claim."""
    lines = [("notebook", "status", "seconds", "peak MB", "claims")]
    for row in rows:
        verdicts = Counter(claim["verdict"] for claim in row["claims"])
        words = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        sizes = (f"{row['seconds']:7.1f}", f"{row['peak_mb']:7.0f}")  # as wide as their headings: right-aligned
        lines.append((row["id"], row["status"], *sizes, words or "-"))
    told = [""]
    for notebook, claim in ((row["id"], claim) for row in rows for claim in row["claims"]):
        if claim["verdict"] != "not evaluated":
            measured = f"effect {claim['effect']:+.3f}, 95 % interval {claim['low']:+.3f} to {claim['high']:+.3f}"
            told.append(f"{notebook}: {claim['id']} is {claim['verdict']} ({measured}, n = {claim['n']})")
    return "\n".join([columns(lines), *told]).rstrip()
