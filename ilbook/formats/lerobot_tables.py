"""The tables of a LeRobot data set: episodes, tasks, and columns of nested lists; every error names its row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.stream import Column


@dataclass(frozen=True)
class Episode:
    """One row of the table of episodes: rows start..stop of the whole, its data file, its place in each video."""

    index: int
    start: int
    stop: int
    file: str
    videos: dict[str, tuple[str, float]]  # feature -> file and seconds where it begins

    @property
    def length(self) -> int:
        return self.stop - self.start


@contextmanager
def opened(path: Path, where: str) -> Iterator:
    """An open parquet file; UserError if it is missing or cut short."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
    except FileNotFoundError:
        raise UserError(f"{where} is missing; the data set is not complete") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{where}: not a readable parquet file ({reason}); it may be cut short") from None
    with parquet:
        yield parquet


def check_table(root: Path, place: str, keys: list[str], rows: int) -> None:
    """UserError unless a data file has these columns and as many rows as its episodes are long."""
    where = f"{root.name}/{place}"
    with opened(root / place, where) as parquet:
        names = parquet.schema_arrow.names
        for key in [*keys, *lerobot.INDEX]:
            if key not in names:
                raise UserError(f"{where}: column '{key}' is missing; there are {', '.join(names)}")
        if parquet.metadata.num_rows != rows:
            raise UserError(
                f"{where}: has {parquet.metadata.num_rows} rows, but its episodes in {lerobot.EPISODES} are {rows} long"
            )


