"""The tasks as Gymnasium environments: one copy, or many that the batched core steps together.

Importing this module registers them; `gymnasium.make("ilbook.tasks.gym:ilbook/PushT-v0")` imports it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ilbook import tasks, used
from ilbook.errors import UserError, unknown
from ilbook.tasks.base import Task
from ilbook.tasks.simulation import PIXELS, Simulation

OBS_TYPES = ("state", "pixels")
PICTURE = 480  # side of what `render` returns
RENDER_MODES = ["rgb_array"]


def _made(task: str | Task, n_copies: int, threads: int | None = None) -> Simulation:
    """A simulation of a task, which may be given by its name."""
    used.note("tasks.gym")
    return (tasks.get(task)() if isinstance(task, str) else task).batch(n_copies, threads)


def _spaces(task: Task, obs_type: str) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Observation and action space of one copy."""
    if obs_type not in OBS_TYPES:
        raise unknown("obs_type", obs_type, OBS_TYPES)
    if obs_type == "pixels":
        seen = gymnasium.spaces.Box(0, 255, (PIXELS, PIXELS, 3), np.uint8)
    else:
        seen = gymnasium.spaces.Box(-task.obs_limit, task.obs_limit, (len(task.obs_names),), np.float64)
    return seen, gymnasium.spaces.Box(task.action_low.astype(np.float32), task.action_high.astype(np.float32))


def _observe(sim: Simulation, obs_type: str) -> np.ndarray:
    """What all copies see: (N, O), or (N, 96, 96, 3)."""
    name = "obs" if obs_type == "state" else "image"
    return sim.see([name])[name]


def _info(sim: Simulation) -> dict[str, np.ndarray]:
    return {"success": sim.success.copy(), "score": sim.score.copy(), **sim.info()}


def _start_seeds(options: dict | None, n_copies: int, known: tuple[str, ...]) -> list[int] | None:
    """The seeds of the starts that `options` asks for, one per copy; a single number stands for all copies."""
    for name in options or {}:
        if name not in known:
            raise unknown("reset option", name, known)
    if not options or "start_seed" not in options:
        return None
    wanted = options["start_seed"]
    seeds = np.full(n_copies, wanted) if np.ndim(wanted) == 0 else np.asarray(wanted)
    if seeds.shape != (n_copies,) or not np.issubdtype(seeds.dtype, np.integer) or (seeds < 0).any():
        raise UserError(f"start_seed is {wanted!r}; give a whole number from 0 up, or {n_copies} of them, one per copy")
    return seeds.tolist()


class TaskEnv(gymnasium.Env):
    """One copy of a task. The action is a position in metres, the reward how good the situation is, in [0, 1].

    `reset(options={"start_seed": k})` starts where `rollout.evaluate` starts for the seed k.
    """

    metadata: ClassVar[dict] = {"render_modes": RENDER_MODES}

    def __init__(self, task: str | Task, obs_type: str = "state", render_mode: str | None = None):
        self.sim = _made(task, 1)
        self.task = self.sim.task
        self.obs_type, self.render_mode = obs_type, render_mode
        self.metadata = {**self.metadata, "render_fps": round(self.task.control_hz)}
        self.observation_space, self.action_space = _spaces(self.task, obs_type)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """A new episode, from a random start unless `options` names one."""
        super().reset(seed=seed)
        start_seeds = _start_seeds(options, 1, ("start_seed",))
        self.sim.reset(self.task.starts(start_seeds) if start_seeds else self.task.start(self.np_random)[None])
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
        info = {name: column[0].item() for name, column in _info(self.sim).items()}
        return _observe(self.sim, self.obs_type)[0], info


class TaskVectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` copies of a task, each with its own generator, stepped together in C++ threads.

    Gives the numbers that a SyncVectorEnv of as many `TaskEnv` would give. A copy that is done is reset by the next
    step, which ignores its action. The option "start_seed" is one number for all copies or one for each.
    """

    metadata: ClassVar[dict] = {"render_modes": RENDER_MODES, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        task: str | Task,
        num_envs: int = 1,
        obs_type: str = "state",
        render_mode: str | None = None,
        threads: int | None = None,
    ):
        self.sim = _made(task, num_envs, threads)
        self.task = self.sim.task
        self.num_envs, self.obs_type, self.render_mode = num_envs, obs_type, render_mode
        self.metadata = {**self.metadata, "render_fps": round(self.task.control_hz)}
        self.single_observation_space, self.single_action_space = _spaces(self.task, obs_type)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """New episodes for all copies, or those in `options["reset_mask"]`; `seed` s gives copy i the seed s + i."""
        start_seeds = _start_seeds(options, self.num_envs, ("start_seed", "reset_mask"))
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise UserError(f"reset_mask must be {self.num_envs} booleans, at least one of them True")
        index = np.flatnonzero(mask)
        seeds = [seed] * self.num_envs if seed is None else seed
        seeds = [seeds + i for i in range(self.num_envs)] if isinstance(seeds, int | np.integer) else list(seeds)
        if len(seeds) != self.num_envs:
            raise UserError(f"there are {len(seeds)} seeds for {self.num_envs} copies; give one for each")
        for i in index:
            if seeds[i] is not None:
                self._generators[i] = seeding.np_random(int(seeds[i]))[0]
        self._restart(index, [start_seeds[i] for i in index] if start_seeds else None)
        return _observe(self.sim, self.obs_type), self._infos()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One control step of every copy; those that were done before it start a new episode instead."""
        finished = self.sim.done
        self.sim.step(actions)  # leaves the finished ones alone
        if finished.any():
            self._restart(np.flatnonzero(finished))
        reward = np.where(finished, 0.0, self.sim.reward)
        return _observe(self.sim, self.obs_type), reward, self.sim.terminated, self.sim.truncated, self._infos()

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture (480, 480, 3) of each copy, if the render mode asks for pictures."""
        return tuple(self.task.render(self.sim.state, PICTURE)) if self.render_mode == "rgb_array" else None

    def _restart(self, index: np.ndarray, start_seeds: list[int] | None = None) -> None:
        if start_seeds is not None:
            states = self.task.starts(start_seeds)
        else:
            states = np.stack([self.task.start(self._generators[i]) for i in index])
        self.sim.reset(states, index)

    def _infos(self) -> dict[str, np.ndarray]:
        """Each column with the mask of the copies that have it, as Gymnasium's wrappers expect."""
        columns = _info(self.sim)
        return columns | {f"_{name}": np.ones(self.num_envs, dtype=bool) for name in columns}


for _task in map(tasks.find, tasks.names()):
    if _task.gym_id not in gymnasium.registry:
        _here = {"entry_point": f"{__name__}:TaskEnv", "vector_entry_point": f"{__name__}:TaskVectorEnv"}
        gymnasium.register(_task.gym_id, **_here, kwargs={"task": _task.name})
