"""Simulated tasks: each one is a module and a MuJoCo model of the same name in this folder; nothing else lists them.

Code whose results are kept imports the class it uses, so that they depend on that task alone; `get` is for names that
someone types.
"""

import pkgutil
from pathlib import Path

from ilbook import used
from ilbook.errors import unknown

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The tasks, in alphabetical order."""
    return sorted(model.stem for model in FOLDER.glob("*.xml") if model.with_suffix(".py").exists())


def get(name: str) -> type:
    """The class of a task (a `Task`); a UserError for a name that does not exist."""
    task = find(name)
    used.note(f"tasks.{name}")
    return task


def find(name: str) -> type:
    """`get` for those who only list tasks: nothing counts as used."""
    if name not in names():
        raise unknown("task", name, names())
    module = pkgutil.resolve_name(f"{__name__}.{name}")  # imports mujoco
    return next(value for value in vars(module).values() if isinstance(value, type) and vars(value).get("name") == name)
