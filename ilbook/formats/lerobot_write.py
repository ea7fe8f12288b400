"""Write LeRobotDataset v3.0 with pyarrow: all episodes in one table and one film a camera, if films are asked for.

Pictures become PNG inside the table by default, because that loses nothing; `video=True` encodes them as h264, about
a tenth of the size, with small errors.
"""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ilbook.data import video
from ilbook.data.files import SCHEMA, write_json
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats import stream as blocks
from ilbook.formats.stream import Block, Column, Stream

MOST_WAITING = 1000  # episodes in a row group: a table of one step takes kilobytes of memory
DEFAULT_TASK = "demonstration"


def write(stream: Stream, path: Path, video: bool = False) -> None:
    """Write a stream with `meta["fps"]`; `video` makes h264 videos of the pictures, else they are stored exactly."""
    _Writer(stream, path, video).run()


class Statistics:
    """Collects values (n, *shape); of pictures for each channel, in 0..1. Merging: Chan, Golub and LeVeque (1983)."""

    def __init__(self, column: Column):
        self._picture = column.is_picture
        self._n_steps, self._n, self._mean, self._squares = 0, 0, 0.0, 0.0
        self._low, self._high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        self._n_steps += len(values)
        for part in values if self._picture else [values]:  # one at a time: as floats they are eight times as large
            self._merge(part.reshape(-1, 3) / 255 if self._picture else part.astype(np.float64))

    def _merge(self, part: np.ndarray) -> None:
        mean, n = part.mean(axis=0), self._n + len(part)
        away = mean - self._mean
        self._squares = self._squares + ((part - mean) ** 2).sum(axis=0) + away**2 * (self._n * len(part) / n)
        self._mean, self._n = self._mean + away * (len(part) / n), n
        self._low, self._high = np.minimum(self._low, part.min(axis=0)), np.maximum(self._high, part.max(axis=0))

    def result(self) -> dict[str, list]:
        """Lists of the feature's shape, (1,) for one number a step and (3, 1, 1) for pictures."""
        found = {"min": self._low, "max": self._high, "mean": self._mean, "std": np.sqrt(self._squares / self._n)}
        listed = {
            name: (value.reshape(3, 1, 1) if self._picture else np.atleast_1d(value)).tolist()
            for name, value in found.items()
        }
        return {**listed, "count": [self._n_steps]}


