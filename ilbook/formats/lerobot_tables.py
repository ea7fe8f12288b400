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
from ilbook.formats.lerobot import FLOAT, INT
from ilbook.formats.stream import Column


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

    with readable(where, "parquet file", pa.ArrowInvalid, OSError):
        with path.open("rb") as file:
            if file.read(20) == b"version https://git-":
                raise UserError(f"{where} is only a pointer of Git LFS; fetch the data with 'git lfs pull'")
        with pq.ParquetFile(path) as parquet:
            yield parquet


def tasks_of(root: Path) -> list[str]:
    """Task texts in the order of task_index, which starts at 0; the column of texts has had several names."""
    where = f"{root.name}/{lerobot.TASKS}"
    with opened(root / lerobot.TASKS, where) as parquet:
        check_there(["task_index"], parquet.schema_arrow.names, where)
        table = parquet.read().sort_by("task_index")
    name = next((name for name in table.column_names if name != "task_index"), "task")
    check_there([name], table.column_names, where)
    index = dense(table["task_index"].combine_chunks(), INT, f"{where}, column 'task_index'", 0)
    check_equal(where, "task_index", 0, index, np.arange(len(table)))
    return [str(text) for text in table[name].to_pylist()]


def episodes(root: Path, info: dict, cameras: list[str]) -> list[Episode]:
    """The table of episodes, checked: complete, in order, without gap or overlap, as long in all as info.json says."""
    wanted = dict.fromkeys(("episode_index", "length", "dataset_from_index", "dataset_to_index"), INT)
    stored = ["data", *(f"videos/{camera}" for camera in cameras)]
    wanted |= {f"{key}/{name}": INT for key in stored for name in lerobot.FIRST}
    wanted |= {f"{key}/{name}": FLOAT for key in stored[1:] for name in ("from_timestamp", "to_timestamp")}
    table, end = [], 0
    for file in sorted((root / lerobot.EPISODES).glob("*/*.parquet")):
        where = f"{root.name}/{file.relative_to(root).as_posix()}"
        with opened(file, where) as parquet:
            check_there(wanted, parquet.schema_arrow.names, where)
            read = parquet.read(columns=list(wanted))
        said = {
            name: dense(read[name].combine_chunks(), column, f"{where}, column '{name}'", 0)
            for name, column in wanted.items()
        }
        start, stop = said["dataset_from_index"], said["dataset_to_index"]
        check_equal(where, "episode_index", 0, said["episode_index"], len(table) + np.arange(len(start)))
        check_equal(where, "dataset_from_index", 0, start, np.append(end, stop)[:-1])
        for row in np.flatnonzero(stop <= start)[:1]:
            raise UserError(f"{where}, column 'dataset_to_index', row {row}: is {stop[row]}; no episode may be empty")
        check_equal(where, "length", 0, said["length"], stop - start)
        for camera in cameras:
            frames = (said[f"videos/{camera}/to_timestamp"] - said[f"videos/{camera}/from_timestamp"]) * info["fps"]
            unit = f" frames at {info['fps']:g} a second"
            check_equal(where, f"videos/{camera}/to_timestamp", 0, frames, stop - start, 0.5, unit)
        for row in range(len(start)):
            place = {key: {name: said[f"{key}/{name}"][row] for name in lerobot.FIRST} for key in stored}
            videos = {}
            for camera in cameras:
                path = lerobot.VIDEO_PATH.format(video_key=camera, **place[f"videos/{camera}"])
                if not (root / path).is_file():
                    missing = f"it is the video of '{camera}' of episode {len(table)}"
                    raise UserError(f"{root.name}/{path} is missing; {missing}")
                videos[camera] = (path, float(said[f"videos/{camera}/from_timestamp"][row]))
            data = lerobot.DATA_PATH.format(**place["data"])
            table.append(Episode(len(table), int(start[row]), int(stop[row]), data, videos))
        end = table[-1].stop if table else 0
    if not table:
        raise UserError(f"{root.name}/{lerobot.EPISODES} lists no episode; the data set is not complete")
    for key, value in (("total_episodes", len(table)), ("total_frames", end)):
        if info.get(key, value) != value:
            raise UserError(f"{root.name}/{lerobot.INFO}: {key} is {info[key]}, but {lerobot.EPISODES} lists {value}")
    return table


def check_equal(
    where: str, column: str, first: int, found: np.ndarray, must: np.ndarray, slack: float = 0.0, unit: str = ""
) -> None:
    """UserError naming the row (counted from `first`) where a column is not what the other columns and files say."""
    for row in np.flatnonzero(~(np.abs(found - must) <= slack))[:1]:
        said, due = (f"{value:g}" if isinstance(value, np.floating) else value for value in (found[row], must[row]))
        raise UserError(
            f"{where}, column '{column}', row {first + row}: is {said}{unit}, but the other columns and files say "
            f"{due}{unit}"
        )


def dense(array, column: Column, where: str, first: int) -> np.ndarray:
    """A column of numbers, or of lists of them of any nesting, as (n, *shape); nothing is converted.

    One number a step may be stored as such or in lists of one. UserError naming the row (counted from `first`) of an
    empty entry or of a list of another length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    n, inside, sizes = len(array), 1, list(column.shape)
    if column.shape in ((), (1,)):
        sizes = [1] if pa.types.is_nested(array.type) else []
    for axis, size in enumerate((*sizes, None)):
        array = getattr(array, "storage", array)  # of an extension type
        if array.null_count:
            raise UserError(f"{where}, row {first + array.is_null().index(True).as_py() // inside}: is empty")
        if size is None:
            break
        if not isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
            raise UserError(f"{where}: has shape {column.shape[:axis]}, but the feature says {column.shape}")
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(lengths != size)[:1]:
            raise UserError(
                f"{where}, row {first + row // inside}: holds {lengths[row]} numbers where the feature, of shape "
                f"{column.shape}, has {size}"
            )
        array, inside = array.flatten(), inside * size
    if array.type != pa.from_numpy_dtype(column.dtype):
        raise UserError(f"{where}: holds {array.type}, but the feature says {column.dtype} of shape {column.shape}")
    return array.to_numpy(zero_copy_only=False).reshape(n, *column.shape)
