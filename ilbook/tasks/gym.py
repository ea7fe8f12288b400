"""The tasks as Gymnasium environments of one copy each; `gymnasium.make_vec` puts several side by side.

Importing this module registers them; `gymnasium.make("ilbook.tasks.gym:ilbook/PushT-v0")` imports it first.
"""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from ilbook import tasks, used
from ilbook.errors import UserError, unknown
from ilbook.tasks.base import PIXELS, Task

OBS_TYPES = {"state": "obs", "pixels": "image"}  # what `Simulation.see` calls them
PICTURE = 480  # side of what `render` returns


class TaskEnv(gymnasium.Env):
    """One copy of a task. The action is a position in metres, the reward how good the situation is, in [0, 1].

    `reset(options={"start_seed": k})` starts where `rollout.evaluate` starts for the seed k.
    """

    metadata: ClassVar[dict] = {"render_modes": ["rgb_array"]}

    def __init__(self, task: str | Task, obs_type: str = "state", render_mode: str | None = None):
        if obs_type not in OBS_TYPES:
            raise unknown("obs_type", obs_type, OBS_TYPES)
        used.note("tasks.gym")
        self.task = task = tasks.get(task)() if isinstance(task, str) else task
        self.sim, self.render_mode, self._shown = task.batch(), render_mode, OBS_TYPES[obs_type]
        self.metadata = {**self.metadata, "render_fps": round(task.control_hz)}
        pixels = Box(0, 255, (PIXELS, PIXELS, 3), np.uint8)
        numbers = Box(-task.obs_limit, task.obs_limit, (len(task.obs_names),), np.float64)
        self.observation_space = pixels if obs_type == "pixels" else numbers
        self.action_space = Box(task.action_low.astype(np.float32), task.action_high.astype(np.float32))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """A new episode, from a random start unless `options` names one."""
        super().reset(seed=seed)
        options = options or {}
        for name in options.keys() - {"start_seed"}:
            raise unknown("reset option", name, ["start_seed"])
        wanted = options.get("start_seed", 0)
        if not isinstance(wanted, int | np.integer) or wanted < 0:
            raise UserError(f"start_seed is {wanted!r}; give a whole number from 0 up")
        self.sim.reset(self.task.starts([wanted]) if options else self.task.start(self.np_random)[None])
        return self._now()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One control step. An action that is not finite ends the episode as a failure."""
        self.sim.step(np.asarray(action)[None])
        obs, info = self._now()
        judged = self.sim.reward, self.sim.terminated, self.sim.truncated
        return obs, *(column[0].item() for column in judged), info

    def render(self) -> np.ndarray | None:
        """A picture (480, 480, 3), if the render mode asks for pictures."""
        return self.task.render(self.sim.state, PICTURE)[0] if self.render_mode == "rgb_array" else None

    def _now(self) -> tuple[np.ndarray, dict]:
        """What is seen, (O,) or (96, 96, 3), and the info."""
        info = {"success": self.sim.success, "score": self.sim.score, **self.sim.info()}
        return self.sim.see([self._shown])[self._shown][0], {name: column[0].item() for name, column in info.items()}


for _task in map(tasks.find, tasks.names()):
    if _task.gym_id not in gymnasium.registry:
        gymnasium.register(_task.gym_id, entry_point=f"{__name__}:TaskEnv", kwargs={"task": _task.name})
