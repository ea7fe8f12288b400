"""The pictures of a shipped data set: one small film for every few episodes, decoded when the set is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ilbook import tasks
from ilbook.data import files, video
from ilbook.data.episodes import Episodes

SIDE = 96  # pixels, as everywhere in the literature
EPISODES = 20  # in one film, which keeps each file far below two megabytes
QUALITY = 26  # constant rate factor: the mean error stays under two of 255 grey levels
KEY_FRAMES = 250  # the films are read from the beginning, so few frames need to stand alone


def make(file: Path, task_name: str) -> list[Path]:
    """Draw every state of the episodes in `file` and write the films beside it; returns them in order."""
    task, episodes = tasks.get(task_name), files.read(file)
    films = []
    for first in range(0, len(episodes), EPISODES):
        part = episodes.select(range(first, min(first + EPISODES, len(episodes))))
        path = file.with_name(f"{file.stem}_{first // EPISODES:02d}.mp4")
        drawn = task(1).render(part["state"].astype(np.float64), SIDE)
        writer = video.Writer(path, SIDE, SIDE, round(task.control_hz), QUALITY, KEY_FRAMES)
        writer.add(drawn)
        writer.close()
        films.append(path)
    return films


def read(films: Sequence[Path], episodes: Episodes, fps: float) -> np.ndarray:
    """A frame for every step of the episodes: (T, 96, 96, 3) uint8."""
    frames = []
    for first, film in zip(range(0, len(episodes), EPISODES), films, strict=True):
        steps = int(episodes.lengths[first : first + EPISODES].sum())
        reader = video.Reader(film, film.name, (SIDE, SIDE, 3), fps)
        try:
            frames.append(reader.take(steps, f"the {steps} steps of its episodes"))
        finally:
            reader.close()
    return np.concatenate(frames)
