"""Write LeRobotDataset v3.0 with pyarrow: many episodes to a file, a row group for each block, videos if asked for.

Pictures become PNG inside the table by default, because that loses nothing; `video=True` encodes them as h264, about
a tenth of the size, with small errors.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from ilbook.data import files, video
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.statistics import PictureStatistics, Statistics
from ilbook.formats.stream import Block, Column, Stream

DATA_MB, VIDEO_MB = 100, 200  # a file is closed once it is larger, at the end of an episode
CHUNK_FILES = 1000  # files in one folder
MOST_AXES = 5  # of a feature
DEFAULT_TASK = "demonstration"


def write(stream: Stream, path: Path, video: bool = False) -> None:
    """Write a stream with `meta["fps"]`; `video` makes h264 videos of the pictures, else they are stored exactly."""
    _Writer(stream, path, video).run()


class _Writer:
    def __init__(self, stream: Stream, root: Path, as_video: bool):
        self.stream, self.root, self.fps = stream, root, _whole_fps(stream.meta.get("fps"))
        self.tasks = [str(task) for task in stream.meta.get("tasks") or [DEFAULT_TASK]]
        columns = dict(stream.columns)
        self.task_array = "task_index" if _is_task_index(stream) else None
        if self.task_array:
            columns.pop(self.task_array)
        self.columns, self.features = columns, lerobot.features_of(columns)
        self.videos = [name for name, column in columns.items() if column.is_picture and as_video]
        for name, column in columns.items():
            if len(column.shape) > MOST_AXES:
                raise UserError(f"array '{name}' has {len(column.shape)} axes at each step; LeRobot takes {MOST_AXES}")
            if name in self.videos and (column.shape[0] % 2 or column.shape[1] % 2):
                size = f"{column.shape[0]} x {column.shape[1]}"
                raise UserError(f"array '{name}' is {size}; videos need even sizes: leave out --video")
        self.statistics = {self.features[name]: _statistics(column) for name, column in columns.items()}
        self.statistics |= {name: Statistics() for name in lerobot.INDEX}
        self.rows: list[dict] = []  # of the table of episodes
        self._table, self._place, self._size = None, [0, 0], 0
        self._movies: dict[str, _Movie] = {name: _Movie(root, self.features[name], self.fps) for name in self.videos}

    def run(self) -> None:
        (self.root / "meta").mkdir(parents=True)
        try:
            for block in self.stream.blocks():
                if block.episode == len(self.rows):
                    self._begin(block.episode)
                self._add(block)
            self._close_table()
            for movie in self._movies.values():
                movie.close()
        finally:
            if self._table is not None:
                self._close_table()
            for movie in self._movies.values():
                movie.stop()
        self._write_meta()

    def _begin(self, episode: int) -> None:
        """Choose the files of the next episode."""
        start = int(self.stream.ends[episode - 1]) if episode else 0
        end = int(self.stream.ends[episode])
        if self._table is not None and self._sink.tell() >= DATA_MB * 2**20:
            self._close_table()
            self._place = _after(self._place)
        row = {
            "episode_index": episode,
            "tasks": set(),
            "length": end - start,
            "data/chunk_index": self._place[0],
            "data/file_index": self._place[1],
            "dataset_from_index": start,
            "dataset_to_index": end,
        }
        for name, movie in self._movies.items():
            movie.begin(self.columns[name], end - start)
            row |= movie.row
        self.rows.append(row)

    def _add(self, block: Block) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        n = len(next(iter(block.arrays.values())))
        index = self._index(block, n)
        values, fields = {}, {}
        for name, column in self.columns.items():
            feature, part = self.features[name], block.arrays[name]
            self.statistics[feature].add(part)
            if name in self.videos:
                self._movies[name].add(part)
            else:
                values[feature] = _pictures(part) if column.is_picture else _dense(part)
        for name, part in index.items():
            self.statistics[name].add(part)
            values[name] = pa.array(part)
        self.rows[-1]["tasks"].update(np.unique(index["task_index"]).tolist())
        fields = pa.schema([(name, array.type) for name, array in values.items()])
        if self._table is None:
            chunk, file = self._place
            target = self.root / lerobot.DATA_PATH.format(chunk_index=chunk, file_index=file)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._sink = target.open("wb")
            # Dictionaries help repeated values only; positions do not repeat.
            self._table = pq.ParquetWriter(self._sink, fields, compression="snappy", use_dictionary=False)
        self._table.write_table(pa.Table.from_arrays(list(values.values()), schema=fields))

    def _index(self, block: Block, n: int) -> dict[str, np.ndarray]:
        """The columns that every frame has."""
        whole = np.arange(block.start, block.start + n)
        frame = whole - self.rows[-1]["dataset_from_index"]
        task = np.zeros(n, np.int64)
        if self.task_array:
            task = block.arrays[self.task_array].astype(np.int64)
            if (bad := np.flatnonzero((task < 0) | (task >= len(self.tasks)))).size:
                raise UserError(
                    f"array 'task_index', row {block.start + bad[0]}: {task[bad[0]]} is not one of the "
                    f"{len(self.tasks)} tasks"
                )
        return {
            "timestamp": (frame / self.fps).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(n, block.episode),
            "index": whole,
            "task_index": task,
        }

    def _close_table(self) -> None:
        if self._table is not None:
            self._table.close()
            self._sink.close()
            self._table = None

    def _write_meta(self) -> None:
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [
            {**row, "tasks": [self.tasks[task] for task in sorted(row["tasks"])],
             "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
            for row in self.rows
        ]  # fmt: skip
        target = self.root / lerobot.EPISODES / "chunk-000" / "file-000.parquet"
        target.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), target)
        tasks = pd.DataFrame({"task_index": range(len(self.tasks))}, index=pd.Index(self.tasks, name="task"))
        tasks.to_parquet(self.root / lerobot.TASKS)
        _json(self.root / lerobot.STATS, {name: found.result() for name, found in self.statistics.items()})
        _json(self.root / lerobot.INFO, self._info())
        arrays = {
            name: {"feature": self.features.get(name, name), "dtype": column.dtype.name, "shape": list(column.shape)}
            for name, column in self.stream.columns.items()
        }
        _json(self.root / lerobot.OURS, {"schema": files.SCHEMA, "arrays": arrays, "meta": self.stream.meta})

    def _info(self) -> dict:
        features = {self.features[name]: self._feature(name, column) for name, column in self.columns.items()}
        features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in lerobot.INDEX.items()}
        return {
            "codebase_version": lerobot.VERSION,
            "robot_type": self.stream.meta.get("robot_type"),
            "total_episodes": len(self.rows),
            "total_frames": self.stream.n_steps,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.rows)}"},
            "data_path": lerobot.DATA_PATH,
            "video_path": lerobot.VIDEO_PATH if self.videos else None,
            "features": features,
        }

    def _feature(self, name: str, column: Column) -> dict:
        if not column.is_picture:
            names = (self.stream.meta.get("names") or {}).get(name)
            return {"dtype": column.dtype.name, "shape": list(column.shape or (1,)), "names": names}
        said = {"dtype": "image", "shape": list(column.shape), "names": ["height", "width", "channels"]}
        if name in self.videos:
            height, width, channels = column.shape
            said |= {"dtype": "video", "info": {
                "video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False, "video.fps": self.fps, "video.channels": channels, "has_audio": False,
            }}  # fmt: skip
        return said


class _Movie:
    """The video files of one camera: whole episodes one after the other, a new file when one is large."""

    def __init__(self, root: Path, feature: str, fps: int):
        self._root, self._feature, self._fps = root, feature, fps
        self._place, self._frames, self._writer = [0, 0], 0, None
        self.row: dict = {}  # of the current episode, for the table of episodes

    def begin(self, column: Column, length: int) -> None:
        if self._writer is not None and self._writer.size() >= VIDEO_MB * 2**20:
            self.close()
            self._place, self._frames = _after(self._place), 0
        if self._writer is None:
            chunk, file = self._place
            said = lerobot.VIDEO_PATH.format(video_key=self._feature, chunk_index=chunk, file_index=file)
            self._writer = video.Writer(self._root / said, *column.shape[:2], self._fps)
        key = f"videos/{self._feature}"
        self.row = {
            f"{key}/chunk_index": self._place[0],
            f"{key}/file_index": self._place[1],
            f"{key}/from_timestamp": self._frames / self._fps,
            f"{key}/to_timestamp": (self._frames + length) / self._fps,
        }
        self._frames += length

    def add(self, frames: np.ndarray) -> None:
        self._writer.add(frames)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def stop(self) -> None:
        if self._writer is not None:
            self._writer.stop()
            self._writer = None


def _whole_fps(fps: object) -> int:
    if not isinstance(fps, (int, float)) or isinstance(fps, bool) or not 0 < fps < 1e6:
        raise UserError(
            "the data set does not say its frames per second, which LeRobot needs; give them, as in --fps 10"
        )
    if fps != round(fps):
        raise UserError(f"the data set has {fps:g} frames a second; LeRobot takes whole numbers: give one with --fps")
    return round(fps)


def _is_task_index(stream: Stream) -> bool:
    """Whether an array 'task_index' says which of the task texts each step belongs to."""
    column = stream.columns.get("task_index")
    return column is not None and column.shape == () and column.dtype == np.int64 and bool(stream.meta.get("tasks"))


def _after(place: list[int]) -> list[int]:
    chunk, file = place
    return [chunk, file + 1] if file + 1 < CHUNK_FILES else [chunk + 1, 0]


def _statistics(column: Column) -> Statistics | PictureStatistics:
    return PictureStatistics() if column.is_picture else Statistics()


def _dense(part: np.ndarray):
    """(n,) or (n, 1) as plain numbers, (n, D) as lists of fixed size, more axes as lists of lists."""
    import pyarrow as pa

    shape = part.shape[1:]
    if shape in ((), (1,)):
        return pa.array(part.reshape(-1))
    values = pa.array(np.ascontiguousarray(part).reshape(-1))
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


def _json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
