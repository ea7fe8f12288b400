"""The tables of a LeRobot data set: episodes, tasks, and columns of nested lists; every error names its row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilbook.data.files import check_there, readable
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.stream import Column

INT, FLOAT = Column(np.dtype(np.int64), ()), Column(np.dtype(np.float64), ())


@dataclass(frozen=True)
class Episode:
    """One row of the table of episodes: rows start..stop of the whole, its data file, its place in each video."""

    index: int
    start: int
    stop: int
    file: str
    videos: dict[str, tuple[str, float]]  # feature -> file and seconds where it begins


@contextmanager
def opened(path: Path, where: str) -> Iterator:
    """An open parquet file; UserError if it is missing or damaged, now or while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with readable(where, "parquet file", pa.ArrowInvalid, OSError), pq.ParquetFile(path) as parquet:
        yield parquet


def tasks_of(root: Path) -> list[str]:
    """Task texts in the order of task_index, which starts at 0; the column of texts has had several names."""
    import pyarrow as pa

    where = f"{root.name}/{lerobot.TASKS}"
    with opened(root / lerobot.TASKS, where) as parquet:
        table = parquet.read()
    texts = [said.name for said in table.schema if said.type in (pa.string(), pa.large_string())]
    column = "task" if "task" in texts or not texts else texts[0]
    check_there([column], texts, where)
    check_there(["task_index"], table.column_names, where)
    table = table.sort_by("task_index")
    check_equal(where, "task_index", 0, _numbers(table, "task_index", INT, where), np.arange(len(table)))
    return table[column].to_pylist()


def episodes(root: Path, info: dict, cameras: list[str]) -> list[Episode]:
    """The table of episodes, checked: complete, in order, without gap or overlap, as long in all as info.json says."""
    table: list[Episode] = []
    end = 0
    for file in sorted((root / lerobot.EPISODES).glob("*/*.parquet")):
        where = f"{root.name}/{file.relative_to(root).as_posix()}"
        said = _read(file, where, cameras)
        start, stop = said["dataset_from_index"], said["dataset_to_index"]
        check_equal(where, "episode_index", 0, said["episode_index"], len(table) + np.arange(len(start)))
        check_equal(where, "dataset_from_index", 0, start, np.append(end, stop)[:-1])
        if (bad := np.flatnonzero(stop <= start)).size:
            row = bad[0]
            raise UserError(f"{where}, column 'dataset_to_index', row {row}: is {stop[row]}; no episode may be empty")
        check_equal(where, "length", 0, said["length"], stop - start)
        for camera in cameras:
            frames = (said[f"videos/{camera}/to_timestamp"] - said[f"videos/{camera}/from_timestamp"]) * info["fps"]
            unit = f" frames at {info['fps']:g} a second"
            check_equal(where, f"videos/{camera}/to_timestamp", 0, frames, stop - start, 0.5, unit)
        for row in range(len(start)):
            this = {name: column[row].item() for name, column in said.items()}
            place = {"chunk_index": this["data/chunk_index"], "file_index": this["data/file_index"]}
            data = _format(root, info, "data_path", lerobot.DATA_PATH, place)
            videos = {camera: _video(root, info, this, camera) for camera in cameras}
            table.append(Episode(len(table), this["dataset_from_index"], this["dataset_to_index"], data, videos))
        end = stop[-1] if len(stop) else end
    if not table:
        raise UserError(f"{root.name}/{lerobot.EPISODES} lists no episode; the data set is not complete")
    for key, value in (("total_episodes", len(table)), ("total_frames", end)):
        if info.get(key, value) != value:
            raise UserError(f"{root.name}/{lerobot.INFO}: {key} is {info[key]}, but {lerobot.EPISODES} lists {value}")
    return table


def _read(file: Path, where: str, cameras: list[str]) -> dict[str, np.ndarray]:
    """The columns of a table of episodes that count."""
    columns = dict.fromkeys(("episode_index", "length", "dataset_from_index", "dataset_to_index"), INT)
    columns |= {"data/chunk_index": INT, "data/file_index": INT}
    for camera in cameras:
        columns |= {f"videos/{camera}/{key}": INT for key in ("chunk_index", "file_index")}
        columns |= {f"videos/{camera}/{key}": FLOAT for key in ("from_timestamp", "to_timestamp")}
    with opened(file, where) as parquet:
        check_there(columns, parquet.schema_arrow.names, where)
        table = parquet.read(columns=list(columns))
    return {name: _numbers(table, name, column, where) for name, column in columns.items()}


def _video(root: Path, info: dict, said: dict, camera: str) -> tuple[str, float]:
    """The file in which the frames of an episode are, and the seconds where they begin."""
    place = {name: said[f"videos/{camera}/{name}"] for name in ("chunk_index", "file_index")}
    path = _format(root, info, "video_path", lerobot.VIDEO_PATH, {**place, "video_key": camera})
    if not (root / path).is_file():
        episode = said["episode_index"]
        raise UserError(f"{root.name}/{path} is missing; it is the video of '{camera}' of episode {episode}")
    return path, said[f"videos/{camera}/from_timestamp"]


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


def check_equal(
    where: str, column: str, first: int, found: np.ndarray, must: np.ndarray, slack: float = 0.0, unit: str = ""
) -> None:
    """UserError naming the row (counted from `first`) where a column is not what the other columns and files say."""
    if (bad := np.flatnonzero(~(np.abs(found - must) <= slack))).size:
        row = bad[0]
        pair = (f"{value:g}" if isinstance(value, np.floating) else value for value in (found[row], must[row]))
        said, due = (f"{value}{unit}" for value in pair)
        raise UserError(
            f"{where}, column '{column}', row {first + row}: is {said}, but the other columns and files say {due}"
        )


def _numbers(table, name: str, column: Column, where: str) -> np.ndarray:
    """A column of plain numbers, which may be stored in another kind of them."""
    import pyarrow as pa

    array, where = table[name].combine_chunks(), f"{where}, column '{name}'"
    try:
        array = array.cast(pa.from_numpy_dtype(column.dtype))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{where}: holds {array.type} where numbers are due ({error})") from None
    return dense(array, column, where, 0)


def dense(array, column: Column, where: str, first: int) -> np.ndarray:
    """A column of numbers, or of lists of them of any nesting, as (n, *shape); nothing is converted.

    UserError naming the row (counted from `first`) of an empty entry or of a list of another length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    n, inside = len(array), 1
    # Vectors of one are stored as plain numbers.
    shape = column.shape if column.shape != (1,) or pa.types.is_nested(array.type) else ()
    for axis, size in enumerate((*shape, None)):
        array = getattr(array, "storage", array)  # of an extension type
        if array.null_count:
            raise UserError(f"{where}, row {first + array.is_null().index(True).as_py() // inside}: is empty")
        if size is None:
            break
        if not isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
            raise UserError(f"{where}: has shape {shape[:axis]}, but the feature says {column.shape}")
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        if (bad := np.flatnonzero(lengths != size)).size:
            raise UserError(
                f"{where}, row {first + bad[0] // inside}: holds {lengths[bad[0]]} numbers where the feature, of shape "
                f"{column.shape}, has {size}"
            )
        array, inside = array.flatten(), inside * size
    if array.type != pa.from_numpy_dtype(column.dtype):
        raise UserError(f"{where}: holds {array.type}, but the feature says {column.dtype} of shape {column.shape}")
    return array.to_numpy(zero_copy_only=False).reshape(n, *column.shape)
