"""The tasks as Gymnasium environments of one copy each; `gymnasium.make_vec` puts several side by side.

Importing this module registers them; `gymnasium.make("ilbook.tasks.gym:ilbook/PushT-v0")` imports it first.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from ilbook import tasks, used
from ilbook.errors import UserError, unknown
from ilbook.tasks.base import PIXELS, Task

SEEN = {"pixels": "image", "environment_state": "obs", "agent_pos": "state"}  # LeRobot's names -> `Simulation.see`'s
OBS_TYPES = ("state", "environment_state_agent_pos", "pixels", "pixels_agent_pos")  # with the names of `SEEN`


class TaskEnv(gymnasium.Env):
    """One copy of a task: a name, a `Task`, or values of the `registered` one, such as `{"shift": {"lag": 1.0}}`.

    The action is a position in metres, the reward how good the situation is, in [0, 1]. `gymnasium.make` ends episodes
    at `max_episode_steps`; made directly, or with a task of fewer `max_steps` than the registered one, it does so here.
    `reset(options={"start_seed": k})` starts where `rollout.evaluate` starts for the seed k.
    """

    metadata: ClassVar[dict] = {"render_modes": ["rgb_array"]}

    def __init__(
        self, task: str | Task | Mapping, obs_type: str = "state", render_mode: str | None = None, registered: str = ""
    ):
        if obs_type not in OBS_TYPES:
            raise unknown("obs_type", obs_type, OBS_TYPES)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise unknown("render_mode", render_mode, self.metadata["render_modes"])
        used.note("tasks.gym")
        if isinstance(task, Mapping):  # what a task becomes in the JSON of a spec, too
            kind = tasks.get(registered)
            names = [field.name for field in fields(kind)]
            for name in task.keys() - {*names}:
                raise unknown(f"value of {kind.name}", name, names)
            task = kind(**task)
        self.task = task = tasks.get(task)() if isinstance(task, str) else task
        if not isinstance(task, Task):
            raise UserError(f"task is {task!r}; give its name, its values, or a task such as PushT()")
        self.task_description = inspect.getdoc(type(task)).partition("\n")[0]  # for policies that follow instructions
        self.sim, self.render_mode = task.batch(), render_mode
        self._shown = [name for name in SEEN if name in obs_type] or ["environment_state"]
        if registered:  # Gymnasium's TimeLimit ends the episodes, and may have been told another number of steps
            kind = tasks.find(registered)
            if task.name != kind.name:
                raise UserError(f"{kind.gym_id} makes no {task.name}; make {task.gym_id}")
            if task.max_steps > kind.max_steps:
                cut = f"Gymnasium would end the episodes of max_steps={task.max_steps} after {kind.max_steps} steps"
                mend = f"leave out max_steps and give gymnasium.make max_episode_steps={task.max_steps}"
                raise UserError(f"{kind.gym_id}: {cut}; {mend}")
            if task.max_steps == kind.max_steps:
                self.sim.max_steps = math.inf
        self.metadata = {**self.metadata, "render_fps": round(task.control_hz)}
        sizes = {"environment_state": len(task.obs_names), "agent_pos": self.sim.nu}
        boxes = {name: Box(-task.obs_limit, task.obs_limit, (size,), np.float64) for name, size in sizes.items()}
        boxes["pixels"] = Box(0, 255, (PIXELS, PIXELS, 3), np.uint8)
        self.observation_space = self._named(boxes, Dict)
        self.action_space = Box(task.action_low.astype(np.float32), task.action_high.astype(np.float32))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray | dict, dict]:
        """A new episode, from a random start unless `options` names one; other people's options, as LeRobot's, pass."""
        super().reset(seed=seed)
        options = options or {}
        for name in get_close_matches("start_seed", options.keys() - {"start_seed"}):
            raise unknown("reset option", name, ["start_seed"])
        wanted = options.get("start_seed", 0)
        if not isinstance(wanted, int | np.integer) or wanted < 0:
            raise UserError(f"start_seed is {wanted!r}; give a whole number from 0 up")
        named = "start_seed" in options
        self.sim.reset(self.task.starts([wanted]) if named else self.task.start(self.np_random)[None])
        return self._now()

    def step(self, action: np.ndarray) -> tuple[np.ndarray | dict, float, bool, bool, dict]:
        """One control step. An action that is not finite ends the episode as a failure."""
        self.sim.step(np.asarray(action)[None])
        obs, info = self._now()
        return obs, self.sim.reward.item(), self.sim.terminated.item(), self.sim.truncated.item(), info

    def render(self) -> np.ndarray | None:
        """A picture (480, 480, 3), if the render mode asks for pictures."""
        return self.task.render(self.sim.state, 480)[0] if self.render_mode == "rgb_array" else None

    def _now(self) -> tuple[np.ndarray | dict, dict]:
        """What is seen, and the info; `is_success` is what Stable-Baselines3 and LeRobot call `success`."""
        seen = self.sim.see([SEEN[name] for name in self._shown])
        obs = {name: seen[SEEN[name]][0] for name in self._shown}
        if "agent_pos" in obs:
            obs["agent_pos"] = obs["agent_pos"][: self.sim.nu]  # states begin with what the actions move
        columns = {"success": self.sim.success, "score": self.sim.score, **self.sim.info()}
        info = {name: column.item() for name, column in columns.items()}
        return self._named(obs, dict), {**info, "is_success": info["success"]}

    def _named(self, parts: dict, kind: type) -> object:
        """What is shown of these parts: one alone as it is, several by their names."""
        return parts[self._shown[0]] if len(self._shown) == 1 else kind({name: parts[name] for name in self._shown})


for _task in map(tasks.find, tasks.names()):
    _made = {"task": _task.name, "registered": _task.name}
    gymnasium.register(_task.gym_id, f"{__name__}:TaskEnv", max_episode_steps=_task.max_steps, kwargs=_made)
