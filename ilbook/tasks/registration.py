"""Makes the tasks Gymnasium ids without importing anything: Gymnasium itself reads no entry points of packages."""

import re
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

from ilbook import tasks


def gym_ids() -> dict[str, str]:
    """Gymnasium id of each task, read from its text: importing the task would import mujoco."""
    found = {}
    for name in tasks.names():
        text = (tasks.FOLDER / f"{name}.py").read_text(encoding="utf-8")
        found[name] = re.search(r'^    gym_id = "(.+)"$', text, re.MULTILINE)[1]
    return found


def register() -> None:
    """Tell Gymnasium about every task that it does not know yet."""
    import gymnasium

    for name, gym_id in gym_ids().items():
        if gym_id not in gymnasium.registry:
            gymnasium.register(
                gym_id,
                entry_point="ilbook.tasks.gym:TaskEnv",
                vector_entry_point="ilbook.tasks.gym:TaskVectorEnv",
                kwargs={"task": name},
            )


def register_with_gymnasium() -> None:
    """Register the tasks now if Gymnasium is already imported, else as soon as it is."""
    if "gymnasium" in sys.modules:
        register()
    elif not any(isinstance(finder, _AfterGymnasium) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterGymnasium())


class _AfterGymnasium(MetaPathFinder):
    """Finds gymnasium as Python would, and registers the tasks once its import has finished."""

    def find_spec(self, fullname, path=None, target=None):
        spec = PathFinder.find_spec(fullname) if fullname == "gymnasium" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register()

        spec.loader.exec_module = exec_module
        return spec
