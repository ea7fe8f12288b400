"""Read LeRobotDataset v3.0, ours or what the library wrote, block by block, comparing everything that is said twice."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from ilbook.data import video
from ilbook.data.files import check_schema, check_there, read_json, readable
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.lerobot_tables import Episode, check_equal, dense, episodes, opened, tasks_of
from ilbook.formats.stream import Block, Column, Stream, check_finite, check_plain, choose, rows_of

SLACK_S = 1e-4  # tolerance of a timestamp, as in the library


@dataclass(frozen=True)
class Feature:
    """One feature of info.json: its key, dtype as written there, and the column that it becomes."""

    key: str
    kind: str  # "image", "video" or the name of a numpy dtype
    column: Column


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open a data set; tables are compared with each other now, their values while they are read."""
    info, ours = _info(path), {}
    if (path / lerobot.OURS).is_file():  # what we noted, if it was us who wrote the data set
        ours = read_json(path / lerobot.OURS, f"{path.name}/{lerobot.OURS}")
        check_schema(ours, f"{path.name}/{lerobot.OURS}")
    texts, noted = tasks_of(path), ours.get("arrays") or {}
    said = info["features"]
    keys = {name: entry["feature"] for name, entry in noted.items() if entry["feature"] in said}
    rest = [key for key in said if key not in lerobot.INDEX and key not in keys.values()]
    keys |= lerobot.arrays_of(rest, keys)
    if len(texts) > 1:
        keys.setdefault("task_index", "task_index")
    where = f"{path.name}/{lerobot.INFO}"
    features, left_out = choose(
        keys, lambda name: _feature(said.get(keys[name]) or {}, keys[name], where, noted.get(name)), arrays, where
    )
    table = episodes(path, info, [feature.key for feature in features.values() if feature.kind == "video"])
    meta = {**(ours.get("meta") or {}), "source": path.name, "format": "lerobot", "fps": info["fps"], "tasks": texts}
    names = {name: said[feature.key].get("names") for name, feature in features.items()}
    meta["names"] = {name: value for name, value in names.items() if value and not features[name].column.is_picture}
    meta |= {key: info[key] for key in ("robot_type",) if info.get(key)}
    columns = {name: feature.column for name, feature in features.items()}
    blocks = partial(_blocks, path, table, features, float(info["fps"]), len(texts))
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


def _feature(said: dict, key: str, where: str, noted: dict | None) -> Feature:
    """What info.json says of a feature; UserError if it is no array of numbers. `noted`: our note of its shape."""
    where = f"{where}: feature '{key}'"
    try:
        kind, shape = said["dtype"], tuple(int(size) for size in said["shape"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where} lacks a dtype or a shape") from None
    if kind in ("image", "video"):
        if len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3):
            shape = (*shape[1:], shape[0])
        if len(shape) != 3 or shape[2] not in (1, 3) or (said.get("info") or {}).get("video.is_depth_map"):
            raise UserError(f"{where} has shape {shape}; pictures need height, width and 1 or 3 channels of 8 bits")
        return Feature(key, kind, Column(np.dtype(np.uint8), shape))
    dtype = np.dtype(kind) if kind in np.sctypeDict else np.dtype(object)
    check_plain(dtype, where)
    if noted and prod(noted["shape"]) == prod(shape):  # else edited since we wrote it
        shape = tuple(noted["shape"])
    elif shape == (1,) and key != "action" and not key.startswith("observation."):
        shape = ()  # one number a step: a vector of one for observations and actions, a plain series for the rest
    return Feature(key, kind, Column(dtype, shape))


def _blocks(
    root: Path, table: list[Episode], features: dict[str, Feature], fps: float, n_tasks: int
) -> Iterator[Block]:
    """Read the files in order and check every row against the table of episodes."""
    ends, start = np.array([episode.stop for episode in table]), 0
    with ExitStack() as stack:
        films = {
            name: stack.enter_context(closing(_Film(root, feature, fps)))
            for name, feature in features.items()
            if feature.kind == "video"
        }
        in_table = {name: feature for name, feature in features.items() if name not in films}
        for file, row, batch in stack.enter_context(closing(_batches(root, table, features.values()))):
            _check_index(file, row, batch, start, ends, fps, n_tasks)
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
        with opened(root / place, file) as parquet:
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
    if feature.kind == "image":
        return _pictures(batch[feature.key], feature.column, where, row)
    values = dense(batch[feature.key], feature.column, where, row)
    check_finite(values, where, row)
    return values


def _check_index(file: str, row: int, batch, start: int, ends: np.ndarray, fps: float, n_tasks: int) -> None:
    """Compare the columns that every frame has with what must stand there."""
    said = {name: dense(batch[name], column, f"{file}, column '{name}'", row) for name, column in lerobot.INDEX.items()}
    whole = np.arange(start, start + len(batch))
    episode = np.searchsorted(ends, whole, "right")
    frame = whole - np.append(0, ends)[episode]
    for name, must in (("episode_index", episode), ("frame_index", frame), ("index", whole)):
        check_equal(file, name, row, said[name], must)
    # float32 seconds are coarser than the tolerance after a quarter of an hour
    seconds = frame / fps
    slack = SLACK_S + np.spacing(seconds.astype(np.float32))
    check_equal(file, "timestamp", row, said["timestamp"], seconds, slack, f" s at {fps:g} frames a second")
    task = said["task_index"]
    for bad in np.flatnonzero((task < 0) | (task >= n_tasks))[:1]:
        raise UserError(
            f"{file}, column 'task_index', row {row + bad}: is {task[bad]}, but {lerobot.TASKS} lists {n_tasks} tasks"
        )


class _Film:
    """The frames of one video feature; a file is decoded once if its episodes follow each other, as they do."""

    def __init__(self, root: Path, feature: Feature, fps: float):
        self._root, self._feature, self._fps = root, feature, fps
        self._path, self._reader = None, None

    def take(self, episode: Episode, start: int, n: int) -> np.ndarray:
        """Frames of an episode, `n` from step `start` of the whole on."""
        path, begin = episode.videos[self._feature.key]
        first = start - episode.start + round(begin * self._fps)
        *size, channels = self._feature.column.shape
        if path != self._path or self._reader.position > first:
            self.close()
            # The decoder always gives three channels; those of a grey film are equal.
            reader = video.Reader(self._root / path, f"{self._root.name}/{path}", (*size, 3), self._fps)
            self._path, self._reader = path, reader
        return self._reader.take(first, n, f"episode {episode.index}")[..., :channels]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _pictures(column, wanted: Column, where: str, row: int) -> np.ndarray:
    """Decode a column of encoded pictures: structs of bytes and path."""
    import pyarrow as pa
    from PIL import Image

    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise UserError(f"{where}: holds {column.type}; pictures must be structs with bytes")
    found = np.empty((len(column), *wanted.shape), np.uint8)
    for at, raw in enumerate(column.field("bytes").to_pylist()):
        here = f"{where}, row {row + at}"
        if raw is None:
            raise UserError(f"{here}: holds no picture")
        with readable(here, "picture", OSError, SyntaxError, ValueError):
            picture = np.asarray(Image.open(io.BytesIO(raw)))
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.shape != wanted.shape or picture.dtype != np.uint8:
            raise UserError(f"{here}: a picture of {picture.dtype} {picture.shape}; it must be uint8 {wanted.shape}")
        found[at] = picture
    return found
