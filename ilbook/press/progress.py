"""What the runner shows while it works: a live line on a terminal, one plain line per finished notebook elsewhere."""

import shutil
from collections import Counter
from typing import TextIO

BAR = 20  # characters
INDENT = "      "


class Display:
    """Writes to `stream` (None: nothing at all)."""

    def __init__(self, stream: TextIO | None, total: int):
        self.stream = stream
        self.live = stream is not None and stream.isatty()
        self.total = total
        self.finished = 0

    def note(self, text: str) -> None:
        """One lasting line."""
        if self.stream is not None:
            self.clear()
            print(text, file=self.stream, flush=True)

    def start(self, waiting: int, profile: str, jobs: int, threads: int) -> None:
        """Say what is about to happen."""
        share = f"{jobs} at a time, " if jobs > 1 else ""
        self.note(
            f"Running {counted(waiting, 'notebook')} in the {profile} profile, {share}"
            f"{counted(threads, 'thread')}{' each' if jobs > 1 else ''}"
        )

    def update(self, jobs: list) -> None:
        """Redraw the live line: a bar over the cells of each running notebook."""
        if not self.live or not jobs:
            return
        width = shutil.get_terminal_size().columns - 1
        text = "   ".join(_bar(job) for job in jobs)
        print(f"\r\x1b[K{text[:width]}", end="", file=self.stream, flush=True)

    def clear(self) -> None:
        """Take the live line away."""
        if self.live:
            print("\r\x1b[K", end="", file=self.stream, flush=True)

    def done(self, row: dict, age: float | None) -> None:
        """The lasting line of one notebook, and for a bad end the cell and the error."""
        self.finished += 1
        head = f"[{self.finished}/{self.total}] {row['id']}  {row['status']}"
        if age is not None:
            self.note(f"{head}  run {ago(age)} in {clock(row['seconds'])}")
            return
        self.note(f"{head}  {clock(row['seconds'])}")
        if row["why"]:
            self.note(f"{INDENT}{row['why']}")
        if row["trace"] or row["status"] in ("failed", "incomplete", "died", "timeout"):
            for line in (row["source"] or "").splitlines():
                self.note(f"{INDENT}| {line}")
        for line in row["trace"] or ():
            self.note(f"{INDENT}{line}")


def _bar(job) -> str:
    done = max(0, job.cell - 1)  # the cell that runs now is not done
    filled = BAR * done // max(1, job.cells)
    place = f"cell {job.cell}/{job.cells}" if job.cell else "starting"
    return f"{job.plan.name} [{'#' * filled}{'-' * (BAR - filled)}] {place} {clock(job.seconds)}"


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


def table(rows: list[dict]) -> str:
    """The result table: notebook, status, seconds, peak memory, claims; then one line for each claim."""
    lines = [("notebook", "status", "seconds", "peak MB", "claims")]
    for row in rows:
        verdicts = Counter(claim["verdict"] for claim in row["claims"])
        words = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        lines.append((row["id"], row["status"], f"{row['seconds']:.1f}", f"{row['peak_mb']:.0f}", words or "-"))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    text = [_aligned(line, widths) for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    measured = [(row["id"], claim) for row in rows for claim in row["claims"] if claim["verdict"] != "not evaluated"]
    if measured:
        text += ["", *(_claim(notebook, claim) for notebook, claim in measured)]
    return "\n".join(text)


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    name, status, seconds, peak, claims = line
    cells = (name.ljust(widths[0]), status.ljust(widths[1]), seconds.rjust(widths[2]), peak.rjust(widths[3]), claims)
    return "  ".join(cells).rstrip()


def _claim(notebook: str, claim: dict) -> str:
    interval = (
        f"effect {claim['effect']:+.3f}, 95 % interval {claim['low']:+.3f} to {claim['high']:+.3f}, n = {claim['n']}"
    )
    return f"{notebook}: {claim['id']} is {claim['verdict']} ({interval})"
