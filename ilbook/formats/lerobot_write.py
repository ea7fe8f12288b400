"""Write LeRobotDataset v3.0 with pyarrow: many episodes to a file, a row group for each block, videos if asked for.

Pictures become PNG inside the table by default, because that loses nothing; `video=True` encodes them as h264, about
a tenth of the size, with small errors.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ilbook.data import video
from ilbook.data.files import SCHEMA, write_json
from ilbook.errors import UserError
from ilbook.formats import lerobot
from ilbook.formats.statistics import PictureStatistics, Statistics
from ilbook.formats.stream import Block, Column, Stream

DATA_MB, VIDEO_MB = 100, 200  # a file is closed once it is larger, at the end of an episode
CHUNK_FILES = 1000  # files in one folder
INT = Column(np.dtype(np.int64), ())
DEFAULT_TASK = "demonstration"


def write(stream: Stream, path: Path, video: bool = False) -> None:
    """Write a stream with `meta["fps"]`; `video` makes h264 videos of the pictures, else they are stored exactly."""
    _Writer(stream, path, video).run()


class _Writer:
    def __init__(self, stream: Stream, root: Path, as_video: bool):
        self.stream, self.root, self.fps = stream, root, _whole_fps(stream.meta.get("fps"))
        self.tasks = [str(task) for task in stream.meta.get("tasks") or [DEFAULT_TASK]]
        self.columns = dict(stream.columns)
        # An array 'task_index' says which of the task texts each step belongs to.
        self.has_index = bool(stream.meta.get("tasks")) and self.columns.get("task_index") == INT
        if self.has_index:
            del self.columns["task_index"]
        self.features = lerobot.features_of(self.columns)
        self.videos = [name for name, column in self.columns.items() if column.is_picture and as_video]
        for name, column in self.columns.items():
            if name in self.videos and (column.shape[0] % 2 or column.shape[1] % 2):
                size = f"{column.shape[0]} x {column.shape[1]}"
                raise UserError(f"array '{name}' is {size}; videos need even sizes: leave out --video")
        self.statistics = {name: Statistics() for name in lerobot.INDEX} | {
            self.features[name]: PictureStatistics() if column.is_picture else Statistics()
            for name, column in self.columns.items()
        }
        self.rows: list[dict] = []  # of the table of episodes

    def run(self) -> None:
        (self.root / "meta").mkdir(parents=True)
        table = _Table(self.root, lerobot.DATA_PATH, DATA_MB)
        movies = {name: _Movie(self.root, self.features[name], self.fps) for name in self.videos}
        try:
            for block in self.stream.blocks():
                if block.episode == len(self.rows):
                    start, end = int(self.stream.starts[block.episode]), int(self.stream.ends[block.episode])
                    row = {"episode_index": block.episode, "tasks": set(), "length": end - start}
                    row |= {"dataset_from_index": start, "dataset_to_index": end}
                    for files in (table, *movies.values()):
                        row |= files.begin(end - start)
                    self.rows.append(row)
                table.add(self._columns(block))
                for name, movie in movies.items():
                    movie.add(block.arrays[name])
            for files in (table, *movies.values()):
                files.close()
        except BaseException:
            for files in (table, *movies.values()):
                files.stop()
            raise
        self._write_meta()

    def _columns(self, block: Block) -> dict:
        """The columns of the table for a block; what the statistics need of it is taken."""
        import pyarrow as pa

        values, index = {}, self._index(block)
        for name, column in self.columns.items():
            feature, part = self.features[name], block.arrays[name]
            self.statistics[feature].add(part)
            if name not in self.videos:
                values[feature] = _pictures(part) if column.is_picture else _dense(part)
        for name, part in index.items():
            self.statistics[name].add(part)
            values[name] = pa.array(part)
        self.rows[-1]["tasks"].update(np.unique(index["task_index"]).tolist())
        return values

    def _index(self, block: Block) -> dict[str, np.ndarray]:
        """The columns that every frame has."""
        n = len(block.arrays["action"])
        whole = np.arange(block.start, block.start + n)
        frame = whole - self.rows[-1]["dataset_from_index"]
        task = block.arrays["task_index"] if self.has_index else np.zeros(n, np.int64)
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
        write_json(self.root / lerobot.STATS, {name: found.result() for name, found in self.statistics.items()})
        write_json(self.root / lerobot.INFO, self._info())
        arrays = {
            name: {"feature": self.features.get(name, name), "shape": list(column.shape)}
            for name, column in self.stream.columns.items()
        }
        write_json(self.root / lerobot.OURS, {"schema": SCHEMA, "arrays": arrays, "meta": self.stream.meta})

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


class _Files:
    """A series of files of whole episodes; where the last one has become large, the next episode begins a new one."""

    def __init__(self, root: Path, pattern: str, most_mb: int):
        self._root, self._pattern, self._most = root, pattern, most_mb * 2**20
        self._number, self._writer = -1, None

    def begin(self, length: int) -> dict:
        """Choose the file of an episode of so many steps; returns what the table of episodes says of it."""
        # An encoder makes its file with a delay.
        if self._writer is not None and (self._path.stat().st_size if self._path.exists() else 0) >= self._most:
            self.close()
        if self._writer is None:
            self._number += 1
        place = dict(zip(("chunk_index", "file_index"), divmod(self._number, CHUNK_FILES), strict=True))
        self._path = self._root / self._pattern.format(**place)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return place

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    stop = close


class _Table(_Files):
    def begin(self, length: int) -> dict:
        return {f"data/{key}": value for key, value in super().begin(length).items()}

    def add(self, values: dict) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(values)
        if self._writer is None:
            # Dictionaries help repeated values only; positions do not repeat.
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy", use_dictionary=False)
        self._writer.write_table(table)


class _Movie(_Files):
    """The films of one camera."""

    def __init__(self, root: Path, feature: str, fps: int):
        super().__init__(root, lerobot.VIDEO_PATH.replace("{video_key}", feature), VIDEO_MB)
        self._key, self._fps = f"videos/{feature}", fps

    def begin(self, length: int) -> dict:
        place = super().begin(length)
        first = 0 if self._writer is None else self._frames
        self._frames = first + length  # in this file
        place |= {"from_timestamp": first / self._fps, "to_timestamp": self._frames / self._fps}
        return {f"{self._key}/{key}": value for key, value in place.items()}

    def add(self, frames: np.ndarray) -> None:
        if self._writer is None:
            self._writer = video.Writer(self._path, *frames.shape[1:3], self._fps)
        self._writer.add(frames)

    def stop(self) -> None:
        if self._writer is not None:
            self._writer.stop()


def _whole_fps(fps: object) -> int:
    if not isinstance(fps, (int, float)) or not 0 < fps < 1e6 or fps != round(fps):
        raise UserError(
            f"LeRobot needs a whole number of frames a second, and the data set says {fps}; give one, as in --fps 10"
        )
    return round(fps)


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
