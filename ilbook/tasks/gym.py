"""The tasks as Gymnasium environments: one copy, or many that the batched core steps together.

Importing this module registers them; `gymnasium.make("ilbook.tasks.gym:ilbook/PushT-v0")` imports it first.
"""

from collections.abc import Sequence
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ilbook import tasks, used
from ilbook.errors import UserError, unknown
from ilbook.tasks.base import Task
from ilbook.tasks.simulation import PIXELS

OBS_TYPES = {"state": "obs", "pixels": "image"}  # what `Simulation.see` calls them
PICTURE = 480  # side of what `render` returns
RENDER_MODES = ["rgb_array"]


class _Adapter:
    """What one copy and many have in common: a simulation, where it begins and what it shows."""

    def _adapt(
        self, task: str | Task, n_copies: int, obs_type: str, render_mode: str | None, threads: int | None = None
    ) -> tuple[Box, Box]:
        """Make the simulation of a task, which may be given by its name; returns the two spaces of one copy."""
        if obs_type not in OBS_TYPES:
            raise unknown("obs_type", obs_type, OBS_TYPES)
        used.note("tasks.gym")
        self.sim = (tasks.get(task)() if isinstance(task, str) else task).batch(n_copies, threads)
        self.task, self.obs_type, self.render_mode = self.sim.task, obs_type, render_mode
        self.metadata = {**self.metadata, "render_fps": round(self.task.control_hz)}
        limit, size = self.task.obs_limit, len(self.task.obs_names)
        pixels = Box(0, 255, (PIXELS, PIXELS, 3), np.uint8)
        seen = pixels if obs_type == "pixels" else Box(-limit, limit, (size,), np.float64)
        return seen, Box(self.task.action_low.astype(np.float32), self.task.action_high.astype(np.float32))

    def _start_seeds(self, options: dict, known: tuple[str, ...]) -> np.ndarray | None:
        """The seeds (N,) of the starts that `options` asks for, if it does; a single number stands for all copies."""
        for name in options.keys() - set(known):
            raise unknown("reset option", name, known)
        if "start_seed" not in options:
            return None
        wanted, n = options["start_seed"], self.sim.n_copies
        seeds = np.full(n, wanted) if np.ndim(wanted) == 0 else np.asarray(wanted)
        if seeds.shape != (n,) or not np.issubdtype(seeds.dtype, np.integer) or (seeds < 0).any():
            raise UserError(f"start_seed is {wanted!r}; give a whole number from 0 up, or {n} of them, one per copy")
        return seeds

    def _begin(self, generators: Sequence[np.random.Generator], seeds: np.ndarray | None, copies: np.ndarray) -> None:
        """New episodes in these copies (n,): from the starts of the seeds of all copies, else drawn by generators."""
        drawn = seeds is None
        states = [self.task.start(generators[i]) for i in copies] if drawn else self.task.starts(seeds[copies])
        self.sim.reset(np.asarray(states), copies)

    def _seen(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """What all copies see, (N, O) or (N, 96, 96, 3), and their infos, each (N,)."""
        name = OBS_TYPES[self.obs_type]
        infos = {"success": self.sim.success.copy(), "score": self.sim.score.copy(), **self.sim.info()}
        return self.sim.see([name])[name], infos


class TaskEnv(_Adapter, gymnasium.Env):
    """One copy of a task. The action is a position in metres, the reward how good the situation is, in [0, 1].

    `reset(options={"start_seed": k})` starts where `rollout.evaluate` starts for the seed k.
    """

    metadata: ClassVar[dict] = {"render_modes": RENDER_MODES}

    def __init__(self, task: str | Task, obs_type: str = "state", render_mode: str | None = None):
        self.observation_space, self.action_space = self._adapt(task, 1, obs_type, render_mode)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """A new episode, from a random start unless `options` names one."""
        super().reset(seed=seed)
        self._begin([self.np_random], self._start_seeds(options or {}, ("start_seed",)), np.arange(1))
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
        obs, infos = self._seen()
        return obs[0], {name: column[0].item() for name, column in infos.items()}


class TaskVectorEnv(_Adapter, gymnasium.vector.VectorEnv):
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
        spaces = self._adapt(task, num_envs, obs_type, render_mode, threads)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = spaces
        self.observation_space, self.action_space = (batch_space(space, num_envs) for space in spaces)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict | None = None
    ) -> tuple[np.ndarray, dict]:
        """New episodes for all copies, or those in `options["reset_mask"]`; `seed` s gives copy i the seed s + i."""
        options = options or {}
        start_seeds = self._start_seeds(options, ("start_seed", "reset_mask"))
        mask = np.asarray(options.get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise UserError(f"reset_mask must be {self.num_envs} booleans, at least one of them True")
        seeds = [seed] * self.num_envs if seed is None else seed
        seeds = [seeds + i for i in range(self.num_envs)] if isinstance(seeds, int | np.integer) else list(seeds)
        if len(seeds) != self.num_envs:
            raise UserError(f"there are {len(seeds)} seeds for {self.num_envs} copies; give one for each")
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self._generators[i] = seeding.np_random(int(seeds[i]))[0]
        self._begin(self._generators, start_seeds, np.flatnonzero(mask))
        return self._now()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One control step of every copy; those that were done before it start a new episode instead."""
        finished = self.sim.done
        self.sim.step(actions)  # leaves the finished ones alone
        if finished.any():
            self._begin(self._generators, None, np.flatnonzero(finished))
        obs, infos = self._now()
        return obs, np.where(finished, 0.0, self.sim.reward), self.sim.terminated, self.sim.truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture (480, 480, 3) of each copy, if the render mode asks for pictures."""
        return tuple(self.task.render(self.sim.state, PICTURE)) if self.render_mode == "rgb_array" else None

    def _now(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Each info with the mask of the copies that have it, as Gymnasium's wrappers expect."""
        obs, infos = self._seen()
        return obs, infos | {f"_{name}": np.ones(self.num_envs, dtype=bool) for name in infos}


for _task in map(tasks.find, tasks.names()):
    if _task.gym_id not in gymnasium.registry:
        _here = {"entry_point": f"{__name__}:TaskEnv", "vector_entry_point": f"{__name__}:TaskVectorEnv"}
        gymnasium.register(_task.gym_id, **_here, kwargs={"task": _task.name})
