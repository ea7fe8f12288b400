"""`Stream`: a data set that is read in order, block by block, so that its size does not matter. All formats meet here.

A reader turns its format into a stream, a writer turns a stream into its format; neither knows the other. What a reader
finds passes `choose`: what does not fit is left out and named, what is needed and missing is refused.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple, TypeVar

import numpy as np

from ilbook.data.files import check_there, readable
from ilbook.errors import UserError, unknown

BLOCK_BYTES = 2**24  # what is held at a time: large enough for fast copies, small beside any memory
MOST_ROWS = 2**16  # in one block, so that narrow arrays show progress too
PLAIN_KINDS = "biuf"  # of numpy: truth values, whole numbers, floating point
Found = TypeVar("Found")


@dataclass(frozen=True)
class Column:
    """One array without its steps: (T, *shape) of `dtype`."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> Column:
        """The column that an array (T, ...) is."""
        return cls(np.dtype(array.dtype).newbyteorder("="), tuple(int(size) for size in array.shape[1:]))

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

    `meta` is what JSON can hold; known keys: fps, tasks (texts), names (array -> names of its dimensions). `left_out`
    says of each array that was not taken why. `close` lets go of the files.
    """

    columns: dict[str, Column]
    ends: np.ndarray
    meta: dict
    blocks: Callable[[], Iterator[Block]]
    left_out: dict[str, str] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None

    @property
    def n_steps(self) -> int:
        return int(self.ends[-1])

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First step and end of each episode."""
        return list(zip([0, *self.ends[:-1].tolist()], self.ends.tolist(), strict=True))

    def watched(self, label: str) -> Iterator[Block]:
        """All blocks, with a progress bar where somebody watches (a terminal)."""
        from tqdm import tqdm

        with tqdm(desc=label, unit=" steps", total=self.n_steps, disable=None) as bar:
            for block in self.blocks():
                yield block
                bar.update(len(block.arrays["action"]))


def choose(
    names: Iterable[str], opened: Callable[[str], Found], arrays: Iterable[str] | None, where: str,
    aside: Mapping[str, str] = {},
) -> tuple[dict[str, Found], dict[str, str]]:  # fmt: skip
    """Open what to take of these arrays: all but `aside` (name -> why), or those in `arrays`, and always 'action'.

    `opened(name)` raises UserError for what does not fit; it is passed on where 'action' or an array in `arrays`, which
    are needed, is concerned. Returns what is taken, in the order of `names`, and why anything else is left out.
    """
    names = list(names)
    check_there(["action"], names, where)
    needed = {"action", *(arrays or ())}
    if strange := sorted(needed - set(names)):
        raise unknown("array", strange[0], names)
    taken, left_out = {}, dict(aside) if arrays is None else {}
    for name in names:
        if name in needed:
            taken[name] = opened(name)
        elif arrays is None and name not in left_out:
            try:
                taken[name] = opened(name)
            except UserError as error:
                left_out[name] = str(error)
    return taken, left_out


def from_arrays(stored: dict, ends: np.ndarray, meta: dict, where: str, arrays: Iterable[str] | None = None) -> Stream:
    """Arrays over all steps as a stream; they are read, and their values checked, block by block."""
    return from_parts(stored, lambda name: [(f"{where}: array '{name}'", stored[name])], ends, meta, where, arrays)


def from_parts(
    names: Iterable[str],
    parts: Callable[[str], list[tuple[str, np.ndarray]]],
    ends: np.ndarray,
    meta: dict,
    where: str,
    arrays: Iterable[str] | None = None,
    *,
    per_episode: bool = False,
    aside: Mapping[str, str] = {},
) -> Stream:
    """A stream of arrays that lie in a single part each, or in one `per_episode`; the rest as in `choose`.

    `parts(name)` gives them with where each lies, for errors. A part needs dtype, shape and rows by slice, no more.
    """
    ends = check_ends(ends, f"{where}: episode_ends")
    taken, left_out = choose(names, lambda name: _Joined(parts(name), ends, per_episode), arrays, where, aside)
    columns = {name: array.column for name, array in taken.items()}

    def blocks():
        rows = rows_of(columns)
        for episode, (begin, end) in enumerate(made.spans):
            for start in range(begin, end, rows):
                stop = min(start + rows, end)
                yield Block(episode, start, {name: array.read(start, stop) for name, array in taken.items()})

    made = Stream(columns, ends, meta, blocks, left_out)
    return made


