"""What every demonstrator is: a scripted hand with seeded slips, pauses and habits, and how its work is recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError, unknown
from ilbook.tasks.base import Task

Attempt = tuple[np.ndarray, np.ndarray]  # states (T, S) and actions (T, A) of one episode
MORE = 16  # attempts at once where few succeed
KNOCK_STEPS = 3, 7  # control steps that a knock lasts: from, up to (excluded)


@dataclass(frozen=True)
class Style:
    """How a demonstrator moves; all chance comes from the seeds that the expert is given."""

    speed: float = 1.0  # of the expert's own speed
    noise: float = 0.25  # of the distance moved: standard deviation of the executed error
    memory: float = 0.8  # of that error, how much is left in the next step
    knock: float = 0.0  # chance per step that the hand is pushed aside for some steps
    pause: float = 0.0  # s of rest before each new phase, mean
    detour: float = 0.0  # chance, at each new phase, of a needless way round
    mode: int | None = None  # which of the task's ways; None: the expert's own choice


STEADY = Style(noise=0.0)
# Three grades of skill, as the operators of robomimic's multi-human sets were graded (Mandlekar et al. 2021).
GRADES = {
    "better": Style(noise=0.15, knock=0.002, pause=0.2),
    "okay": Style(speed=0.85, noise=0.3, knock=0.008, pause=0.6, detour=0.2),
    "worse": Style(speed=0.7, noise=0.5, knock=0.02, pause=1.2, detour=0.5),
}


def graded(skill: str, **changes) -> Style:
    """The style of a grade of skill, with some of its fields changed."""
    if skill not in GRADES:
        raise unknown("skill", skill, GRADES)
    return replace(GRADES[skill], **changes)


class Expert(ABC):
    """Demonstrates in N copies; `act` maps states (N, S) to the targets (N, A) that are meant.

    Every choice of copy i comes from `seeds[i]`. Before a target is executed, `slip` moves it by an error in proportion
    to the distance moved (Harris and Wolpert 1998) and by rare knocks; recording the clean target makes the data hold
    recoveries, as in DART (Laskey et al. 2017).
    """

    task: ClassVar[type[Task]]
    demo_task: ClassVar[type[Task]]  # what it demonstrates in: often a little stricter than `task`
    human: ClassVar[Style]  # of the demonstrations that are shipped
    n_modes: ClassVar[int] = 1  # values of `Style.mode`
    knock_size: ClassVar[float] = 0.012  # m (rad), how far a knock pushes the hand aside

    def __init__(self, n_copies: int, style: Style = STEADY, seeds: Sequence[Sequence[int]] | None = None):
        self.style = style
        self.seeds = [(i,) for i in range(n_copies)] if seeds is None else list(seeds)
        if len(self.seeds) != n_copies:
            raise UserError(f"an expert for {n_copies} copies needs as many seeds, not {len(self.seeds)}")
        if style.mode is not None and not 0 <= style.mode < self.n_modes:
            raise UserError(f"{self.task.name}: mode {style.mode} does not exist; choose 0 to {self.n_modes - 1}")
        self.reset()

    def reset(self) -> None:
        """Begin anew, with the same chances as before."""
        n, size = len(self.seeds), len(self.task.action_low)
        self._rngs = [np.random.default_rng(seed) for seed in self.seeds]
        self._moved = np.zeros(n)  # m, length of the last clean move
        self._error = np.zeros((n, size))
        self._knock, self._knock_left = np.zeros((n, size)), np.zeros(n, dtype=int)
        self._forget(np.arange(n))

    def take_over(self, state: np.ndarray, copies: np.ndarray) -> None:
        """Begin from the present states (N, S) in the copies of these indices, whoever brought them there."""
        self._error[copies] = self._knock[copies] = 0.0
        self._knock_left[copies] = 0
        self._forget(copies)

    @abstractmethod
    def _forget(self, copies: np.ndarray) -> None:
        """Drop the plans of these copies; the next `act` makes new ones from its state."""

    def act(self, state: np.ndarray) -> np.ndarray:
        """The clean targets (N, A) in states (N, S)."""
        action = self._act(state)
        command = state[:, -action.shape[1] :]
        self._moved = np.linalg.norm((action - command) * self.task.weight, axis=1)
        return action

    @abstractmethod
    def _act(self, state: np.ndarray) -> np.ndarray: ...

    def slip(self, action: np.ndarray) -> np.ndarray:
        """What the hand does instead of `action` (N, A)."""
        style, size = self.style, action.shape[1]
        if not style.noise and not style.knock:
            return action
        fresh = np.stack([rng.standard_normal(2 * size + 1 if style.knock else size) for rng in self._rngs])
        self._error = style.memory * self._error + np.sqrt(1 - style.memory**2) * fresh[:, :size]
        aside = style.noise * self._moved[:, None] * self._error
        if style.knock:
            chance = np.stack([rng.random(2) for rng in self._rngs])
            hit = (chance[:, 0] < style.knock) & (self._knock_left == 0)
            first, end = KNOCK_STEPS
            lasts = first + ((end - first) * chance[:, 1]).astype(int)
            self._knock_left = np.where(hit, lasts, np.maximum(self._knock_left - 1, 0))
            direction = fresh[hit, size : 2 * size]
            self._knock[hit] = self.knock_size * direction / np.linalg.norm(direction, axis=1, keepdims=True)
            aside = aside + self._knock * (self._knock_left > 0)[:, None]
        return action + aside / self.task.weight

    @classmethod
    def demonstrate(cls, n: int, seed: int, style: Style | None = None, patience: float = 1.0) -> Episodes:
        """`n` successful demonstrations: arrays state (T, S) and action (T, A), float32. Actions are the clean targets.

        `style` is `human` unless told. Starts whose demonstration fails are passed over; `meta["tried"]` tells how many
        starts were needed. `patience` multiplies the time that an episode may take: slow operators need it.
        """
        style, task_type = cls.human if style is None else style, cls.patient_task(patience)
        check_number(n)
        tries: list[Attempt | None] = []
        while (good := sum(episode is not None for episode in tries)) < n:
            if len(tries) > 20 * n + 20:
                raise UserError(
                    f"{task_type.name}: only {good} of {len(tries)} demonstrations succeeded; choose a gentler style"
                )
            # As many as are missing; where few succeed, ever more at once, of which the last ones are then left out.
            more = max(n - good, min(len(tries), MORE))
            seeds = [(seed, i) for i in range(len(tries), len(tries) + more)]
            task, episodes = attempt(task_type, cls(more, style, seeds))
            tries += [episode if won else None for episode, won in zip(episodes, task.success, strict=True)]
        kept = [i for i, episode in enumerate(tries) if episode is not None][:n]
        return joined([tries[i] for i in kept], {"tried": kept[-1] + 1})

    @classmethod
    def patient_task(cls, patience: float) -> type[Task]:
        """`demo_task` with `patience` times as many steps in an episode."""
        task = cls.demo_task
        changed = {"max_steps": round(patience * task.max_steps)}
        return task if patience == 1.0 else type(task.__name__, (task,), changed)


def check_number(n: int) -> None:
    """Refuse to make no demonstrations."""
    if n < 1:
        raise UserError(f"{n} demonstrations asked for; ask for at least 1")


def attempt(task_type: type[Task], expert: Expert) -> tuple[Task, list[Attempt]]:
    """One episode from a random start for each seed of the expert, and the task as it was left."""
    task = task_type(len(expert.seeds))
    task.reset(np.stack([task.start(np.random.default_rng([*seed, 1])) for seed in expert.seeds]))
    states, actions = record(task, expert)
    return task, [(states[i, :t], actions[i, :t]) for i, t in enumerate(task.length)]


def record(task: Task, expert: Expert) -> tuple[np.ndarray, np.ndarray]:
    """States (N, T, S) and clean actions (N, T, A), float32, an episode a copy; copy i has `length[i]` steps."""
    states, actions = [], []
    while not task.done.all():
        states.append(task.state)
        actions.append(expert.act(task.state))
        task.step(expert.slip(actions[-1]))
    return tuple(np.stack(steps, axis=1).astype(np.float32) for steps in (states, actions))


def demonstrate_graded(expert_type: type[Expert], n: int, seed: int, skill: str, operators: int = 3) -> Episodes:
    """`n` demonstrations by several operators of one skill; the array operator (T,) int8 tells them apart.

    Operators differ by the mode that they prefer. All skills meet starts of their own: `seed` and skill decide them.
    """
    if n % operators:
        raise UserError(f"{n} demonstrations cannot be shared by {operators} operators; ask for a multiple")
    kept, who, tried = [], [], 0
    for operator in range(operators):
        style = graded(skill, mode=operator % expert_type.n_modes)
        own_seed = 100 * seed + 10 * list(GRADES).index(skill) + operator
        part = expert_type.demonstrate(n // operators, own_seed, style, patience=2.0)
        kept += [(episode["state"], episode["action"]) for episode in part]
        who.append(np.full(part.n_steps, operator, dtype=np.int8))
        tried += part.meta["tried"]
    return joined(kept, {"tried": tried, "skill": skill}).with_array("operator", np.concatenate(who))


def joined(kept: Sequence[Attempt], meta: dict) -> Episodes:
    """Episodes from pairs of states (T, S) and actions (T, A)."""
    states, actions = zip(*kept, strict=True)
    arrays = {"state": np.concatenate(states), "action": np.concatenate(actions)}
    return Episodes(arrays, np.cumsum([len(a) for a in actions]), meta)
