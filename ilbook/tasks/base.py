"""The batched core: N copies of one MuJoCo model, stepped together in C++ threads."""

from __future__ import annotations

import functools
import os
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import mujoco
import numpy as np
from mujoco import rollout

from ilbook.errors import UserError, unknown

FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
CONTROL = int(mujoco.mjtState.mjSTATE_CTRL)
CONTROL_AND_PUSH = CONTROL | int(mujoco.mjtState.mjSTATE_QFRC_APPLIED)
WEAKEST, STRONGEST = -1.0, 2.0  # strengths of perturbations that are accepted; 1 is a clear shift, 0 none
ONE_SIDED = ("distractors", "lag")  # there is no opposite of these


def default_threads() -> int:
    """Threads for the physics: the share that the runner gave this process, else all cores."""
    return max(1, int(os.environ.get("ILBOOK_THREADS", 0)) or os.cpu_count() or 1)


class Task(ABC):
    """N copies of a task whose actions are target positions of position servos: of an end-effector, or of joints.

    A *state* (N, S) is what a copy needs to be put back at rest: joint positions, then the commanded position that the
    servos follow. A copy that is done stays as it is until the next reset, and costs nothing.
    """

    name: str  # of the folder with its demonstrations
    gym_id: str
    control_hz: float
    substeps: int  # physics steps in one control step
    max_steps: int  # control steps in an episode
    max_speed: float  # m/s (rad/s), how fast the commanded position may move
    weight: float | np.ndarray = 1.0  # what a unit of each action counts in that speed: a scalar or (A,)
    obs_names: tuple[str, ...]
    state_names: tuple[str, ...]
    action_low: np.ndarray  # (A,) metres or radians
    action_high: np.ndarray  # (A,)
    obs_limit = 1.0  # no observation is ever farther from zero
    camera = "top"  # which camera of the model takes the pictures

    # Distribution shift on purpose: name -> what strength 1 does. `perturbed` makes the type that has some of them.
    perturbations: ClassVar[dict[str, str]] = {}
    strengths: ClassVar[dict[str, float]] = {}
    _nominal: ClassVar[type[Task] | None] = None  # the task that this type perturbs
    push_joints: tuple[str, ...] = ()  # what the perturbation "push" acts on
    push_force = 0.0  # N (N m) at strength 1, along a random direction of these joints
    push_time = 0.15  # s
    push_chance = 1.0  # of an episode to have its push
    push_window = (0.1, 0.4)  # shares of `max_steps` between which it begins

    def __init__(self, n_copies: int = 1, threads: int | None = None):
        if n_copies < 1:
            raise UserError(f"{self.name}: n_copies is {n_copies}; a task needs at least one copy")
        self.n_copies = n_copies
        threads = min(threads or default_threads(), n_copies)
        self.model = self.physics_model()
        self.nq, self.nu = self.model.nq, self.model.nu
        self.n_state = mujoco.mj_stateSize(self.model, FULL)
        self._data = [mujoco.MjData(self.model) for _ in range(threads)]  # one entry a thread
        # A pool of one thread would only add the hand-over: nthread=0 steps in the calling thread.
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._models = [self.model] * n_copies
        # Which part of a control step has passed at each physics step, and of which action: (K * A,), because arrays
        # whose last axis is as short as A are slow.
        self._ramp = np.repeat(np.arange(1, self.substeps + 1) / self.substeps, self.nu)
        self._columns = np.tile(np.arange(self.nu), self.substeps)
        self._pushes = self.strength("push") != 0
        self._control = np.zeros((n_copies, self.substeps, self.nu + self._pushes * self.model.nv))
        self._trace = np.zeros((n_copies, self.substeps, self.n_state))
        self._sensors = np.zeros((n_copies, self.substeps, self.model.nsensordata))
        self.physics = np.zeros((n_copies, self.n_state))
        self.command = np.zeros((n_copies, self.nu))
        self.reset(self.starts(range(n_copies)))

    @classmethod
    def _spec(cls) -> mujoco.MjSpec:
        spec = mujoco.MjSpec.from_file(str(Path(__file__).with_name(f"{cls.name}.xml")))
        cls._perturb(spec)
        return spec

    @classmethod
    def load_model(cls) -> mujoco.MjModel:
        """The model of this task with the perturbations of this type."""
        return cls._spec().compile()

    @classmethod
    def physics_model(cls) -> mujoco.MjModel:
        """`load_model` without what is only to be looked at: it moves in the same way, bit for bit, and faster."""
        spec = cls._spec()
        model = spec.compile()
        looks = [geom for geom in spec.geoms if not (geom.contype or geom.conaffinity) and _weightless(geom, model)]
        for element in (*looks, *spec.cameras, *spec.lights):
            spec.delete(element)
        return spec.compile()

    @classmethod
    def perturbed(cls, **strengths: float) -> type[Task]:
        """This task with a distribution shift: `PushT.perturbed(friction=1.0, push=0.5)`; see `perturbations`.

        The same strengths give the same type, so that it can be handed to whatever takes a task.
        """
        for name, strength in strengths.items():
            if name not in cls.perturbations:
                raise unknown(f"perturbation of {cls.name}", name, cls.perturbations)
            weakest = 0.0 if name in ONE_SIDED else WEAKEST
            if not weakest <= strength <= STRONGEST:
                raise UserError(
                    f"{cls.name}: perturbation {name} has the strength {strength}; "
                    f"choose {weakest:g} to {STRONGEST:g}, where 0 changes nothing"
                )
        nominal = cls._nominal or cls
        wanted = {**cls.strengths, **{name: float(strength) for name, strength in strengths.items()}}
        wanted = {name: strength for name, strength in sorted(wanted.items()) if strength != 0}
        return _perturbed(nominal, tuple(wanted.items())) if wanted else nominal

    @classmethod
    def strength(cls, name: str) -> float:
        """How strong a perturbation of this type is; 0 for those that it does not have."""
        return cls.strengths.get(name, 0.0)

    @classmethod
    @abstractmethod
    def _perturb(cls, spec: mujoco.MjSpec) -> None:
        """Edit the model by the strengths of this type, before it is compiled."""

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
            self._push = np.zeros((self.n_copies, self.model.nv))
            self._push_begin = np.full(self.n_copies, self.max_steps)
        self.success[index] = self.failure[index] = False
        self.score[index] = 0.0
        self.length[index] = 0
        self.physics[index] = 0.0
        self.physics[index, 1 : 1 + self.nq] = states[:, : self.nq]
        self.command[index] = states[:, self.nq :]
        if self.model.na:  # servos that lag remember where they are
            self.physics[index, -self.model.na :] = states[:, self.nq :]
        if self._pushes:
            for i, state in zip(index, states, strict=True):
                self._push_begin[i], self._push[i] = self._draw_push(state)
        self._judge(index, states[:, None, : self.nq])
        return self.obs

    def _draw_push(self, state: np.ndarray) -> tuple[int, np.ndarray]:
        """When the push of an episode begins and its generalised force (nv,).

        All chance comes from the start, so that every policy meets the same push.
        """
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(state).tobytes()))
        follows, when = rng.random(2)
        first, last = self.push_window
        force = np.zeros(self.model.nv)
        if follows >= self.push_chance:
            return self.max_steps, force
        direction = rng.standard_normal(len(self.push_joints))
        direction *= self.push_force * self.strength("push") / np.linalg.norm(direction)
        force[[self.model.joint(name).dofadr[0] for name in self.push_joints]] = direction
        return int((first + when * (last - first)) * self.max_steps), force

    def step(self, action: np.ndarray) -> np.ndarray:
        """Move every copy that is not done towards its action (N, A), metres, for one control step; returns (N, O).

        The commanded position moves in a straight line, at most `max_speed`. An action that is not finite ends its
        copy as a failure and leaves the others alone.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.command.shape:
            raise UserError(f"{self.name}: step got actions of shape {action.shape}, not {self.command.shape}")
        running = ~self.done
        finite = np.isfinite(action)
        if not finite.all():
            finite = finite.all(axis=1)
            self.failure |= running & ~finite
            running &= finite
        index = running.nonzero()[0]
        if not len(index):
            return self.obs
        self._advance(index, action if len(index) == self.n_copies else action[index])
        return self.obs

    def _advance(self, index: np.ndarray, action: np.ndarray) -> None:
        n = len(index)
        where = slice(None) if n == self.n_copies else index  # of all copies views do, and nothing is copied
        before = self.command[where]
        change = np.minimum(np.maximum(action, self.action_low), self.action_high)
        change -= before
        reach = self.max_speed / self.control_hz
        distance = np.sqrt(((change * self.weight) ** 2).sum(axis=1, keepdims=True))
        change *= np.minimum(1.0, reach / np.maximum(distance, 1e-12))
        control, trace = self._control[:n], self._trace[:n]
        command = change.take(self._columns, axis=1)
        command *= self._ramp
        command += before.take(self._columns, axis=1)
        control[..., : self.nu] = command.reshape(n, self.substeps, self.nu)
        if self._pushes:
            since = self.length[index] - self._push_begin[index]
            pushed = (since >= 0) & (since < max(1, round(self.push_time * self.control_hz)))
            control[..., self.nu :] = np.where(pushed[:, None], self._push[index], 0.0)[:, None]
        # Two looks at the clock for every part of every step cost a quarter and more of a planar task's physics; the
        # Python bindings switch them on again with each MjData that anybody makes.
        mujoco.set_mjcb_time(None)
        self._pool.rollout(
            self._models[:n],
            self._data,
            self.physics[where],
            control,
            control_spec=CONTROL_AND_PUSH if self._pushes else CONTROL,
            skip_checks=True,
            nstep=self.substeps,
            state=trace,
            sensordata=self._sensors[:n],
        )
        self.physics[where] = trace[:, -1]
        self.command[where] = command[:, -self.nu :]
        self.length[where] += 1
        self._judge(index, trace[:, :, 1 : 1 + self.nq])

    def render(self, states: np.ndarray, size: int = 96, nice: bool = False) -> np.ndarray:
        """Pictures (n, size, size, 3) uint8 of states (n, S); `nice` ones have shadows and are for videos."""
        from ilbook.draw.render import renderer

        return renderer(type(self), size, nice).frames(np.atleast_2d(states)[:, : self.nq])


def _weightless(geom: mujoco.MjsGeom, model: mujoco.MjModel) -> bool:
    """Whether no moving body takes mass or inertia from this geom."""
    fixed = model.body_weldid[model.geom_bodyid[geom.id]] == 0
    return bool(fixed or geom.mass == 0 or geom.parent.explicitinertial)


@functools.cache
def _perturbed(cls: type[Task], strengths: tuple[tuple[str, float], ...]) -> type[Task]:
    same = {"__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), {**same, "strengths": dict(strengths), "_nominal": cls})
