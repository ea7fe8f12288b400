"""The batched core: N copies of one MuJoCo model, stepped together in C++ threads."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import mujoco
import numpy as np
from mujoco import rollout

from ilbook.errors import UserError

FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


def default_threads() -> int:
    """Threads for the physics: the share that the runner gave this process, else all cores."""
    return max(1, int(os.environ.get("ILBOOK_THREADS", 0)) or os.cpu_count() or 1)


class Task(ABC):
    """N copies of a planar task whose actions are target positions of a position-controlled end-effector.

    A *state* (N, S) is what a copy needs to be put back at rest: joint positions, then the commanded position that the
    servo follows. A copy that is done stays as it is until the next reset, and costs nothing.
    """

    name: str  # of the folder with its demonstrations
    gym_id: str
    control_hz: float
    substeps: int  # physics steps in one control step
    max_steps: int  # control steps in an episode
    max_speed: float  # m/s, how fast the commanded position may move
    obs_names: tuple[str, ...]
    state_names: tuple[str, ...]
    action_low: np.ndarray  # (A,) metres
    action_high: np.ndarray  # (A,) metres
    obs_limit = 1.0  # no observation is ever farther from zero; metres

    def __init__(self, n_copies: int = 1, threads: int | None = None):
        if n_copies < 1:
            raise UserError(f"{self.name}: n_copies is {n_copies}; a task needs at least one copy")
        self.n_copies = n_copies
        threads = min(threads or default_threads(), n_copies)
        self.model = self.load_model()
        self.nq, self.nu = self.model.nq, self.model.nu
        self.n_state = mujoco.mj_stateSize(self.model, FULL)
        self._data = [mujoco.MjData(self.model) for _ in range(threads)]  # one entry a thread
        # A pool of one thread would only add the hand-over: nthread=0 steps in the calling thread.
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._models = [self.model] * n_copies
        self._ramp = (np.arange(1, self.substeps + 1) / self.substeps)[None, :, None]  # (1, K, 1)
        self._control = np.zeros((n_copies, self.substeps, self.nu))
        self._trace = np.zeros((n_copies, self.substeps, self.n_state))
        self._sensors = np.zeros((n_copies, self.substeps, self.model.nsensordata))
        self.physics = np.zeros((n_copies, self.n_state))
        self.command = np.zeros((n_copies, self.nu))
        self.reset(self.starts(range(n_copies)))

    @classmethod
    def load_model(cls) -> mujoco.MjModel:
        return mujoco.MjModel.from_xml_path(str(Path(__file__).with_name(f"{cls.name}.xml")))

    # -- what a task defines ------------------------------------------------------------------------------------------
    @abstractmethod
    def start(self, rng: np.random.Generator) -> np.ndarray:
        """One random initial state (S,)."""

    @staticmethod
    @abstractmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """Observations (..., O) of states (..., S)."""

    @abstractmethod
    def _judge(self, index: np.ndarray, trace: np.ndarray) -> None:
        """Update `success`, `failure`, `score` of the copies `index` (n,) from their joint positions (n, K, nq)."""

    @property
    def reward(self) -> np.ndarray:
        """How good the situation of each copy is (N,), from 0 to 1; for reinforcement learning."""
        return self.score.copy()

    def info(self) -> dict[str, np.ndarray]:
        """More columns of the rollout table, each (N,)."""
        return {}

    # -- what every task shares ---------------------------------------------------------------------------------------
    def starts(self, seeds) -> np.ndarray:
        """Initial states (len(seeds), S); the state of a seed does not depend on the others."""
        return np.stack([self.start(np.random.default_rng([int(s), 7919])) for s in seeds])

    @property
    def state(self) -> np.ndarray:  # (N, S)
        return np.concatenate([self.physics[:, 1 : 1 + self.nq], self.command], axis=1)

    @property
    def obs(self) -> np.ndarray:  # (N, O)
        return self.observe(self.state)

    @property
    def done(self) -> np.ndarray:  # (N,)
        return self.success | self.failure | (self.length >= self.max_steps)

    def reset(self, states: np.ndarray, copies: np.ndarray | None = None) -> np.ndarray:
        """Put copies (all of them, or the given indices) at rest in `states` (n, S); returns observations (N, O)."""
        states = np.asarray(states, dtype=np.float64)
        every = copies is None
        index = np.arange(self.n_copies) if every else np.asarray(copies)
        if states.shape != (len(index), self.nq + self.nu):
            raise UserError(
                f"{self.name}: reset got states of shape {states.shape}; "
                f"{len(index)} copies need ({len(index)}, {self.nq + self.nu}): {', '.join(self.state_names)}"
            )
        if every:
            self.success, self.failure = np.zeros((2, self.n_copies), dtype=bool)
            self.score = np.zeros(self.n_copies)
            self.length = np.zeros(self.n_copies, dtype=np.int64)
        self.success[index] = self.failure[index] = False
        self.score[index] = 0.0
        self.length[index] = 0
        self.physics[index] = 0.0
        self.physics[index, 1 : 1 + self.nq] = states[:, : self.nq]
        self.command[index] = states[:, self.nq :]
        self._judge(index, states[:, None, : self.nq])
        return self.obs

    def step(self, action: np.ndarray) -> np.ndarray:
        """Move every copy that is not done towards its action (N, A), metres, for one control step; returns (N, O).

        The commanded position moves in a straight line, at most `max_speed`. An action that is not finite ends its
        copy as a failure and leaves the others alone.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.command.shape:
            raise UserError(f"{self.name}: step got actions of shape {action.shape}, not {self.command.shape}")
        running = ~self.done
        finite = np.isfinite(action).all(axis=1)
        if not finite.all():
            self.failure |= running & ~finite
            running &= finite
        index = np.flatnonzero(running)
        if not len(index):
            return self.obs
        self._advance(index, action[index])
        return self.obs

    def _advance(self, index: np.ndarray, action: np.ndarray) -> None:
        n = len(index)
        everyone = n == self.n_copies  # then views do, and nothing is copied
        before = self.command if everyone else self.command[index]
        change = np.clip(action, self.action_low, self.action_high) - before
        reach = self.max_speed / self.control_hz
        distance = np.sqrt((change * change).sum(axis=1, keepdims=True))
        change *= np.minimum(1.0, reach / np.maximum(distance, 1e-12))
        control, trace = self._control[:n], self._trace[:n]
        np.multiply(change[:, None], self._ramp, out=control)
        control += before[:, None]
        self._pool.rollout(
            self._models[:n],
            self._data,
            self.physics if everyone else self.physics[index],
            control,
            skip_checks=True,
            nstep=self.substeps,
            state=trace,
            sensordata=self._sensors[:n],
        )
        self.physics[index] = trace[:, -1]
        self.command[index] = control[:, -1]
        self.length[index] += 1
        self._judge(index, trace[:, :, 1 : 1 + self.nq])

    def render(self, states: np.ndarray, size: int = 96) -> np.ndarray:
        """Pictures (n, size, size, 3) uint8 of states (n, S), seen from above."""
        from ilbook.tasks.render import renderer

        return renderer(type(self), size).frames(np.atleast_2d(states)[:, : self.nq])
