"""Scripted demonstrators: the module of a task's name holds the one that solves it; nothing else lists them."""

import pkgutil
from pathlib import Path

from ilbook import tasks, used
from ilbook.errors import unknown


def names() -> list[str]:
    """The tasks that have an expert, in alphabetical order."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem in tasks.names())


def get(name: str) -> type:
    """The class of a task's expert (an `Expert`); a UserError for a task that has none."""
    if name not in names():
        raise unknown("task with an expert", name, names())
    used.note(f"experts.{name}")
    module = pkgutil.resolve_name(f"{__name__}.{name}")
    return next(kind for kind in vars(module).values() if isinstance(kind, type) and "task" in vars(kind))
