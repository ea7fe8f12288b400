"""Make the shipped demonstrations: `ilbook data make pusht`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import mujoco

from ilbook import tasks
from ilbook.data import files, manifest
from ilbook.errors import UserError
from ilbook.profile import root

# How many demonstrations are shipped, and the seed they are made with.
SHIPPED = {"avoid": (240, 0), "pusht": (500, 0)}


def make(task: str, out: str | Path | None = None, seed: int | None = None, n: int | None = None) -> Path:
    """Have the task's expert demonstrate and write the episodes; returns the file.

    Without `out` the file is the shipped one and the manifest is updated.
    """
    tasks.get(task)  # a wrong name is refused with the nearest valid one
    shipped_n, shipped_seed = SHIPPED[task]
    n, seed = shipped_n if n is None else n, shipped_seed if seed is None else seed
    if n < 1 or seed < 0:
        raise UserError(f"cannot make {n} demonstrations with seed {seed}; both must be positive (a seed may be 0)")
    relative = f"demos/{task}/{task}.npz"
    file = root() / "data" / relative if out is None else Path(out)
    if file.suffix != ".npz":
        raise UserError(f"{file.name}: demonstrations are written as .npz; name it {file.stem}.npz")
    episodes = import_module(f"ilbook.experts.{task}").demonstrate(n, seed)
    files.save(file, episodes)
    if out is None:
        manifest.record(
            task,
            {
                "file": relative,
                "task": task,
                "sha256": manifest.sha256(file),
                "bytes": file.stat().st_size,
                "episodes": len(episodes),
                "steps": episodes.n_steps,
                "generator": f"ilbook.experts.{task}.demonstrate",
                "seed": seed,
                "engine": f"mujoco {mujoco.__version__}",
            },
        )
    return file
