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
    for key in ("data", *(f"videos/{camera}" for camera in cameras)):
        wanted |= {f"{key}/chunk_index": INT, f"{key}/file_index": INT}
    for camera in cameras:
        wanted |= {f"videos/{camera}/from_timestamp": FLOAT, f"videos/{camera}/to_timestamp": FLOAT}
    table: list[Episode] = []
    end = 0
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
            this = {name: column[row].item() for name, column in said.items()}
            data, videos = _path(root, info, "data_path", lerobot.DATA_PATH, this, "data"), {}
            for camera in cameras:
                path = _path(root, info, "video_path", lerobot.VIDEO_PATH, this, f"videos/{camera}", camera)
                if not (root / path).is_file():
                    missing = f"it is the video of '{camera}' of episode {len(table)}"
                    raise UserError(f"{root.name}/{path} is missing; {missing}")
                videos[camera] = (path, this[f"videos/{camera}/from_timestamp"])
            table.append(Episode(len(table), this["dataset_from_index"], this["dataset_to_index"], data, videos))
        end = stop[-1] if len(stop) else end
    if not table:
        raise UserError(f"{root.name}/{lerobot.EPISODES} lists no episode; the data set is not complete")
    for key, value in (("total_episodes", len(table)), ("total_frames", end)):
        if info.get(key, value) != value:
            raise UserError(f"{root.name}/{lerobot.INFO}: {key} is {info[key]}, but {lerobot.EPISODES} lists {value}")
    return table


def _path(root: Path, info: dict, key: str, default: str, said: dict, prefix: str, camera: str = "") -> str:
    """A path pattern of info.json filled in for a row of the table; it must stay inside the data set."""
    pattern, place = (
        info.get(key) or default,
        {name: said[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")},
    )
    try:
        path = pattern.format(**place, video_key=camera)
    except (KeyError, ValueError, IndexError, AttributeError):
        raise UserError(f"{root.name}/{lerobot.INFO}: {key} {pattern!r} is not a pattern such as {default!r}") from None
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise UserError(f"{root.name}/{lerobot.INFO}: {key} {pattern!r} leads out of the data set")
    return path


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
