"""Read LeRobotDataset v3.0, ours or what the library wrote, block by block, comparing everything that is said twice."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from ilbook.data import video
from ilbook.data.files import check_schema, check_there, read_json, readable
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.lerobot_tables import INT, Episode, check_equal, dense, episodes, opened, tasks_of
from ilbook.formats.stream import PLAIN_KINDS, Block, Column, Stream, check_finite, choose, rows_of

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
    features, left_out = _features(path, info, ours)
    texts = tasks_of(path)
    order = {name: place for place, name in enumerate(ours.get("arrays") or {})}
    tasks = {"task_index": INT} if len(texts) > 1 or "task_index" in order else {}
    every = {**{name: feature.column for name, feature in features.items()}, **tasks}
    names = choose(sorted(every, key=lambda name: order.get(name, len(order))), arrays)
    columns = {name: every[name] for name in names}
    features = {name: features[name] for name in names if name in features}
    check_there(["action"], [feature.key for feature in features.values()], f"{path.name}/{lerobot.INFO}")
    table = episodes(path, info, [feature.key for feature in features.values() if feature.kind == "video"])
    meta = {**(ours.get("meta") or {}), "source": path.name, "format": "lerobot", "fps": info["fps"], "tasks": texts}
    said = {name: info["features"][feature.key].get("names") for name, feature in features.items()}
    more = {
        "robot_type": info.get("robot_type"),
        "names": {name: value for name, value in said.items() if value and not features[name].column.is_picture},
        "left_out": left_out,
    }
    meta |= {key: value for key, value in more.items() if value}
    reader = _Reader(path, table, features, columns, float(info["fps"]), len(texts))
    return Stream(columns, reader.ends, meta, reader.blocks)


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


def _features(root: Path, info: dict, ours: dict) -> tuple[dict[str, Feature], list[str]]:
    """Array -> feature, and the features that are no numbers (texts)."""
    found, left_out = {}, []
    for key, said in info["features"].items():
        if key in lerobot.INDEX:
            continue
        where = f"{root.name}/{lerobot.INFO}: feature '{key}'"
        try:
            kind, shape = said["dtype"], tuple(int(size) for size in said["shape"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{where} lacks a dtype or a shape") from None
        if kind in ("image", "video"):
            if len(shape) != 3:
                raise UserError(f"{where} has shape {shape}; pictures need height, width and channels")
            planes_first = shape[0] in (1, 3) and shape[2] not in (1, 3)
            shape = (*shape[1:], shape[0]) if planes_first else shape
            found[key] = Feature(key, kind, Column(np.dtype(np.uint8), shape))
        elif (dtype := _dtype(kind)) is None:
            left_out.append(key)
        else:
            # One number a step: a vector of one for observations and actions, a plain series for the rest.
            plain = shape == (1,) and key != "action" and not key.startswith("observation.")
            found[key] = Feature(key, kind, Column(dtype, () if plain else shape))
    arrays = lerobot.arrays_of(found)
    for name, said in (ours.get("arrays") or {}).items():
        feature, shape = found.get(said["feature"]), tuple(said["shape"])
        if feature is not None and prod(shape) == prod(feature.column.shape):  # else edited since we wrote it
            arrays = {array: key for array, key in arrays.items() if key != feature.key and array != name}
            arrays[name] = feature.key
            found[feature.key] = replace(feature, column=Column(feature.column.dtype, shape))
    return {name: found[key] for name, key in arrays.items()}, left_out


def _dtype(kind: str) -> np.dtype | None:
    try:
        dtype = np.dtype(kind)
    except TypeError:
        return None
    return dtype if dtype.kind in PLAIN_KINDS else None


class _Reader:
    """Reads the files of a data set in order and checks every row against the table of episodes."""

    def __init__(self, root: Path, table: list[Episode], features: dict[str, Feature], columns, fps, n_tasks):
        self.root, self.table, self.features, self.columns = root, table, features, columns
        self.fps, self.n_tasks = fps, n_tasks
        self.ends = np.array([episode.stop for episode in table])
        self.in_table = {name: feature for name, feature in features.items() if feature.kind != "video"}

    def blocks(self) -> Iterator[Block]:
        with ExitStack() as stack:
            cameras = {
                name: stack.enter_context(closing(_Camera(self.root, feature, self.fps)))
                for name, feature in self.features.items()
                if feature.kind == "video"
            }
            start = 0
            for file, row, batch in stack.enter_context(closing(self._batches())):
                arrays = {name: self._values(feature, file, row, batch) for name, feature in self.in_table.items()}
                arrays["task_index"] = self._check_index(file, row, batch, start)
                stop = start + len(batch)
                first = start
                while start < stop:  # one block for each episode in the batch
                    index = int(np.searchsorted(self.ends, start, "right"))
                    end = min(int(self.ends[index]), stop)
                    part = {name: array[start - first : end - first] for name, array in arrays.items()}
                    for name, camera in cameras.items():
                        part[name] = camera.take(self.table[index], start, end - start)
                    yield Block(index, start, {name: part[name] for name in self.columns})
                    start = end

    def _batches(self) -> Iterator[tuple]:
        """(file, first row in it, rows) of all data files, in order."""
        keys, length = [*(feature.key for feature in self.in_table.values()), *lerobot.INDEX], Counter()
        for episode in self.table:
            length[episode.file] += episode.stop - episode.start
        for place, rows in length.items():
            file, row = f"{self.root.name}/{place}", 0
            with opened(self.root / place, file) as parquet:
                check_there(keys, parquet.schema_arrow.names, file)
                if (found := parquet.metadata.num_rows) != rows:
                    raise UserError(f"{file}: has {found} rows, but its episodes in {lerobot.EPISODES} are {rows} long")
                # Group by group: asked for all of them, the library would decode the file ahead.
                for group in range(parquet.num_row_groups):
                    for batch in parquet.iter_batches(rows_of(self.columns), row_groups=[group], columns=keys):
                        yield file, row, batch
                        row += len(batch)

    def _values(self, feature: Feature, file: str, row: int, batch) -> np.ndarray:
        where = f"{file}, column '{feature.key}'"
        if feature.kind == "image":
            return _pictures(batch[feature.key], feature.column, where, row)
        values = dense(batch[feature.key], feature.column, where, row)
        check_finite(values, where, row)
        return values

    def _check_index(self, file: str, row: int, batch, start: int) -> np.ndarray:
        """Compare the index columns with what must stand there; returns task_index."""
        said = {
            name: dense(batch[name], Column(np.dtype(dtype), ()), f"{file}, column '{name}'", row)
            for name, dtype in lerobot.INDEX.items()
        }
        whole = np.arange(start, start + len(batch))
        episode = np.searchsorted(self.ends, whole, "right")
        frame = whole - np.append(0, self.ends)[episode]
        for name, must in (("episode_index", episode), ("frame_index", frame), ("index", whole)):
            check_equal(file, name, row, said[name], must)
        # float32 seconds are coarser than the tolerance after a quarter of an hour
        seconds = frame / self.fps
        slack = SLACK_S + np.spacing(seconds.astype(np.float32))
        check_equal(file, "timestamp", row, said["timestamp"], seconds, slack, f" s at {self.fps:g} frames a second")
        task = said["task_index"]
        if (bad := np.flatnonzero((task < 0) | (task >= self.n_tasks))).size:
            raise UserError(
                f"{file}, column 'task_index', row {row + bad[0]}: is {task[bad[0]]}, but {lerobot.TASKS} lists "
                f"{self.n_tasks} tasks"
            )
        return task


class _Camera:
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
            where, shape = f"{self._root.name}/{path}", self._feature.column.shape
            self._path, self._reader = path, video.Reader(self._root / path, where, shape, self._fps)
        return self._reader.take(first, n, f"episode {episode.index}")

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
