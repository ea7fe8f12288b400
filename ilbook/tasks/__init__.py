"""Simulated tasks: each one is a module and a MuJoCo model of the same name in this folder; nothing else lists them.

Code whose results are kept imports the class it uses, so that they depend on that task alone; `get` is for names that
someone types.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from ilbook import used
from ilbook.errors import unknown

if TYPE_CHECKING:
    from ilbook.tasks.base import Task

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The tasks, in alphabetical order."""
    return sorted(model.stem for model in FOLDER.glob("*.xml") if model.with_suffix(".py").exists())


def get(name: str) -> type[Task]:
    """The class of a task; a UserError for a name that does not exist."""
    task = find(name)
    used.note(f"tasks.{name}")
    return task


def find(name: str) -> type[Task]:
    """`get` for those who only list tasks: nothing counts as used."""
    if name not in names():
        raise unknown("task", name, names())
    module = pkgutil.resolve_name(f"{__name__}.{name}")  # imports mujoco
    return next(value for value in vars(module).values() if isinstance(value, type) and vars(value).get("name") == name)


def describe() -> list[dict]:
    """One row per task for `ilbook tasks`: name, gym_id, sizes of observation and action, hz, max_steps, summary, and
    perturbations with what strength 1 of each does.
    """
    rows = []
    for task in map(find, names()):
        sizes = {"obs": len(task.obs_names), "action": len(task.action_low)}
        timing = {"hz": task.control_hz, "max_steps": task.max_steps}
        texts = {"summary": task.__doc__.partition("\n")[0], "perturbations": dict(task.perturbations)}
        rows.append({"name": task.name, "gym_id": task.gym_id, **sizes, **timing, **texts})
    return rows
