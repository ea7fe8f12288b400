"""`Stream`: a data set that is read in order, block by block, so that its size does not matter. All formats meet here.

A reader turns its format into a stream, a writer turns a stream into its format; neither knows the other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple, TextIO

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError, unknown

BLOCK_BYTES = 2**24  # what is held at a time: large enough for fast copies, small beside any memory
MOST_ROWS = 2**16  # in one block, so that narrow arrays report progress too
PLAIN_KINDS = "biuf"  # truth values, whole numbers, floating point
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Column:
    """One array without its steps: (T, *shape) of `dtype`."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape)

    @property
    def is_picture(self) -> bool:
        return self.dtype == np.uint8 and len(self.shape) == 3 and self.shape[-1] == 3


class Block(NamedTuple):
    """Some consecutive steps of one episode."""

    episode: int
    start: int  # first step, counted over all episodes
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Stream:
    """Columns (T, ...), ends of the episodes (E,), meta, and a function that begins to read all blocks in order.

    `meta` is what JSON can hold; known keys: fps, tasks (texts), names (array -> names of its dimensions).
    """

    columns: dict[str, Column]
    ends: np.ndarray
    meta: dict
    blocks: Callable[[], Iterator[Block]]

    @property
    def n_steps(self) -> int:
        return int(self.ends[-1])

    def counted(self, progress: Progress | None) -> Stream:
        """The same stream, telling `progress(done, total)` the steps after each block."""
        if progress is None:
            return self

        def blocks():
            progress(0, self.n_steps)
            for block in self.blocks():
                yield block
                progress(block.start + len(next(iter(block.arrays.values()))), self.n_steps)

        return replace(self, blocks=blocks)


def column_of(array: np.ndarray) -> Column:
    """The column that an array (T, ...) is."""
    return Column(np.dtype(array.dtype).newbyteorder("="), tuple(int(size) for size in array.shape[1:]))


def spans(ends: np.ndarray, columns: dict[str, Column]) -> Iterator[tuple[int, int, int]]:
    """Cut all steps into blocks: (episode, start, stop), never across an episode's end nor over `BLOCK_BYTES`."""
    rows = rows_of(columns)
    start = 0
    for episode, end in enumerate(ends.tolist()):
        while start < end:
            stop = min(start + rows, end)
            yield episode, start, stop
            start = stop


def rows_of(columns: dict[str, Column]) -> int:
    """Steps in a full block."""
    step = sum(column.nbytes for column in columns.values())
    return int(min(max(BLOCK_BYTES // max(step, 1), 1), MOST_ROWS))


def from_episodes(episodes: Episodes, arrays: Iterable[str] | None = None) -> Stream:
    """Episodes as a stream."""
    return from_arrays(episodes.arrays, episodes.episode_ends, episodes.meta, "episodes", arrays)


def from_arrays(stored: dict[str, np.ndarray], ends: np.ndarray, meta: dict, where: str, arrays=None) -> Stream:
    """Arrays as a stream; memory-mapped ones are read, and their values checked, block by block."""
    ends = check_ends(ends, f"{where}: episode_ends")
    check_action(stored, where)
    kept = choose(list(stored), arrays)
    for name in kept:
        check_plain(stored[name].dtype, f"{where}: array '{name}'")
        if stored[name].ndim == 0 or len(stored[name]) != ends[-1]:
            steps = len(stored[name]) if stored[name].ndim else "no"
            raise UserError(
                f"{where}: array '{name}' has {steps} steps, but the last episode (episode_ends, row {len(ends) - 1}) "
                f"ends at {ends[-1]}"
            )
    columns = {name: column_of(stored[name]) for name in kept}

    def blocks():
        for episode, start, stop in spans(ends, columns):
            part = {name: np.ascontiguousarray(stored[name][start:stop], columns[name].dtype) for name in kept}
            for name, array in part.items():
                check_finite(array, f"{where}: array '{name}'", start)
            yield Block(episode, start, part)

    return Stream(columns, ends, meta, blocks)


def choose(names: list[str], arrays: Iterable[str] | None, more: Iterable[str] = ()) -> list[str]:
    """The names to take, in the order of the source; 'action' always comes along.

    Without `arrays` all `names`; with it those, which may also be among `more` (that are left out unless asked for).
    """
    if arrays is None:
        return names
    wanted = {"action", *arrays}
    valid = [*names, *more]
    for name in sorted(wanted - {"action"}):
        if name not in valid:
            raise unknown("array", name, valid)
    return [name for name in valid if name in wanted]


def check_ends(ends: np.ndarray, where: str) -> np.ndarray:
    """Ends of episodes as int64, or the error that names the first row that is not after the one before."""
    if ends.ndim != 1 or len(ends) == 0 or not np.issubdtype(ends.dtype, np.integer):
        raise UserError(f"{where} must be a list of whole numbers, not {ends.dtype} of shape {ends.shape}")
    ends = ends.astype(np.int64)
    if (bad := np.flatnonzero(np.diff(ends, prepend=0) <= 0)).size:
        row = int(bad[0])
        before = int(ends[row - 1]) if row else 0
        raise UserError(
            f"{where}, row {row}: {ends[row]} is not after {before}; the ends must grow, no episode is empty"
        )
    return ends


def check_plain(dtype: np.dtype, where: str) -> None:
    """UserError unless the values are numbers or truth values."""
    if dtype.kind not in PLAIN_KINDS or dtype.itemsize > 8:
        raise UserError(f"{where} holds {dtype}; only truth values, whole and floating-point numbers can be taken")


def check_action(names: Iterable[str], file: str, column: str = "action") -> None:
    """UserError unless there are actions, which every data set must have; `column` is their name in the file."""
    names = list(names)
    if column not in names:
        raise UserError(f"{file}: column '{column}' is missing; there are {', '.join(map(str, names)) or 'none'}")


def check_finite(array: np.ndarray, where: str, first_row: int) -> None:
    """UserError naming the first row (counted from `first_row`) that holds a value that is not finite."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        index = tuple(np.argwhere(~finite)[0])
        raise UserError(f"{where}, row {first_row + index[0]}: holds {array[index]}; demonstrations must be finite")


def bar(label: str, out: TextIO | None = None) -> Progress | None:
    """A progress bar in one line of text, or None where nobody watches (not a terminal)."""
    out = out or sys.stderr
    if not out.isatty():
        return None
    shown = -1.0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done < total and now - shown < 0.1:  # ten times a second is as fast as one reads
            return
        shown = now
        full = round(30 * done / total)
        out.write(f"\r{label} [{'#' * full}{'.' * (30 - full)}] {done:,} of {total:,} steps" + "\n" * (done == total))
        out.flush()

    return progress
