"""Read LeRobotDataset v3.0, ours or what the library wrote, block by block, comparing everything that is said twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ilbook.data import video
from ilbook.data.files import check_schema, check_there, read_json, readable
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.lerobot import FLOAT, INT
from ilbook.formats.stream import Block, Column, Stream, check_finite, check_plain, choose, decoded, rows_of

SLACK_S = 1e-4  # tolerance of a timestamp, as in the library


@dataclass(frozen=True)
class Episode:
    """One row of the table of episodes: rows start..stop of the whole, its data file, its place in each video."""

    index: int
    start: int
    stop: int
    file: str
    videos: dict[str, tuple[str, float]]  # feature -> file and seconds where it begins


@dataclass(frozen=True)
class Feature:
    """One feature of info.json: its key, dtype as written there, and the column that it becomes."""

    key: str
    kind: str  # "image", "video" or the name of a numpy dtype
    column: Column


def stream(path: Path, arrays: Iterable[str] | None = None, tolerance: float = SLACK_S) -> Stream:
    """Open a data set; tables are compared with each other now, their values while they are read.

    `tolerance`: how many seconds a timestamp may be away from the frame rate.
    """
    info, ours = _info(path), {}
    if (path / lerobot.OURS).is_file():  # what we noted, if it was us who wrote the data set
        ours = read_json(path / lerobot.OURS, f"{path.name}/{lerobot.OURS}")
        check_schema(ours, f"{path.name}/{lerobot.OURS}")
    texts, noted = _tasks_of(path), ours.get("arrays") or {}
    said = info["features"]
    keys = {name: entry["feature"] for name, entry in noted.items() if entry["feature"] in said}
    rest = [key for key in said if key not in lerobot.INDEX and key not in keys.values()]
    keys |= lerobot.arrays_of(rest, keys)
    if len(texts) > 1:
        keys.setdefault("task_index", "task_index")
    where = f"{path.name}/{lerobot.INFO}"
    wanted = keys if arrays is None else {"action", *arrays}
    first = _first(path, [keys[name] for name in wanted if name in keys])
    features, left_out = choose(
        keys,
        lambda name: _feature(said.get(keys[name]) or {}, keys[name], where, noted.get(name), first),
        arrays,
        where,
        {column: f"{where} does not list it" for column in first.columns if column not in said},
    )
    cameras = [feature.key for feature in features.values() if feature.kind == "video"]
    table = _episodes(path, info, cameras, tolerance)
    meta = {**(ours.get("meta") or {}), "source": path.name, "format": "lerobot", "fps": info["fps"], "tasks": texts}
    names = {name: said[feature.key].get("names") for name, feature in features.items()}
    meta["names"] = {name: value for name, value in names.items() if value and not features[name].column.is_picture}
    meta |= {key: info[key] for key in ("robot_type",) if info.get(key)}
    columns = {name: feature.column for name, feature in features.items()}
    blocks = partial(_blocks, path, table, features, float(info["fps"]), len(texts), tolerance)
    return Stream(columns, np.array([episode.stop for episode in table]), meta, blocks, left_out)


def _info(root: Path) -> dict:
    where = f"{root.name}/{lerobot.INFO}"
    info = read_json(root / lerobot.INFO, where)
    version = info.get("codebase_version")
    if not str(version).startswith("v3."):
        hint = "convert it with LeRobot's own script first" if str(version) < "v3" else "install a newer ilbook"
        raise UserError(f"{where}: has version {version}, only {lerobot.VERSION} can be read; {hint}")
    if not isinstance(info.get("fps"), (int, float)) or not info["fps"] > 0:
        raise UserError(f"{where}: fps is {info.get('fps')}; it must be a number of frames a second")
    if not isinstance(info.get("features"), dict):
        raise UserError(f"{where}: 'features' is missing; the data set is not complete")
    return info


class First(NamedTuple):
    """The first file with data: what it is called, its columns, and its first row of those that are wanted."""

    file: str
    columns: list[str]
    row: Mapping


def _first(root: Path, keys: list[str]) -> First:
    files = sorted(root.glob("data/*/*.parquet")) or [root / lerobot.DATA_PATH.format(**lerobot.FIRST)]
    where = f"{root.name}/{files[0].relative_to(root).as_posix()}"
    with _opened(files[0], where) as parquet:
        there = parquet.schema_arrow.names
        batches = parquet.iter_batches(1, row_groups=[0][: parquet.num_row_groups], columns=[*{*keys} & {*there}])
        return First(where, there, next(batches, {}))


def _feature(said: dict, key: str, where: str, noted: dict | None, first: First) -> Feature:
    """A feature of info.json, tried on the first row; UserError if it is no array of numbers. `noted`: its shape."""
    where = f"{where}: feature '{key}'"
    try:
        kind, shape = said["dtype"], tuple(int(size) for size in said["shape"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where} lacks a dtype or a shape") from None
    if kind in ("image", "video"):
        if len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3):
            shape = (*shape[1:], shape[0])
        more = said.get("info") or {}
        depth = more.get("video.is_depth_map") or more.get("is_depth_map")
        depth = depth or video.is_depth(str(more.get("video.pix_fmt")), *shape[2:3])
        if len(shape) != 3 or shape[2] not in (1, 3) or depth:
            raise UserError(f"{where} has shape {shape}; pictures need height, width and 1 or 3 channels of 8 bits")
        column = Column(np.dtype(np.uint8), shape)
        if kind == "image":
            check_there([key], first.columns, first.file)
            found = (
                Column.of(_pictures(first.row[key], None, f"{first.file}, column '{key}'", 0)) if first.row else column
            )
            if found.shape != shape:
                raise UserError(f"{where} has shape {shape}, but the first picture {found.shape}")
            column = found
        return Feature(key, kind, column)
    dtype = np.dtype(kind) if kind in np.sctypeDict else np.dtype(object)
    check_plain(dtype, f"{where} ({kind})")
    if noted and prod(noted["shape"]) == prod(shape):  # else edited since we wrote it
        shape = tuple(noted["shape"])
    elif shape == (1,) and key != "action" and not key.startswith("observation."):
        shape = ()  # one number a step: a vector of one for observations and actions, a plain series for the rest
    check_there([key], first.columns, first.file)
    if first.row:
        _dense(first.row[key], Column(dtype, shape), f"{first.file}, column '{key}'", 0)
    return Feature(key, kind, Column(dtype, shape))


def _blocks(
    root: Path, table: list[Episode], features: dict[str, Feature], fps: float, n_tasks: int, tolerance: float
) -> Iterator[Block]:
    """Read the files in order and check every row against the table of episodes."""
    ends, start = np.array([episode.stop for episode in table]), 0
    with ExitStack() as stack:
        films = {name: _Film(root, feature, fps) for name, feature in features.items() if feature.kind == "video"}
        for film in films.values():
            stack.callback(film.close)
        in_table = {name: feature for name, feature in features.items() if name not in films}
        for file, row, batch in stack.enter_context(closing(_batches(root, table, features.values()))):
            _check_index(file, row, batch, start, ends, fps, n_tasks, tolerance)
            arrays = {name: _values(feature, file, row, batch) for name, feature in in_table.items()}
            first, stop = start, start + len(batch)
            while start < stop:  # one block for each episode in the batch
                index = int(np.searchsorted(ends, start, "right"))
                end = min(int(ends[index]), stop)
                part = {name: array[start - first : end - first] for name, array in arrays.items()}
                part |= {name: film.take(table[index], start, end - start) for name, film in films.items()}
                yield Block(index, start, {name: part[name] for name in features})
                start = end


def _batches(root: Path, table: list[Episode], features: Iterable[Feature]) -> Iterator[tuple]:
    """(file, first row in it, rows) of all data files, in order."""
    keys = dict.fromkeys([*(feature.key for feature in features if feature.kind != "video"), *lerobot.INDEX])
    size, length = rows_of({feature.key: feature.column for feature in features}), Counter()
    for episode in table:
        length[episode.file] += episode.stop - episode.start
    for place, rows in length.items():
        file, row = f"{root.name}/{place}", 0
        with _opened(root / place, file) as parquet:
            check_there(keys, parquet.schema_arrow.names, file)
            if (found := parquet.metadata.num_rows) != rows:
                raise UserError(f"{file}: has {found} rows, but its episodes in {lerobot.EPISODES} are {rows} long")
            # Group by group: asked for all of them, the library would decode the file ahead.
            for group in range(parquet.num_row_groups):
                for batch in parquet.iter_batches(size, row_groups=[group], columns=list(keys)):
                    yield file, row, batch
                    row += len(batch)


def _values(feature: Feature, file: str, row: int, batch) -> np.ndarray:
    where = f"{file}, column '{feature.key}'"
    read = _pictures if feature.kind == "image" else _dense
    values = read(batch[feature.key], feature.column, where, row)
    check_finite(values, where, row)
    return values


def _check_index(
    file: str, row: int, batch, start: int, ends: np.ndarray, fps: float, n_tasks: int, tolerance: float
) -> None:
    """Compare the columns that every frame has with what must stand there."""
    said = {
        name: _dense(batch[name], column, f"{file}, column '{name}'", row) for name, column in lerobot.INDEX.items()
    }
    whole = np.arange(start, start + len(batch))
    episode = np.searchsorted(ends, whole, "right")
    frame = whole - np.append(0, ends)[episode]
    for name, must in (("episode_index", episode), ("frame_index", frame), ("index", whole)):
        _check_equal(file, name, row, said[name], must)
    # float32 seconds are coarser than the tolerance after a quarter of an hour
    seconds = frame / fps
    slack, off = tolerance + np.spacing(seconds.astype(np.float32)), np.abs(said["timestamp"] - seconds)
    # Further off it is no clock that is inexact, but another frame.
    remedy = "; --tolerance S accepts a clock that is off by S seconds" if off.max(initial=0) < 0.5 / fps else ""
    unit = f" s at {fps:g} frames a second"
    _check_equal(file, "timestamp", row, said["timestamp"], seconds, slack, unit, remedy)
    task = said["task_index"]
    for bad in np.flatnonzero((task < 0) | (task >= n_tasks))[:1]:
        where = f"{file}, column 'task_index', row {row + bad}"
        raise UserError(f"{where}: is {task[bad]}, but {lerobot.TASKS} lists {n_tasks} tasks")


class _Film:
    """The frames of one video feature; a file is decoded once if its episodes follow each other, as they do."""

    def __init__(self, root: Path, feature: Feature, fps: float):
        self._root, self._feature, self._fps = root, feature, fps
        self._path, self._reader = None, None

    def take(self, episode: Episode, start: int, n: int) -> np.ndarray:
        """Frames of an episode, `n` from step `start` of the whole on."""
        path, begin = episode.videos[self._feature.key]
        first = start - episode.start + round(begin * self._fps)
        if path != self._path or self._reader.position > first:
            self.close()
            reader = video.Reader(self._root / path, f"{self._root.name}/{path}", self._feature.column.shape, self._fps)
            self._path, self._reader = path, reader
        return self._reader.take(first, n, f"episode {episode.index}")

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _pictures(column, wanted: Column | None, where: str, row: int) -> np.ndarray:
    """Decode a column of encoded pictures: structs of bytes and path."""
    import pyarrow as pa

    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise UserError(f"{where}: holds {column.type}; pictures must be structs with bytes")
    return decoded(column.field("bytes").to_pylist(), where, row, wanted)


# -- tables; every error names its row ---------------------------------------------------------------------------------
@contextmanager
def _opened(path: Path, where: str) -> Iterator:
    """An open parquet file; UserError if it is missing or damaged, now or while it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with readable(where, "parquet file", pa.ArrowInvalid, OSError), pq.ParquetFile(path) as parquet:
        yield parquet


