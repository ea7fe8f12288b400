"""LeRobotDataset v3.0: names and places, shared by reader and writer (https://github.com/huggingface/lerobot).

Our array <-> its feature: action <-> `action`, state <-> `observation.state`, obs <-> `observation.environment_state`,
reward, done and success <-> `next.NAME`, pictures <-> `observation.images.NAME`, everything else <->
`observation.NAME`. Files that we write say in meta/ilbook.json which feature is which array, with its exact shape, so
that a round trip changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ilbook.formats.stream import Column

NAME = "LeRobotDataset v3.0"
VERSION = "v3.0"
INFO, STATS, TASKS, OURS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/ilbook.json"
EPISODES = "meta/episodes"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FIRST = {"chunk_index": 0, "file_index": 0}  # the place of the first file of its kind
INT, FLOAT = Column(np.dtype(np.int64), ()), Column(np.dtype(np.float64), ())
# Every frame has these; they follow from the episodes and the frame rate.
INDEX = {
    "timestamp": Column(np.dtype(np.float32), ()),
    **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), INT),
}
FEATURES = {
    "action": "action", "state": "observation.state", "obs": "observation.environment_state",
    "reward": "next.reward", "done": "next.done", "success": "next.success",
}  # fmt: skip
KEPT = ("observation.", "next.", "annotation.")  # arrays that already bear a feature's name
PICTURES = "observation.images."


def recognise(path: Path) -> bool:
    return path.is_dir() and ((path / INFO).is_file() or ((path / "meta").is_dir() and (path / "data").is_dir()))


def features_of(columns: dict[str, Column]) -> dict[str, str]:
    """Array -> feature, no two the same."""
    named: dict[str, str] = {}
    for name, column in columns.items():
        plain = PICTURES + name if column.is_picture else FEATURES.get(name, f"observation.{name}")
        feature = (name if name.startswith(KEPT) else plain).replace("/", ".")  # the format forbids slashes
        while feature in named.values():
            feature += "_"
        named[name] = feature
    return named


def arrays_of(features: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Array -> feature where nothing says it; a name that is taken leaves the feature its own."""
    known = {feature: name for name, feature in FEATURES.items()}
    named: dict[str, str] = {}
    for feature in features:
        name = known.get(feature) or feature.removeprefix(PICTURES).removeprefix("observation.")
        named[feature if name in named or name in taken else name] = feature
    return named
