"""Read LeRobotDataset v3.0, ours or what the library wrote, block by block, comparing everything that is said twice."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ilbook.data import video
from ilbook.data.files import SCHEMA
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.lerobot_tables import Episode, check_table, dense, episodes, opened, tasks_of
from ilbook.formats.stream import Block, Column, Stream, check_action, check_finite, choose, rows_of, spans

SLACK_S = 1e-4  # tolerance of a timestamp, as in the library


@dataclass(frozen=True)
class Feature:
    """One feature of info.json: its key, dtype as written there, and the column that it becomes."""

    key: str
    kind: str  # "image", "video" or the name of a numpy dtype
    column: Column
    planes_first: bool = False  # a picture described as (channels, height, width)


def stream(path: Path, arrays: Iterable[str] | None = None) -> Stream:
    """Open a data set; tables are compared with each other now, their values while they are read."""
    info = _info(path)
    root, fps = path, float(info["fps"])
    ours = _ours(path)
    features, left_out = _features(path, info, ours)
    texts = tasks_of(root)
    order = {name: place for place, name in enumerate(ours.get("arrays") or {})}
    tasks = ["task_index"] if len(texts) > 1 or "task_index" in order else []
    names = sorted([*features, *tasks], key=lambda name: order.get(name, len(order)))
    names = choose(names, arrays)
    columns = {name: features[name].column if name in features else Column(np.dtype(np.int64), ()) for name in names}
    features = {name: features[name] for name in names if name in features}
    check_action([feature.key for feature in features.values()], f"{path.name}/{lerobot.INFO}")
    table = episodes(root, info, [feature.key for feature in features.values() if feature.kind == "video"])
    in_table = [feature.key for feature in features.values() if feature.kind != "video"]
    for place in dict.fromkeys(episode.file for episode in table):
        check_table(root, place, in_table, sum(episode.length for episode in table if episode.file == place))
    ends = np.array([episode.stop for episode in table])
    reader = _Reader(root, table, features, columns, fps, len(texts))
    meta = {**(ours.get("meta") or {}), "source": path.name, "format": "lerobot", "fps": info["fps"], "tasks": texts}
    if info.get("robot_type"):
        meta["robot_type"] = info["robot_type"]
    said = {name: info["features"][feature.key].get("names") for name, feature in features.items()}
    if said := {name: value for name, value in said.items() if value and features[name].kind not in ("image", "video")}:
        meta["names"] = said
    if left_out:
        meta["left_out"] = left_out
    return Stream(columns, ends, meta, reader.blocks)


def _info(root: Path) -> dict:
    where = f"{root.name}/{lerobot.INFO}"
    try:
        info = json.loads((root / lerobot.INFO).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{where} is missing; this is not a complete LeRobot data set") from None
    except ValueError:
        raise UserError(f"{where} does not hold JSON; it may be cut short") from None
    version = info.get("codebase_version")
    if not str(version).startswith("v3."):
        hint = "convert it with LeRobot's own script first" if str(version) < "v3" else "install a newer ilbook"
        raise UserError(f"{where}: has version {version}, only {lerobot.VERSION} can be read; {hint}")
    if not isinstance(info.get("fps"), (int, float)) or not info["fps"] > 0:
        raise UserError(f"{where}: fps is {info.get('fps')}; it must be a number of frames a second")
    if not isinstance(info.get("features"), dict):
        raise UserError(f"{where}: 'features' is missing; this is not a complete LeRobot data set")
    return info


def _ours(root: Path) -> dict:
    """What we noted when we wrote the data set; nothing for others."""
    try:
        ours = json.loads((root / lerobot.OURS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"{root.name}/{lerobot.OURS} does not hold JSON; delete it to import without it") from None
    if ours.get("schema", 1) > SCHEMA:
        raise UserError(
            f"{root.name}/{lerobot.OURS}: has schema {ours['schema']}, but this ilbook reads up to {SCHEMA}; "
            "install a newer ilbook"
        )
    return ours


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
            planes_first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)
            shape = (*shape[1:], shape[0]) if planes_first else shape
            if len(shape) != 3:
                raise UserError(f"{where} has shape {shape}; pictures need height, width and channels")
            found[key] = Feature(key, kind, Column(np.dtype(np.uint8), shape), planes_first)
            continue
        try:
            dtype = np.dtype(kind)
        except TypeError:
            dtype = np.dtype(object)
        if dtype.kind not in "biuf":
            left_out.append(key)
            continue
        # One number a step: a vector of one for observations and actions, a plain series for the rest.
        plain = shape == (1,) and key != "action" and not key.startswith("observation.")
        found[key] = Feature(key, kind, Column(dtype, () if plain else shape))
    arrays = lerobot.arrays_of(found)
    for name, said in (ours.get("arrays") or {}).items():
        feature = found.get(said["feature"])
        if feature is None or np.prod(said["shape"]) != np.prod(feature.column.shape):
            continue  # edited since we wrote it
        arrays = {array: key for array, key in arrays.items() if key != feature.key and array != name}
        arrays[name] = feature.key
        found[feature.key] = Feature(
            feature.key, feature.kind, Column(feature.column.dtype, tuple(said["shape"])), feature.planes_first
        )
    return {name: found[key] for name, key in arrays.items()}, left_out


class _Reader:
    """Reads the files of a data set in order and checks every row against the table of episodes."""

    def __init__(self, root: Path, table: list[Episode], features: dict[str, Feature], columns, fps, n_tasks):
        self.root, self.table, self.features, self.columns = root, table, features, columns
        self.fps, self.n_tasks = fps, n_tasks
        self.ends = np.array([episode.stop for episode in table])

    def blocks(self) -> Iterator[Block]:
        with ExitStack() as stack:
            rows = _Rows(
                self.root, self.table, [f.key for f in self.features.values() if f.kind != "video"], self.columns
            )
            stack.callback(rows.close)
            cameras = {
                name: _Camera(self.root, feature, self.fps)
                for name, feature in self.features.items()
                if feature.kind == "video"
            }
            for camera in cameras.values():
                stack.callback(camera.close)
            for index, start, stop in spans(self.ends, self.columns):
                episode = self.table[index]
                part: dict[str, np.ndarray] = {}
                pieces = list(rows.take(stop - start))
                task = self._check_index(pieces, episode, start)
                for name, feature in self.features.items():
                    if feature.kind == "video":
                        part[name] = cameras[name].take(episode, start - episode.start, stop - start)
                    else:
                        part[name] = np.concatenate([self._values(feature, *piece) for piece in pieces])
                if "task_index" in self.columns:
                    part["task_index"] = task
                yield Block(index, start, {name: part[name] for name in self.columns})

    def _values(self, feature: Feature, file: str, row: int, batch) -> np.ndarray:
        where = f"{file}, column '{feature.key}'"
        if feature.kind == "image":
            return _pictures(batch.column(feature.key), feature, where, row, self.root)
        values = dense(batch.column(feature.key), feature.column, where, row)
        check_finite(values, where, row)
        return values

    def _check_index(self, pieces: list, episode: Episode, start: int) -> np.ndarray:
        """Compare the index columns with what must stand there; returns task_index."""
        tasks = []
        for file, row, batch in pieces:
            whole = np.arange(start, start + batch.num_rows)
            start += batch.num_rows
            frame = whole - episode.start
            said = {
                name: dense(batch.column(name), Column(np.dtype(dtype), ()), f"{file}, column '{name}'", row)
                for name, dtype in lerobot.INDEX.items()
            }
            wanted = {"episode_index": np.full(len(whole), episode.index), "frame_index": frame, "index": whole}
            for name, must in wanted.items():
                if (bad := np.flatnonzero(said[name] != must)).size:
                    raise UserError(
                        f"{file}, column '{name}', row {row + bad[0]}: is {said[name][bad[0]]}, but the table of "
                        f"episodes says {must[bad[0]]}"
                    )
            must = frame / self.fps
            # float32 seconds are coarser than the tolerance after a quarter of an hour
            slack = SLACK_S + np.spacing(must.astype(np.float32))
            if (bad := np.flatnonzero(~(np.abs(said["timestamp"] - must) <= slack))).size:
                raise UserError(
                    f"{file}, column 'timestamp', row {row + bad[0]}: is {said['timestamp'][bad[0]]:g} s, but frame "
                    f"{frame[bad[0]]} at {self.fps:g} frames a second is due at {must[bad[0]]:g} s"
                )
            task = said["task_index"]
            if (bad := np.flatnonzero((task < 0) | (task >= self.n_tasks))).size:
                raise UserError(
                    f"{file}, column 'task_index', row {row + bad[0]}: is {task[bad[0]]}, but {lerobot.TASKS} lists "
                    f"{self.n_tasks} tasks"
                )
            tasks.append(task)
        return np.concatenate(tasks)


class _Rows:
    """The rows of all data files, in order, taken a few at a time."""

    def __init__(self, root: Path, table: list[Episode], keys: list[str], columns: dict[str, Column]):
        self._batches = self._read(root, table, [*keys, *lerobot.INDEX], rows_of(columns))
        self._left = None  # file, first row, rows that were read but not taken

    def _read(self, root: Path, table: list[Episode], keys: list[str], size: int):
        for place in dict.fromkeys(episode.file for episode in table):
            file, row = f"{root.name}/{place}", 0
            with opened(root / place, file) as parquet:
                # Group by group: asked for all of them, the library would decode the file ahead.
                groups = range(parquet.num_row_groups)
                batches = (
                    batch
                    for group in groups
                    for batch in parquet.iter_batches(batch_size=max(size, 64), row_groups=[group], columns=keys)
                )
                while True:
                    try:
                        batch = next(batches)
                    except StopIteration:
                        break
                    except (OSError, ValueError) as error:
                        raise UserError(f"{file}, from row {row}: is damaged ({error})".replace("\n", " ")) from None
                    yield file, row, batch
                    row += batch.num_rows

    def take(self, n: int):
        """(file, row, batch) of the next `n` rows."""
        while n:
            file, row, batch = self._left or next(self._batches)
            part = batch.slice(0, n)
            n -= part.num_rows
            rest = batch.slice(part.num_rows)
            self._left = (file, row + part.num_rows, rest) if rest.num_rows else None
            yield file, row, part

    def close(self) -> None:
        self._batches.close()


class _Camera:
    """The frames of one video feature; a file is decoded once if its episodes follow each other, as they do."""

    def __init__(self, root: Path, feature: Feature, fps: float):
        self._root, self._feature, self._fps = root, feature, fps
        self._path, self._reader = None, None

    def take(self, episode: Episode, first: int, n: int) -> np.ndarray:
        """Frames first..first + n of an episode."""
        path, begin = episode.videos[self._feature.key]
        first += round(begin * self._fps)
        if path != self._path or self._reader.position > first:
            self.close()
            self._reader = video.Reader(
                self._root / path, f"{self._root.name}/{path}", self._feature.column.shape, self._fps
            )
            self._path = path
        what = f"episode {episode.index}"
        self._reader.skip(first - self._reader.position, what)
        return self._reader.take(n, what)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _pictures(column, feature: Feature, where: str, row: int, root: Path) -> np.ndarray:
    """Decode a column of encoded pictures: structs of bytes and path."""
    import pyarrow as pa
    from PIL import Image

    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise UserError(f"{where}: holds {column.type}; pictures must be structs with bytes")
    found = np.empty((len(column), *feature.column.shape), np.uint8)
    for at, value in enumerate(column.to_pylist()):
        here = f"{where}, row {row + at}"
        raw = value and value.get("bytes")
        if raw is None:
            raise UserError(f"{here}: holds no picture")
        try:
            picture = np.asarray(Image.open(io.BytesIO(raw)))
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{here}: not a readable picture ({error})") from None
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.shape != feature.column.shape or picture.dtype != np.uint8:
            raise UserError(
                f"{here}: a picture of {picture.dtype} {picture.shape}; it must be uint8 {feature.column.shape}"
            )
        found[at] = picture
    return found