def _tasks_of(root: Path) -> list[str]:
    """Task texts in the order of task_index, which starts at 0; the column of texts has had several names."""
    where = f"{root.name}/{lerobot.TASKS}"
    with _opened(root / lerobot.TASKS, where) as parquet:
        check_there(["task_index"], parquet.schema_arrow.names, where)
        table = parquet.read().sort_by("task_index")
    name = next((name for name in table.column_names if name != "task_index"), "task")
    check_there([name], table.column_names, where)
    index = _dense(table["task_index"].combine_chunks(), INT, f"{where}, column 'task_index'", 0)
    _check_equal(where, "task_index", 0, index, np.arange(len(table)))
    return [str(text) for text in table[name].to_pylist()]


def _episodes(root: Path, info: dict, cameras: list[str], tolerance: float) -> list[Episode]:
    """The table of episodes, checked: complete, in order, without gap or overlap, as long in all as info.json says."""
    wanted = dict.fromkeys(("episode_index", "length", "dataset_from_index", "dataset_to_index"), INT)
    stored = ["data", *(f"videos/{camera}" for camera in cameras)]
    wanted |= {f"{key}/{name}": INT for key in stored for name in lerobot.FIRST}
    wanted |= {f"{key}/{name}": FLOAT for key in stored[1:] for name in ("from_timestamp", "to_timestamp")}
    table, end = [], 0
    for file in sorted((root / lerobot.EPISODES).glob("*/*.parquet")):
        where = f"{root.name}/{file.relative_to(root).as_posix()}"
        with _opened(file, where) as parquet:
            check_there(wanted, parquet.schema_arrow.names, where)
            read = parquet.read(columns=list(wanted))
        said = {
            name: _dense(read[name].combine_chunks(), column, f"{where}, column '{name}'", 0)
            for name, column in wanted.items()
        }
        start, stop = said["dataset_from_index"], said["dataset_to_index"]
        _check_equal(where, "episode_index", 0, said["episode_index"], len(table) + np.arange(len(start)))
        _check_equal(where, "dataset_from_index", 0, start, np.append(end, stop)[:-1])
        for row in np.flatnonzero(stop <= start)[:1]:
            raise UserError(f"{where}, column 'dataset_to_index', row {row}: is {stop[row]}; no episode may be empty")
        _check_equal(where, "length", 0, said["length"], stop - start)
        unit = f" frames at {info['fps']:g} a second"
        for camera in cameras:
            begin, until = (said[f"videos/{camera}/{end}_timestamp"] * info["fps"] for end in ("from", "to"))
            _check_equal(where, f"videos/{camera}/to_timestamp", 0, until - begin, stop - start, 0.5, unit)
            slack = tolerance * info["fps"] + 1e-6 * begin
            must, (chunk, film) = begin.round(), (said[f"videos/{camera}/{name}"] for name in lerobot.FIRST)
            again = (np.diff(chunk) == 0) & (np.diff(film) == 0)  # after the episode before, in the same film
            must[1:] = np.maximum(must[1:], np.where(again, until[:-1].round(), 0))
            _check_equal(where, f"videos/{camera}/from_timestamp", 0, begin, must, slack, unit)
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


def _check_equal(
    where: str, column: str, first: int, found: np.ndarray, must: np.ndarray, slack: float = 0.0, unit: str = "",
    remedy: str = "",
) -> None:  # fmt: skip
    """UserError naming the row (counted from `first`) where a column is not what the other columns and files say."""
    for row in np.flatnonzero(~(np.abs(found - must) <= slack))[:1]:
        said, due = (f"{value:g}" if isinstance(value, np.floating) else value for value in (found[row], must[row]))
        where = f"{where}, column '{column}', row {first + row}"
        raise UserError(f"{where}: is {said}{unit}, but the other columns and files say {due}{unit}{remedy}")


def _dense(array, column: Column, where: str, first: int) -> np.ndarray:
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
            due = f"where the feature, of shape {column.shape}, has {size}"
            raise UserError(f"{where}, row {first + row // inside}: holds {lengths[row]} numbers {due}")
        array, inside = array.flatten(), inside * size
    if array.type != pa.from_numpy_dtype(column.dtype):
        raise UserError(f"{where}: holds {array.type}, but the feature says {column.dtype} of shape {column.shape}")
    return array.to_numpy(zero_copy_only=False).reshape(n, *column.shape)
