"""The list of shipped demonstrations, data/manifest.json: what each file is, how it was made, and its hash."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np

from ilbook import used
from ilbook.data import files, video
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError, unknown
from ilbook.paths import root

FILM_SIDE = 96  # pixels, as everywhere in the literature
FILM_EPISODES = 20  # whose pictures are in one film, which keeps each file far below two megabytes


def path() -> Path:
    return root() / "data" / "manifest.json"


def entries() -> dict[str, dict]:
    """Name of each data set -> its entry; empty when nothing was made yet."""
    return files.read_json(path(), "data/manifest.json") if path().is_file() else {}


def record(name: str, entry: dict) -> None:
    """Add or replace one entry."""
    files.write_json(path(), dict(sorted({**entries(), name: entry}.items())))


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check() -> list[str]:
    """Compare every listed file with its hash and read it; returns the names, UserError for the first that differs."""
    listed = entries()
    for name, entry in listed.items():
        for path, digest in _files(entry).items():
            if not path.is_file() or sha256(path) != digest:
                shown = path.relative_to(root()).as_posix()
                raise UserError(f"{shown} is not the file that the manifest lists; 'ilbook data make {name}' makes it")
        _read(entry)
    if not listed:
        raise UserError("data/manifest.json lists no data set; make one with 'ilbook data make pusht'")
    return list(listed)


def load(name: str, pictures: bool = True) -> Episodes:
    """A shipped data set with its observations: arrays state (T, S), action (T, A), obs (T, O), float32, SI units. Some
    have more: operator (T,) int8, who demonstrated; image (T, 96, 96, 3) uint8, decoded only with `pictures`.
    """
    if (entry := entries().get(name)) is None:
        raise unknown("data set", name, entries())
    used.note(f"data:{name}")
    episodes, task = _read(entry)
    obs = task.observe(episodes["state"].astype(np.float64))
    episodes = episodes.with_array("obs", obs.astype(np.float32))
    _, *films = _files(entry)
    if pictures and films:
        episodes = episodes.with_array("image", _frames(films, episodes, round(task.control_hz)))
    return episodes


def _read(entry: dict) -> tuple[Episodes, type]:
    """The episodes of a set and the type of the task in which they were recorded."""
    from ilbook import tasks  # brings the simulator, which the list alone does not need

    task, (file, *_) = tasks.get(entry["task"]), _files(entry)
    return files.read(file, {"state": len(task.state_names), "action": len(task.action_low)}), task


def _files(entry: dict) -> dict[Path, str]:
    """The file of a set and its films, in order, each with its hash."""
    file = root() / "data" / entry["file"]
    films = {file.with_name(film): digest for film, digest in entry.get("frames", {}).items()}
    return {file: entry["sha256"], **films}


def _frames(films: list[Path], episodes: Episodes, fps: float) -> np.ndarray:
    """A frame for every step of the episodes: (T, 96, 96, 3) uint8."""
    frames = []
    for first, film in zip(range(0, len(episodes), FILM_EPISODES), films, strict=True):
        steps = int(episodes.lengths[first : first + FILM_EPISODES].sum())
        with closing(video.Reader(film, film.name, (FILM_SIDE, FILM_SIDE, 3), fps)) as reader:
            frames.append(reader.take(0, steps, f"the {steps} steps of its episodes"))
    return np.concatenate(frames)