class _Joined:
    """The parts of an array as a single one (T, ...); UserError if they do not fit together or to the episodes.

    With one part an episode, all of them may have a last row more, which is dropped: the observation after the last
    action.
    """

    def __init__(self, parts: list[tuple[str, np.ndarray]], ends: np.ndarray, per_episode: bool):
        self._parts, self._starts = parts, np.append(0, ends if per_episode else ends[-1:])
        self.column, lengths = Column.of(parts[0][1]), np.diff(self._starts).tolist()
        more = int(per_episode and parts[0][1].shape[:1] == (lengths[0] + 1,))
        for (place, part), length in zip(parts, lengths, strict=True):
            check_plain(part.dtype, place)
            if not part.shape:
                raise UserError(f"{place} is a single value, not an array over steps")
            if (found := Column.of(part)) != self.column:
                other = f"{self.column.dtype} of {self.column.shape} in {parts[0][0]}"
                raise UserError(f"{place} is {found.dtype} of shape {found.shape} at each step, but {other}")
            if part.shape[0] != length + more:
                due = f"{length} actions" if per_episode else f"{length} steps, where the last of episode_ends is"
                like = f", one more, as in {parts[0][0]}" if more else ""
                raise UserError(f"{place} has {part.shape[0]} rows for {due}; it must be {length + more}{like}")

    def read(self, start: int, stop: int) -> np.ndarray:
        """Steps of one episode."""
        index = int(np.searchsorted(self._starts, start, "right")) - 1
        (place, part), first = self._parts[index], int(self._starts[index])
        with readable(place, "array", OSError, RuntimeError):  # what h5py raises
            values = np.ascontiguousarray(part[start - first : stop - first], self.column.dtype)
        check_finite(values, place, start - first)
        return values


def rows_of(columns: dict[str, Column]) -> int:
    """Steps in a full block."""
    step = sum(column.nbytes for column in columns.values())
    return min(max(BLOCK_BYTES // max(step, 1), 1), MOST_ROWS)


def check_plain(dtype: np.dtype, where: str) -> None:
    """UserError unless the values are numbers or truth values."""
    if dtype.kind not in PLAIN_KINDS or dtype.itemsize > 8:
        raise UserError(f"{where} holds {dtype}; only truth values, whole and floating-point numbers can be taken")


def check_ends(ends: np.ndarray, where: str) -> np.ndarray:
    """Ends of episodes as int64, or the error that names the first row that is not after the one before."""
    if ends.ndim != 1 or len(ends) == 0 or not np.issubdtype(ends.dtype, np.integer):
        raise UserError(f"{where} must be a list of whole numbers, not {ends.dtype} of shape {ends.shape}")
    ends = ends.astype(np.int64)
    for row in np.flatnonzero(np.diff(ends, prepend=0) <= 0)[:1]:
        raise UserError(f"{where}, row {row}: {ends[row]} is not after {[0, *ends][row]}; no episode may be empty")
    return ends


def check_finite(array: np.ndarray, where: str, first_row: int) -> None:
    """UserError naming the first row (counted from `first_row`) that holds a value that is not finite."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        index = tuple(np.argwhere(~finite)[0])
        said = f"holds {array[index]}; demonstrations must be finite"
        raise UserError(f"{where}, row {first_row + index[0]}: {said} (--arrays can leave out all but action)")


def decoded(encoded: Iterable[bytes | None], where: str, first_row: int, column: Column | None = None) -> np.ndarray:
    """Encoded pictures as (n, H, W, C); UserError naming the row of one that is not like `column`, or the first one."""
    from PIL import Image

    found = []
    for row, raw in enumerate(encoded, first_row):
        here = f"{where}, row {row}"
        if raw is None:
            raise UserError(f"{here}: holds no picture")
        with readable(here, "picture", OSError, SyntaxError, ValueError):
            opened = Image.open(io.BytesIO(raw))
            # Palettes are numbers of colours; a depth picture keeps its 16 bits.
            picture = np.asarray(opened.convert("RGB") if opened.mode == "P" else opened)
        picture = picture[..., None] if picture.ndim == 2 else picture
        column = column or Column.of(picture[None])
        if Column.of(picture[None]) != column:
            must = f"it must be {column.dtype} {column.shape}"
            raise UserError(f"{here}: a picture of {picture.dtype} {picture.shape}; {must}")
        found.append(picture)
    return np.stack(found).astype(column.dtype, copy=False)