def tasks_of(root: Path) -> list[str]:
    """Task texts in the order of task_index, which starts at 0; the column of texts has had several names."""
    import pyarrow as pa

    where = f"{root.name}/{lerobot.TASKS}"
    with opened(root / lerobot.TASKS, where) as parquet:
        table = parquet.read()
    texts = [
        field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    if "task_index" not in table.column_names or not texts:
        found = ", ".join(table.column_names)
        raise UserError(f"{where}: needs a column 'task_index' and one of texts; there are {found}")
    column = next((name for name in ("task", "__index_level_0__") if name in texts), texts[0])
    numbered = sorted(zip(table["task_index"].to_pylist(), table[column].to_pylist(), strict=True))
    for row, (number, _) in enumerate(numbered):
        if number != row:
            raise UserError(f"{where}, column 'task_index': has {number} where {row} is due; it must count from 0")
    return [text for _, text in numbered]


def episodes(root: Path, info: dict, cameras: list[str]) -> list[Episode]:
    """The table of episodes, checked: complete, in order, without gap or overlap, as long in all as info.json says."""
    files = sorted((root / lerobot.EPISODES).glob("*/*.parquet"))
    if not files:
        raise UserError(f"{root.name}/{lerobot.EPISODES} holds no parquet file; the data set is not complete")
    found = []
    for file in files:
        where = f"{root.name}/{file.relative_to(root).as_posix()}"
        for row, said in enumerate(_rows(file, where, cameras)):
            found.append((where, row, said))
    if not found:
        raise UserError(f"{root.name}/{lerobot.EPISODES} lists no episode; record at least one")
    found.sort(key=lambda entry: entry[2]["episode_index"])
    table, before = [], 0
    for number, (where, row, said) in enumerate(found):
        here = f"{where}, row {row}"
        if said["episode_index"] != number:
            raise UserError(f"{here}: column 'episode_index' is {said['episode_index']} where {number} is due")
        start, stop = said["dataset_from_index"], said["dataset_to_index"]
        if start != before:
            raise UserError(
                f"{here}: column 'dataset_from_index' is {start}, but the episode before ends at {before}; "
                "episodes must follow each other"
            )
        if stop <= start:
            raise UserError(f"{here}: column 'dataset_to_index' is {stop}, not after {start}; no episode may be empty")
        if said["length"] != stop - start:
            raise UserError(f"{here}: column 'length' is {said['length']}, but the episode has {stop - start} rows")
        place = {"chunk_index": said["data/chunk_index"], "file_index": said["data/file_index"]}
        path = _format(root, info, "data_path", lerobot.DATA_PATH, place)
        table.append(Episode(number, start, stop, path, _videos(root, info, said, cameras, here)))
        before = stop
    for key, value in (("total_episodes", len(table)), ("total_frames", before)):
        if info.get(key, value) != value:
            raise UserError(f"{root.name}/{lerobot.INFO}: {key} is {info[key]}, but {lerobot.EPISODES} lists {value}")
    return table


def _rows(file: Path, where: str, cameras: list[str]) -> list[dict]:
    numbers = [
        "episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index",
    ]  # fmt: skip
    for camera in cameras:
        numbers += [f"videos/{camera}/{key}" for key in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    with opened(file, where) as parquet:
        names = parquet.schema_arrow.names
        for name in numbers:
            if name not in names:
                raise UserError(f"{where}: column '{name}' is missing")
        try:
            rows = parquet.read(columns=numbers).to_pylist()
        except (OSError, ValueError) as error:
            raise UserError(f"{where}: is damaged ({error})".replace("\n", " ")) from None
    for row, said in enumerate(rows):
        for name in numbers:
            if not isinstance(said[name], (int, float)) or (isinstance(said[name], float) and "timestamp" not in name):
                raise UserError(f"{where}, column '{name}', row {row}: is {said[name]!r}, not a number")
    return rows


def _videos(root: Path, info: dict, said: dict, cameras: list[str], here: str) -> dict[str, tuple[str, float]]:
    found = {}
    for camera in cameras:
        place = {name: said[f"videos/{camera}/{name}"] for name in ("chunk_index", "file_index")}
        path = _format(root, info, "video_path", lerobot.VIDEO_PATH, {**place, "video_key": camera})
        if not (root / path).is_file():
            raise UserError(
                f"{root.name}/{path} is missing; it is the video of '{camera}' of episode {said['episode_index']}"
            )
        begin, end = said[f"videos/{camera}/from_timestamp"], said[f"videos/{camera}/to_timestamp"]
        frames = (end - begin) * info["fps"]
        if begin < 0 or abs(frames - said["length"]) > 0.5:
            raise UserError(
                f"{here}: column 'videos/{camera}/to_timestamp' makes {frames:g} frames at {info['fps']:g} a second, "
                f"but the episode has {said['length']}"
            )
        found[camera] = (path, begin)
    return found


def _format(root: Path, info: dict, key: str, default: str, place: dict) -> str:
    """A path pattern of info.json filled in; it must stay inside the data set."""
    pattern = info.get(key) or default
    try:
        path = pattern.format(**place)
    except (KeyError, ValueError, IndexError, AttributeError):
        raise UserError(f"{root.name}/{lerobot.INFO}: {key} {pattern!r} is not a pattern such as {default!r}") from None
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise UserError(f"{root.name}/{lerobot.INFO}: {key} {pattern!r} leads out of the data set")
    return path


def dense(array, column: Column, where: str, first: int) -> np.ndarray:
    """A column of numbers, or of lists of them of any nesting, as (n, *shape); nothing is converted.

    UserError naming the row (counted from `first`) of an empty entry or of a list of another length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    n, inside, shape = len(array), 1, column.shape
    if shape == (1,) and not pa.types.is_nested(array.type):
        shape = ()  # vectors of one are stored as plain numbers

    def complete():
        if array.null_count:
            at = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
            raise UserError(f"{where}, row {first + at // inside}: is empty; every frame needs a value")

    for axis, size in enumerate(shape):
        array = array.storage if isinstance(array, pa.ExtensionArray) else array
        complete()
        if not (
            pa.types.is_list(array.type)
            or pa.types.is_large_list(array.type)
            or pa.types.is_fixed_size_list(array.type)
        ):
            raise UserError(f"{where}: has shape {shape[:axis]}, but the feature says {column.shape}")
        if pa.types.is_fixed_size_list(array.type):
            lengths = np.full(len(array), array.type.list_size)
        else:
            lengths = pc.list_value_length(array).to_numpy()
        if (bad := np.flatnonzero(lengths != size)).size:
            raise UserError(
                f"{where}, row {first + bad[0] // inside}: holds {lengths[bad[0]]} numbers where the feature, of shape "
                f"{column.shape}, has {size}"
            )
        array, inside = array.flatten(), inside * size
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    complete()
    if pa.types.is_nested(array.type):
        raise UserError(f"{where}: holds {array.type}, more axes than the feature's shape {column.shape}")
    if array.type != pa.from_numpy_dtype(column.dtype):
        raise UserError(f"{where}: holds {array.type}, but the feature says {column.dtype}")
    values = array.to_numpy(zero_copy_only=False)
    assert len(values) == n * prod(shape)
    return values.reshape(n, *column.shape)
