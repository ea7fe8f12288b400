"""What every controller is: it decides for N copies what is executed, and owns what each copy has seen and planned."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ilbook import used
from ilbook.errors import UserError

Seed = int | tuple[int, ...]


@dataclass(frozen=True)
class Decision:
    """What is done now, in N copies; rows of copies that are not alive mean nothing."""

    action: np.ndarray  # (N, A), executed
    label: np.ndarray  # (N, A), what was meant, for data
    asked: np.ndarray  # (N,) whose policy was asked just now
    chunk: np.ndarray | None = None  # (N, H, A), what each copy follows
    window: dict[str, np.ndarray] | None = None  # what those asked looked at, arrays (n, ...)
    more: dict[str, np.ndarray] = field(default_factory=dict)  # for a learner or a monitor, arrays (N, ...)


class Controller(ABC):
    """Drives N copies that begin, look and end independently of each other.

    In each control step: `asks` says who has to look, `request` takes what they saw, `answer` works, `deliver` hands
    the answer in, `action` is executed. `decide` does all of it; with `delay`, an answer arrives that many steps late.
    A robot's thread calls the same methods in its own time.
    """

    inputs: tuple[str, ...] = ("obs",)
    columns: ClassVar[dict[str, object]] = {}  # what tells it apart in a table, such as {"n_exec": 4}
    delay: int = 0  # control steps

    def __init__(self, seed: int = 0):
        used.note_type(type(self))
        self.seed = seed
        self._generators: list[np.random.Generator] = []  # one a copy
        self._now = 0  # control steps
        self._pending: list[tuple[int, object, object]] = []  # when it was asked, question, answer

    def reset(self, seeds: Sequence[Seed], copies: np.ndarray | None = None) -> None:
        """Episodes begin in these copies (all, or indices): forget their past. Their chance comes from their seeds."""
        if everything := copies is None:
            copies, self._generators, self._pending = np.arange(len(seeds)), [None] * len(seeds), []
        self._known(copies)
        for index, seed in zip(copies, seeds, strict=True):
            self._generators[index] = self._generator(seed)
        self._begin(np.asarray(copies), everything)

    def _generator(self, seed: Seed) -> np.random.Generator:
        return np.random.default_rng((self.seed, *(seed if isinstance(seed, tuple) else (seed,))))

    def _known(self, copies: Sequence[int], n_copies: int | None = None) -> None:
        n = len(self._generators)
        if n_copies not in (None, n) or (len(copies) and not 0 <= np.min(copies) <= np.max(copies) < n):
            what = f"was reset for {n} copies" if n else "was never reset"
            wanted = f"copy {int(np.max(copies))}" if n_copies in (None, n) else f"{n_copies} copies"
            raise UserError(f"{type(self).__name__} {what} and is asked for {wanted}; reset it first")

    @abstractmethod
    def _begin(self, copies: np.ndarray, everything: bool) -> None:
        """Forget these copies (n,); `everything` says that they are all there are."""

    def take_over(self, states: np.ndarray, copies: np.ndarray) -> None:  # noqa: B027 - most have nothing to do
        """Go on from states (n, S) to which somebody else brought these copies; after `reset`."""

    def asks(self, alive: np.ndarray) -> np.ndarray:
        """Which of the copies that are `alive` (N,) have to look now: (N,)."""
        return alive

    @abstractmethod
    def request(self, seen: dict[str, np.ndarray], copies: np.ndarray) -> object | None:
        """Take what these copies see, arrays (n, ...); returns the question for `answer`, None if there is none."""

    def answer(self, question: object) -> object:
        """What the policy says to it; may take its time, in another thread too."""
        return question

    @abstractmethod
    def deliver(self, question: object, answer: object, late: int = 0) -> None:
        """The answer is in, `late` control steps after its question."""

    @abstractmethod
    def action(self, alive: np.ndarray, command: np.ndarray) -> Decision:
        """What to execute now; whoever has no plan holds its command (N, A)."""

    def decide(self, world, alive: np.ndarray) -> Decision:
        """Look, answer and act for the copies that are alive (N,): once in every control step.

        `world`, a simulation or a robot, has the present `command` (N, A), and `see(inputs, copies)` gives looks.
        """
        self._known((), len(alive))
        self._now += 1
        self._hand_in()  # first, because a question may promise what these answers say
        copies = np.flatnonzero(self.asks(alive))
        question = self.request(world.see(self.inputs, copies), copies) if len(copies) else None
        if question is not None:
            self._pending.append((self._now, question, self.answer(question)))
            self._hand_in()
        return self.action(alive, world.command)

    def _hand_in(self) -> None:
        """Deliver the answers that are due."""
        while self._pending and self._now - self._pending[0][0] >= self.delay:
            asked, question, answer = self._pending.pop(0)
            self.deliver(question, answer, self._now - asked)

    def save(self) -> dict:
        """All that it knows of its copies, to go on from later."""
        return copy.deepcopy({name: value for name, value in vars(self).items() if name.startswith("_")})

    def restore(self, saved: dict) -> None:
        """Be as `save` found it."""
        vars(self).update(copy.deepcopy(saved))