class _Writer:
    def __init__(self, stream: Stream, root: Path, as_video: bool):
        self.stream, self.root, self.fps = stream, root, _whole_fps(stream.meta.get("fps"))
        self.tasks = [str(task) for task in stream.meta.get("tasks") or [DEFAULT_TASK]]
        self.columns = dict(stream.columns)
        # An array 'task_index' says which of the task texts each step belongs to.
        self.has_index = (
            bool(stream.meta.get("tasks")) and self.columns.get("task_index") == lerobot.INDEX["task_index"]
        )
        if self.has_index:
            del self.columns["task_index"]
        self.features = lerobot.features_of(self.columns)
        self.videos = [name for name, column in self.columns.items() if column.is_picture and as_video]
        for name in self.videos:
            height, width = self.columns[name].shape[:2]
            if height % 2 or width % 2:
                raise UserError(f"array '{name}' is {height} x {width}; videos need even sizes: leave out --video")
        of_features = {self.features[name]: column for name, column in self.columns.items()}
        self.statistics = {name: Statistics(column) for name, column in (of_features | lerobot.INDEX).items()}
        self.episodes = [self._episode(index, *span) for index, span in enumerate(stream.spans)]

    def _episode(self, index: int, start: int, end: int) -> dict:
        """The row of the table of episodes; its tasks are found while it is written."""
        row = {"episode_index": index, "tasks": set(), "length": end - start}
        row |= {"dataset_from_index": start, "dataset_to_index": end}
        row |= {f"{table}/{key}": value for table in ("data", "meta/episodes") for key, value in lerobot.FIRST.items()}
        for name in self.videos:
            place = {**lerobot.FIRST, "from_timestamp": start / self.fps, "to_timestamp": end / self.fps}
            row |= {f"videos/{self.features[name]}/{key}": value for key, value in place.items()}
        return row

    def run(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table, films = self.root / lerobot.DATA_PATH.format(**lerobot.FIRST), {}
        table.parent.mkdir(parents=True)
        with ExitStack() as stack:
            for name in self.videos:
                path = self.root / lerobot.VIDEO_PATH.format(video_key=self.features[name], **lerobot.FIRST)
                films[name] = video.Writer(path, *self.columns[name].shape[:2], self.fps)
                stack.callback(films[name].stop)
            rows, waiting, size = None, [], 0
            for block in self.stream.watched("export"):
                waiting.append(pa.table(self._values(block)))
                if rows is None:
                    # Dictionaries help repeated values only; positions do not repeat.
                    rows = pq.ParquetWriter(table, waiting[0].schema, compression="snappy", use_dictionary=False)
                    stack.enter_context(rows)
                # Short episodes share a row group: each takes room in the footer, whose size readers limit.
                size += waiting[-1].nbytes
                last = block.start + len(waiting[-1]) == self.stream.n_steps
                if last or size >= blocks.BLOCK_BYTES or len(waiting) >= MOST_WAITING:
                    rows.write_table(pa.concat_tables(waiting))
                    waiting, size = [], 0
                for name, film in films.items():
                    film.add(block.arrays[name])
            for film in films.values():
                film.close()
        self._write_meta()

    def _values(self, block: Block) -> dict:
        """The columns of the table for a block; what the statistics need of it is taken."""
        index = self._index(block)
        self.episodes[block.episode]["tasks"].update(np.unique(index["task_index"]).tolist())
        parts, values = {feature: block.arrays[name] for name, feature in self.features.items()} | index, {}
        for feature, part in parts.items():
            self.statistics[feature].add(part)
            if Column.of(part).is_picture:
                values |= {} if self.videos else {feature: _pictures(part)}
            else:
                values[feature] = _dense(part)
        return values

    def _index(self, block: Block) -> dict[str, np.ndarray]:
        """The columns that every frame has."""
        n = len(block.arrays["action"])
        whole = np.arange(block.start, block.start + n)
        frame = whole - self.episodes[block.episode]["dataset_from_index"]
        task = block.arrays["task_index"] if self.has_index else np.zeros(n, np.int64)
        if (bad := np.flatnonzero((task < 0) | (task >= len(self.tasks)))).size:
            here = f"array 'task_index', row {block.start + bad[0]}"
            raise UserError(f"{here}: {task[bad[0]]} is not one of the {len(self.tasks)} tasks")
        timestamp, episode = (frame / self.fps).astype(np.float32), np.full(n, block.episode)
        return dict(zip(lerobot.INDEX, (timestamp, frame, episode, whole, task), strict=True))

    def _write_meta(self) -> None:
        import pandas as pd

        rows = [{**row, "tasks": [self.tasks[task] for task in sorted(row["tasks"])]} for row in self.episodes]
        target = self.root / lerobot.EPISODES / "chunk-000" / "file-000.parquet"
        target.parent.mkdir(parents=True)
        pd.DataFrame(rows).to_parquet(target)
        tasks = pd.DataFrame({"task_index": range(len(self.tasks))}, index=pd.Index(self.tasks, name="task"))
        tasks.to_parquet(self.root / lerobot.TASKS)
        write_json(self.root / lerobot.STATS, {name: found.result() for name, found in self.statistics.items()})
        write_json(self.root / lerobot.INFO, self._info())
        columns, features = self.stream.columns, self.features
        arrays = {name: {"feature": features.get(name, name), "shape": columns[name].shape} for name in columns}
        write_json(self.root / lerobot.OURS, {"schema": SCHEMA, "arrays": arrays, "meta": self.stream.meta})

    def _info(self) -> dict:
        everything = self.columns | lerobot.INDEX
        features = {self.features.get(name, name): self._feature(name, everything[name]) for name in everything}
        return {
            "codebase_version": lerobot.VERSION, "robot_type": self.stream.meta.get("robot_type"), "fps": self.fps,
            "total_episodes": len(self.episodes), "total_frames": self.stream.n_steps, "total_tasks": len(self.tasks),
            # Where the library begins a new folder or file if somebody adds episodes; its own values.
            "chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{len(self.episodes)}"}, "data_path": lerobot.DATA_PATH,
            "video_path": lerobot.VIDEO_PATH if self.videos else None, "features": features,
        }  # fmt: skip

    def _feature(self, name: str, column: Column) -> dict:
        if not column.is_picture:
            names = (self.stream.meta.get("names") or {}).get(name)
            return {"dtype": column.dtype.name, "shape": list(column.shape or (1,)), "names": names}
        (height, width, channels), kind = column.shape, "video" if self.videos else "image"
        said = {"dtype": kind, "shape": list(column.shape), "names": ["height", "width", "channels"]}
        return said if kind == "image" else said | {"info": {
            "video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False, "video.fps": self.fps, "video.channels": channels, "has_audio": False,
        }}  # fmt: skip


def _whole_fps(fps: object) -> int:
    if not isinstance(fps, (int, float)) or not 0 < fps < 1e6 or fps != round(fps):
        needed = "LeRobot needs a whole number of frames a second"
        raise UserError(f"{needed}, and the data set says {fps}; give one, as in --fps 10")
    return round(fps)


def _dense(part: np.ndarray):
    """(n,) or (n, 1) as plain numbers, (n, D) as lists of fixed size, more axes as lists of lists."""
    import pyarrow as pa

    shape = part.shape[1:]
    values = pa.array(np.ascontiguousarray(part).reshape(-1))
    if shape in ((), (1,)):
        return values
    if len(shape) == 1:
        return pa.FixedSizeListArray.from_arrays(values, shape[0])
    for size in reversed(shape):  # what its library writes for several axes
        values = pa.ListArray.from_arrays(np.arange(0, len(values) + 1, size, dtype=np.int32), values)
    return values


def _pictures(part: np.ndarray):
    import pyarrow as pa
    from PIL import Image

    encoded = []
    for picture in part:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    return pa.array(encoded, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
