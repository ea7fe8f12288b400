"""The batched core: N copies of one MuJoCo model, stepped together in C++ threads."""

import os
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco import rollout

from ilbook import used
from ilbook.errors import UserError, unknown
from ilbook.tasks.limit import limit

FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
CONTROL = int(mujoco.mjtState.mjSTATE_CTRL)
PUSH = int(mujoco.mjtState.mjSTATE_QFRC_APPLIED)
KEPT = ("physics", "command", "success", "failure", "invalid", "score", "length", "_push", "_push_begin")
OWN = ("_pool", "_data", "_control", "_trace")  # what no copy takes over: threads, and what they write to


class Simulation:
    """N copies of a task, made by `task.batch(n)`; `reset` puts them at states. A copy that is done stays as it is and
    costs nothing until its next reset. `success`, `failure`, `invalid` (a number that is not finite ended the episode,
    as a failure), `score` and `length` are (N,). It can be copied, pickled, and stepped on in a fork.
    """

    def __init__(self, task, n_copies: int, threads: int | None):
        if n_copies < 1:
            raise UserError(f"{task.name}: n_copies is {n_copies}; a simulation needs at least one copy")
        self.task, self.n_copies, self.threads, self.max_steps = task, n_copies, threads, task.max_steps
        self.model = task.load_model(looks=False)
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET  # it would hide what `_advance` looks for
        self.nq, self.nu = self.model.nq, self.model.nu
        self._pushes = task.strength("push") != 0
        self._settings = {"control_spec": CONTROL | PUSH * self._pushes, "nstep": task.substeps, "skip_checks": True}
        # Which part of a control step has passed, and of which action: (K * A,), as arrays of short last axes are slow.
        self._ramp = np.repeat(np.arange(1, task.substeps + 1) / task.substeps, self.nu)
        self._columns = np.tile(np.arange(self.nu), task.substeps)
        self.physics = np.zeros((n_copies, mujoco.mj_stateSize(self.model, FULL)))
        self.command = np.zeros((n_copies, self.nu))
        self.success, self.failure, self.invalid = np.zeros((3, n_copies), dtype=bool)
        self.score, self.length = np.zeros(n_copies), np.zeros(n_copies, dtype=np.int64)
        self._push, self._push_begin = np.zeros((n_copies, self.model.nv)), np.zeros(n_copies, dtype=np.int64)
        self.memory = task.memory(n_copies)
        self._kept = {name: getattr(self, name) for name in KEPT}  # the arrays themselves, all (N, ...)
        self._kept |= {f"memory {name}": array for name, array in self.memory.items()}
        self._unset = np.ones(n_copies, dtype=bool)  # never reset
        self._open()

    def _open(self) -> rollout.Rollout:
        """Start the threads: at first, in a copy, and after each fork, which leaves them behind."""
        task = self.task
        used.note_type(type(task))
        used.note(*(f"tasks.{task.name}:{name}" for name, _ in task.shift))
        share = int(os.environ.get("ILBOOK_THREADS", 0))  # what the runner gave this process
        threads = max(1, min(self.threads or share or os.cpu_count(), self.n_copies))
        self._data = [mujoco.MjData(self.model) for _ in range(threads)]  # one entry a thread
        self._control = np.zeros((self.n_copies, task.substeps, self.nu + self._pushes * self.model.nv))
        self._trace = np.zeros((self.n_copies, task.substeps, self.physics.shape[1]))
        # A pool of one thread would only add the hand-over: nthread=0 steps in the calling thread.
        self._pool = rollout.Rollout(nthread=threads if threads > 1 else 0)
        _opened.add(self)
        return self._pool

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name not in OWN}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._open()

    @property
    def state(self) -> np.ndarray:  # (N, S)
        return np.concatenate([self.physics[:, 1 : 1 + self.nq], self.command], axis=1)

    @property
    def obs(self) -> np.ndarray:  # (N, O)
        return self.task.observe(self.state)

    @property
    def done(self) -> np.ndarray:  # (N,)
        return self.terminated | (self.length >= self.max_steps)

    @property
    def terminated(self) -> np.ndarray:  # (N,) by themselves
        return self.success | self.failure

    @property
    def truncated(self) -> np.ndarray:  # (N,) by the time limit
        return self.done & ~self.terminated

    @property
    def reward(self) -> np.ndarray:  # (N,)
        return self.task.reward(self)

    def info(self) -> dict[str, np.ndarray]:
        """More columns of the rollout table, each (N,)."""
        return self.task.info(self)

    def see(self, inputs: Sequence[str], copies: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What is asked of all or some copies (n,): obs (n, O), state (n, S), goal (n, G), image (n, 96, 96, 3)."""
        task, state = self.task, self.state if copies is None else self.state[copies]
        looks = {"obs": task.observe, "state": np.asarray, "image": task.render, "goal": task.goal}
        for name in inputs:
            if name not in looks:
                raise unknown(f"input that {task.name} can show", name, looks)
        return {name: looks[name](state) for name in inputs}

    def reset(self, states: np.ndarray, copies: np.ndarray | None = None) -> np.ndarray:
        """Put copies (all of them, or the given indices) at rest in `states` (n, S); returns observations (N, O)."""
        states = np.asarray(states, dtype=np.float64)
        index = np.arange(self.n_copies) if copies is None else np.asarray(copies)
        shape = (len(index), self.nq + self.nu)
        if states.shape != shape:
            needed = f"{len(index)} copies need {shape}: {', '.join(self.task.state_names)}"
            raise UserError(f"{self.task.name}: reset got states of shape {states.shape}; {needed}")
        for array in (self._unset, *self._kept.values()):
            array[index] = 0
        self.physics[index, 1 : 1 + self.nq] = states[:, : self.nq]
        self.command[index] = states[:, self.nq :]
        if self.model.na:  # servos that lag remember where they are
            self.physics[index, -self.model.na :] = states[:, self.nq :]
        for name, fresh in self.task.memory(len(index)).items():
            self.memory[name][index] = fresh
        for i, state in zip(index, states, strict=True) if self._pushes else ():
            self._push_begin[i], self._push[i] = self.task.draw_push(state, self.model)
        self.task.judge(self, index, states[:, None, : self.nq])
        return self.obs

    def save(self, copies: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """All that these copies (all, or indices (n,)) are: velocities, servos, pushes, what was judged; (n, ...)."""
        return {name: array[... if copies is None else copies].copy() for name, array in self._kept.items()}

    def restore(self, saved: dict[str, np.ndarray], copies: np.ndarray | None = None) -> None:
        """Put copies back into what `save` gave; they then go on as they did, bit for bit."""
        where = ... if copies is None else copies
        for name, now in self.save(copies).items():
            if np.shape(saved.get(name)) != now.shape:
                needed = f"give what save returned for {len(now)} copies of the same task"
                raise UserError(f"{self.task.name}: restore got no {name} of shape {now.shape}; {needed}")
        for name, array in self._kept.items():
            array[where] = saved[name]
        self._unset[where] = False

    def step(self, action: np.ndarray) -> np.ndarray:
        """Move every copy that is not done towards its action (N, A), metres, for one control step; returns (N, O).

        Commands move straight, at most at `max_speed`. An action that is not finite ends its copy alone, as a failure.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != self.command.shape:
            raise UserError(f"{self.task.name}: step got actions of shape {action.shape}, not {self.command.shape}")
        if self._unset.any():
            raise UserError(f"{self.task.name}: copy {self._unset.argmax()} has no start yet; call reset before step")
        if not np.isfinite(action).all():
            broken = ~self.done & ~np.isfinite(action).all(axis=1)
            self.failure[broken] = self.invalid[broken] = True
        index = (~self.done).nonzero()[0]
        if len(index):
            self._advance(index, action if len(index) == self.n_copies else action[index])
        return self.obs

    def _advance(self, index: np.ndarray, action: np.ndarray) -> None:
        n, task, pool = len(index), self.task, self._pool or self._open()
        where = slice(None) if n == self.n_copies else index  # of all copies views do, and nothing is copied
        before = self.command[where]
        move = limit(action, before, task.action_low, task.action_high, task.max_speed / task.control_hz, task.weight)
        control, trace = self._control[:n], self._trace[:n]
        command = move.take(self._columns, axis=1)
        command *= self._ramp
        command += before.take(self._columns, axis=1)
        control[..., : self.nu] = command.reshape(n, task.substeps, self.nu)
        if self._pushes:
            since = self.length[index] - self._push_begin[index]
            pushed = (since >= 0) & (since < max(1, round(task.push_time * task.control_hz)))
            control[..., self.nu :] = np.where(pushed[:, None], self._push[index], 0.0)[:, None]
        mujoco.set_mjcb_time(None)  # timing each step costs a quarter of the physics; each new MjData switches it on
        pool.rollout([self.model] * n, self._data, self.physics[where], control, state=trace, **self._settings)
        last, command = trace[:, -1], command[:, -self.nu :]
        if not np.isfinite(last).all():  # the physics gave out: such a copy stays where it was
            good = np.isfinite(last).all(axis=1)
            self.failure[index[~good]] = self.invalid[index[~good]] = True
            where = index = index[good]
            last, command, trace = last[good], command[good], trace[good]
        self.physics[where] = last
        self.command[where] = command
        self.length[where] += 1
        task.judge(self, index, trace[:, :, 1 : 1 + self.nq])


_opened: weakref.WeakSet[Simulation] = weakref.WeakSet()


def _close_all() -> None:
    """Let go of all threads: a child would wait for ever for those that it does not have, even to end."""
    for sim in list(_opened):
        sim._pool = None


os.register_at_fork(before=_close_all)
