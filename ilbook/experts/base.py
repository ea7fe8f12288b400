"""What every demonstrator is: a scripted hand with seeded slips, pauses and habits, driven like any controller."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ilbook.control.base import Controller, Decision
from ilbook.errors import UserError, unknown
from ilbook.tasks.base import Task


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


class Expert(Controller):
    """Demonstrates: `_act` maps states (N, S) to the targets (N, A) that are meant; all chance comes from the seeds.

    Before a target is executed, `slip` moves it by an error in proportion to the distance moved (Harris and Wolpert
    1998) and by rare knocks; the clean target is the label: data hold recoveries, as in DART (Laskey et al. 2017).
    """

    inputs = ("state",)
    mind: ClassVar[dict[str, object]] = {}  # attributes (N, ...) that hold plans, and their values without a plan
    task: ClassVar[Task]
    demo_task: ClassVar[Task]  # what it demonstrates in: often a little stricter than `task`
    human: ClassVar[Style]  # of the demonstrations that are shipped
    n_modes: ClassVar[int] = 1  # values of `Style.mode`
    takes_turns: ClassVar[bool] = False  # whether demonstrations show all modes equally often
    turns: np.ndarray | None = None  # (N,) the mode of each copy, where they take turns; before the style's
    knock_size: ClassVar[float] = 0.012  # m (rad), how far a knock pushes the hand aside
    slip_share: ClassVar[float] = 1.0  # of the error that `Style.noise` says

    def __init__(self, style: Style = STEADY):
        super().__init__()
        if style.mode is not None and not 0 <= style.mode < self.n_modes:
            raise UserError(f"{self.task.name}: mode {style.mode} does not exist; choose 0 to {self.n_modes - 1}")
        self.style = style

    def _generator(self, seed):
        return np.random.default_rng(seed)  # the seed alone decides: demonstrations must come out as they did

    def _begin(self, copies, everything):
        if everything:
            n, size = len(copies), len(self.task.action_low)
            self._state = np.zeros((n, len(self.task.state_names)))
            self._moved = np.zeros(n)  # m, length of the last clean move, as far as it makes the hand slip
            self._error, self._knock = np.zeros((2, n, size))
            self._knock_left, self._wait = np.zeros((2, n), dtype=int)  # steps
            for name, empty in self.mind.items():
                setattr(self, name, np.full((n, *np.shape(empty)), empty))
        for array in (self._error, self._knock, self._knock_left, self._wait):
            array[copies] = 0
        self._forget(copies)

    def take_over(self, states, copies):
        self._wait[copies] = 0
        self._forget(copies)

    def _forget(self, copies: np.ndarray) -> None:
        """Drop the plans of these copies; the next `_act` makes new ones from its state."""
        for name, empty in self.mind.items():
            getattr(self, name)[copies] = empty

    def _pause(self, copy: int) -> None:
        """From now on this copy rests for a while, as long as its style says."""
        self._wait[copy] = self._generators[copy].poisson(self.style.pause * self.task.control_hz)

    def request(self, seen, copies):
        self._state[copies] = seen["state"]
        return copies

    def deliver(self, question, answer, late=0):
        """An expert needs no time to think: there is nothing to wait for."""

    def action(self, alive, command):
        self._alive = alive
        meant = self.act(self._state)
        return Decision(self.slip(meant), meant, alive)

    def act(self, state: np.ndarray) -> np.ndarray:
        """The clean targets (N, A) in states (N, S); hands that rest hold their commands."""
        action = self._act(state)
        command, rests = state[:, -action.shape[1] :], self._wait > 0
        action = np.where(rests[:, None], command, action)
        self._wait[rests] -= 1
        self._moved = self.slip_share * np.linalg.norm((action - command) * self.task.weight, axis=1)
        return action

    @abstractmethod
    def _act(self, state: np.ndarray) -> np.ndarray:
        """The clean targets (N, A) of hands that do not rest, in states (N, S)."""

    def slip(self, action: np.ndarray) -> np.ndarray:
        """What the hand does instead of `action` (N, A)."""
        style, size = self.style, action.shape[1]
        if not style.noise and not style.knock:
            return action
        fresh = np.stack([rng.standard_normal(2 * size + 1 if style.knock else size) for rng in self._generators])
        self._error = style.memory * self._error + np.sqrt(1 - style.memory**2) * fresh[:, :size]
        aside = style.noise * self._moved[:, None] * self._error
        if style.knock:
            chance = np.stack([rng.random(2) for rng in self._generators])
            hit = (chance[:, 0] < style.knock) & (self._knock_left == 0)
            lasts = 3 + (4 * chance[:, 1]).astype(int)  # 3 to 6 control steps
            self._knock_left = np.where(hit, lasts, np.maximum(self._knock_left - 1, 0))
            direction = fresh[hit, size : 2 * size]
            self._knock[hit] = self.knock_size * direction / np.linalg.norm(direction, axis=1, keepdims=True)
            aside = aside + self._knock * (self._knock_left > 0)[:, None]
        return action + aside / self.task.weight
