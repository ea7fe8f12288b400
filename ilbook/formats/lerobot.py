"""What reading and writing LeRobotDataset v3.0 share: the folder layout, and how arrays and features are named.

`action` <-> `action`, `state` <-> `observation.state`, `obs` <-> `observation.environment_state`, reward, done and
success <-> `next.NAME`, pictures <-> `observation.images.NAME`, everything else <-> `observation.NAME`. Files that we
write say in meta/ilbook.json which feature is which array, with its exact shape, so that a round trip changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ilbook.formats.stream import Column

NAME = "LeRobotDataset v3.0"
VERSION = "v3.0"
INFO, STATS, TASKS, OURS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/ilbook.json"
EPISODES = "meta/episodes"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
# Every frame has these; they follow from the episodes and the frame rate.
INDEX = {
    "timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64",
}  # fmt: skip
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
        if column.is_picture:
            feature = name if name.startswith(KEPT) else PICTURES + name
        else:
            feature = FEATURES.get(name, name if name.startswith(KEPT) else f"observation.{name}")
        feature = feature.replace("/", ".")  # the format forbids slashes
        while feature in named.values():
            feature += "_"
        named[name] = feature
    return named


def arrays_of(features: Iterable[str]) -> dict[str, str]:
    """Array -> feature for a data set that does not say; a name that is taken leaves the feature its own."""
    known = {feature: name for name, feature in FEATURES.items()}
    named: dict[str, str] = {}
    for feature in features:
        name = known.get(feature) or feature.removeprefix(PICTURES).removeprefix("observation.")
        named[feature if name in named else name] = feature
    return named
