"""Make the shipped demonstrations: `ilbook data make pusht`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from ilbook import experts, tasks
from ilbook.data import files, manifest, video
from ilbook.data.manifest import FILM_EPISODES, FILM_SIDE
from ilbook.errors import UserError, unknown
from ilbook.paths import root
from ilbook.rollout import record

QUALITY = 26  # constant rate factor of the films: the mean error stays under two of 255 grey levels
KEY_FRAMES = 250  # the films are read from the beginning, so few frames need to stand alone


@dataclass(frozen=True)
class Recipe:
    """How one shipped data set is made."""

    task: str
    n: int  # demonstrations
    seed: int
    what: str  # for the data page
    skill: str | None = None  # a grade: three operators of that skill; None: the expert's own human style
    pixels: bool = False  # with a picture of every step


RECIPES = {
    "avoid": Recipe("avoid", 240, 0, "Ten demonstrations of each of the 24 ways."),
    "insert_50": Recipe("insert", 50, 1, "Few demonstrations of a precise insertion: their clone has much to learn."),
    "insert_500": Recipe("insert", 500, 2, "Ten times as many insertions: how far do more data alone bring a clone?"),
    "pickplace": Recipe("pickplace", 200, 0, "An SO-101 arm brings a cube to its target."),
    "pickplace_pixels": Recipe("pickplace", 100, 1, "The same with a 96 x 96 picture of every step.", pixels=True),
    "pusht": Recipe("pusht", 500, 0, "One operator with human speed, pauses and slips."),
    "pusht_better": Recipe("pusht", 150, 3, "Three skilled operators, 50 demonstrations each.", "better"),
    "pusht_okay": Recipe("pusht", 150, 3, "Three operators of middling skill, 50 demonstrations each.", "okay"),
    "pusht_worse": Recipe("pusht", 150, 3, "Three clumsy operators, 50 demonstrations each.", "worse"),
}


def make(name: str, out: str | Path | None = None, seed: int | None = None, n: int | None = None) -> Path:
    """Have the expert demonstrate what a recipe says; the file, which without `out` is shipped and listed."""
    if name not in RECIPES:
        raise unknown("data set", name, RECIPES)
    recipe = RECIPES[name]
    n, seed = recipe.n if n is None else n, recipe.seed if seed is None else seed
    if n < 1 or seed < 0:
        raise UserError(f"cannot make {n} demonstrations with seed {seed}; both must be positive (a seed may be 0)")
    relative = f"demos/{recipe.task}/{name}.npz"
    file = root() / "data" / relative if out is None else Path(out)
    if file.suffix != ".npz":
        raise UserError(f"{file.name}: demonstrations are written as .npz; name it {file.stem}.npz")
    expert = experts.get(recipe.task)
    if recipe.skill is None:
        generator, episodes = f"demonstrate, {recipe.task}", record.demonstrate(expert, n, seed)
    else:
        generator = f"demonstrate_graded, {recipe.task}, {recipe.skill}"
        episodes = record.demonstrate_graded(expert, n, seed, recipe.skill)
    files.save(file, episodes)
    videos = _films(file, recipe.task) if recipe.pixels else []
    if out is None:
        entry = {
            "file": relative,
            "task": recipe.task,
            "sha256": manifest.sha256(file),
            "bytes": file.stat().st_size + sum(video.stat().st_size for video in videos),
            "episodes": len(episodes),
            "steps": episodes.n_steps,
            "generator": f"ilbook.rollout.record.{generator}",
            "seed": seed,
            "engine": f"mujoco {mujoco.__version__}",
        }
        frames = {"frames": {video.name: manifest.sha256(video) for video in videos}} if videos else {}
        manifest.record(name, entry | frames)
    return file


def _films(file: Path, task_name: str) -> list[Path]:
    """Draw every state of the episodes in `file` and write the films beside it; returns them in order."""
    task, episodes = tasks.get(task_name), files.read(file)
    films = []
    for first in range(0, len(episodes), FILM_EPISODES):
        part = episodes.select(range(first, min(first + FILM_EPISODES, len(episodes))))
        films.append(file.with_name(f"{file.stem}_{first // FILM_EPISODES:02d}.mp4"))
        writer = video.Writer(films[-1], FILM_SIDE, FILM_SIDE, round(task.control_hz), QUALITY, KEY_FRAMES)
        writer.add(task().render(part["state"].astype(np.float64), FILM_SIDE))
        writer.close()
    return films
