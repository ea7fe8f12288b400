"""`Stream`: a data set that is read in order, block by block, so that its size does not matter. All formats meet here.

A reader turns its format into a stream, a writer turns a stream into its format; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple, Protocol

import numpy as np

from ilbook.data.files import check_there, readable
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

    @property
    def starts(self) -> np.ndarray:
        """First step of each episode (E,)."""
        return np.concatenate([[0], self.ends[:-1]])

    def counted(self, progress: Progress | None) -> Stream:
        """The same stream, telling `progress(done, total)` the steps after each block."""
        if progress is None:
            return self

        def blocks():
            progress(0, self.n_steps)
            for block in self.blocks():
                yield block
                progress(block.start + len(block.arrays["action"]), self.n_steps)

        return replace(self, blocks=blocks)


class Stored(Protocol):
    """An array (T, ...) that can be read a few rows at a time: of numpy, memory-mapped, or in a file."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> np.ndarray: ...


class Joined:
    """The arrays of one name in all episodes as a single one (T, ...), checked to be alike and of the right lengths.

    `where` says where each lies, for errors; with `more` it may have a last row that is dropped.
    """

    def __init__(self, parts: list[Stored], where: list[str], ends: np.ndarray, more: bool):
        self._parts, self._where, self._starts = parts, where, np.append(0, ends)
        column = column_of(parts[0])
        for part, place, length in zip(parts, where, np.diff(self._starts).tolist(), strict=True):
            if not part.shape:
                raise UserError(f"{place} is a single value, not an array over steps; leave it out")
            if (found := column_of(part)) != column:
                raise UserError(
                    f"{place} is {found.dtype} of shape {found.shape} at each step, but {column.dtype} of "
                    f"{column.shape} in {where[0]}"
                )
            if part.shape[0] not in (length, length + more):
                wanted = f"{length} or {length + 1}" if more else length
                raise UserError(f"{place} has {part.shape[0]} rows for {length} actions; it must be {wanted}")
        self.dtype, self.shape = column.dtype, (int(ends[-1]), *column.shape)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows of one episode."""
        episode = self._episode(rows.start)
        first = self._starts[episode]
        with readable(self._where[episode], "array", OSError, RuntimeError):  # what h5py raises
            return self._parts[episode][rows.start - first : rows.stop - first]

    def place(self, step: int) -> tuple[str, int]:
        """Where a step lies: the array, and the row in it."""
        episode = self._episode(step)
        return self._where[episode], step - int(self._starts[episode])

    def _episode(self, step: int) -> int:
        return int(np.searchsorted(self._starts, step, "right")) - 1


def column_of(array: Stored) -> Column:
    """The column that an array (T, ...) is."""
    return Column(np.dtype(array.dtype).newbyteorder("="), tuple(int(size) for size in array.shape[1:]))


def spans(ends: np.ndarray, columns: dict[str, Column]) -> Iterator[tuple[int, int, int]]:
    """Cut all steps into blocks: (episode, start, stop), never across an episode's end nor over `BLOCK_BYTES`."""
    rows, begin = rows_of(columns), 0
    for episode, end in enumerate(ends.tolist()):
        for start in range(begin, end, rows):
            yield episode, start, min(start + rows, end)
        begin = end


def rows_of(columns: dict[str, Column]) -> int:
    """Steps in a full block."""
    step = sum(column.nbytes for column in columns.values())
    return int(min(max(BLOCK_BYTES // max(step, 1), 1), MOST_ROWS))


def from_arrays(
    stored: dict[str, Stored],
    ends: np.ndarray,
    meta: dict,
    where: str,
    arrays: Iterable[str] | None = None,
    place: Callable[[str, int], tuple[str, int]] | None = None,
) -> Stream:
    """Arrays as a stream; they are read, and their values checked, block by block.

    `place(name, step)` says where in the source a step of an array lies, for errors: a text, and the row there; else
    they are named after `where`.
    """
    place = place or (lambda name, step: (f"{where}: array '{name}'", step))
    ends = check_ends(ends, f"{where}: episode_ends")
    check_there(["action"], stored, where)
    kept = choose(stored, arrays)
    for name in kept:
        check_plain(stored[name].dtype, place(name, 0)[0])
        steps = stored[name].shape[0] if stored[name].shape else "no"
        if steps != ends[-1]:
            raise UserError(
                f"{place(name, 0)[0]} has {steps} steps, but the last episode (episode_ends, row {len(ends) - 1}) "
                f"ends at {ends[-1]}"
            )
    columns = {name: column_of(stored[name]) for name in kept}

    def blocks():
        for episode, start, stop in spans(ends, columns):
            part = {name: np.ascontiguousarray(stored[name][start:stop], columns[name].dtype) for name in kept}
            for name, array in part.items():
                check_finite(array, *place(name, start))
            yield Block(episode, start, part)

    return Stream(columns, ends, meta, blocks)


def choose(names: Iterable[str], arrays: Iterable[str] | None, aside: Iterable[str] = ()) -> list[str]:
    """Those of `names` to take, in their order: all but `aside`, or those in `arrays`; 'action' always comes along."""
    names = list(names)
    if arrays is None:
        return [name for name in names if name not in aside]
    wanted = {"action", *arrays}
    if strange := sorted(wanted - {"action", *names}):
        raise unknown("array", strange[0], names)
    return [name for name in names if name in wanted]


def check_ends(ends: np.ndarray, where: str) -> np.ndarray:
    """Ends of episodes as int64, or the error that names the first row that is not after the one before."""
    if ends.ndim != 1 or len(ends) == 0 or not np.issubdtype(ends.dtype, np.integer):
        raise UserError(f"{where} must be a list of whole numbers, not {ends.dtype} of shape {ends.shape}")
    ends = ends.astype(np.int64)
    for row in np.flatnonzero(np.diff(ends, prepend=0) <= 0)[:1]:
        before = np.append(0, ends)[row]
        raise UserError(f"{where}, row {row}: {ends[row]} is not after {before}; no episode may be empty")
    return ends


def check_plain(dtype: np.dtype, where: str) -> None:
    """UserError unless the values are numbers or truth values."""
    if dtype.kind not in PLAIN_KINDS or dtype.itemsize > 8:
        raise UserError(f"{where} holds {dtype}; only truth values, whole and floating-point numbers can be taken")


def check_finite(array: np.ndarray, where: str, first_row: int) -> None:
    """UserError naming the first row (counted from `first_row`) that holds a value that is not finite."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        index = tuple(np.argwhere(~finite)[0])
        raise UserError(f"{where}, row {first_row + index[0]}: holds {array[index]}; demonstrations must be finite")


def bar(label: str) -> Progress:
    """A progress bar, which shows nothing where nobody watches (not a terminal)."""
    from tqdm import tqdm

    shown = tqdm(desc=label, unit=" steps", disable=None)

    def progress(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)
        if done == total:
            shown.close()

    return progress
