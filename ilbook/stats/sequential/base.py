"""Tests that may stop after every pair of episodes: how a trial is run, and its error rate and power, exactly.

Both policies run from the same list of starts. After t pairs the state is (x, y), the successes of the first and of the
second policy; a test stops in it with a probability that only t, x and y decide.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import check_pairs, check_rate, outcomes, same_length


@dataclass(frozen=True)
class Decision:
    """Where a trial stands after some pairs."""

    better: str | None  # "first" or "second" once one was declared better, else None
    pairs: int  # seen so far
    successes: tuple[int, int]  # of the first and the second policy
    over: bool  # no further pair may be looked at

    def __str__(self) -> str:
        word = f"the {self.better} is better" if self.better else "not separated" if self.over else "go on"
        x, y = self.successes
        return f"{word} after {self.pairs} pairs ({x} and {y} successes)"


@dataclass(frozen=True, eq=False)
class Stopping:
    """Probability that a test has declared one of the policies better after 0, 1, ..., n_max pairs."""

    first: np.ndarray  # (n_max + 1,) cumulative
    second: np.ndarray  # (n_max + 1,) cumulative

    @property
    def declared(self) -> np.ndarray:
        """Probability of either declaration so far (n_max + 1,); at equal rates this is the false-alarm curve."""
        return self.first + self.second

    @property
    def mean_pairs(self) -> float:
        """Expected number of pairs until the trial is over, at n_max if nothing was declared."""
        return float((1 - self.declared[:-1]).sum())


class SequentialTest(ABC):
    """A rule that says after every pair whether to stop; `n_max` is None for one that may go on for ever."""

    n_max: int | None

    @abstractmethod
    def stop(self, first: np.ndarray, second: np.ndarray) -> tuple[float, str]:
        """Probability of stopping after these outcomes (t,), (t,), and which policy is then declared better."""

    def start(self, rng: np.random.Generator | None = None) -> Trial:
        """A new trial, to be fed one pair at a time. `rng` tosses the coin of a randomised boundary.

        Without it such a boundary does not stop: a little less power, never more false alarms, no chance involved.
        """
        return Trial(self, rng)

    def run(self, first: Sequence[float], second: Sequence[float], rng: np.random.Generator | None = None) -> Decision:
        """The decision for two lists of outcomes (T,) of 0 and 1 on the same starts, in the order they were run."""
        one, other = outcomes(first, "the first policy"), outcomes(second, "the second policy")
        same_length(one, other)
        if self.n_max is not None and len(one) > self.n_max:
            raise UserError(
                f"{len(one)} pairs were run but the test was made for {self.n_max}; its error rate ends there"
            )
        trial = self.start(rng)
        for pair in zip(one, other, strict=True):
            decision = trial.update(*pair)
            if decision.over:
                break
        return decision


@dataclass
class Trial:
    """A sequential test under way. The only thing here that changes: it may be used once."""

    test: SequentialTest
    rng: np.random.Generator | None = None
    _first: list[float] = field(default_factory=list, repr=False)
    _second: list[float] = field(default_factory=list, repr=False)
    _better: str | None = None

    @property
    def decision(self) -> Decision:
        """Where the trial stands."""
        pairs = len(self._first)
        over = self._better is not None or pairs == self.test.n_max
        return Decision(self._better, pairs, (int(sum(self._first)), int(sum(self._second))), over)

    def update(self, first: float | None, second: float | None) -> Decision:
        """Add the outcomes of both policies from the next start; a UserError for half a pair or after the end."""
        if first is None or second is None:
            raise UserError(
                "a pair needs the outcome of both policies from the same start; run the one that is missing"
            )
        if self.decision.over:
            raise UserError(
                f"this trial ended after {len(self._first)} pairs; more looks would break its error rate, "
                "so plan a new trial on new starts"
            )
        pair = outcomes([first, second], "the pair")
        self._first.append(float(pair[0]))
        self._second.append(float(pair[1]))
        weight, better = self.test.stop(np.array(self._first), np.array(self._second))
        if weight >= 1 or (weight > 0 and self.rng is not None and self.rng.random() < weight):
            self._better = better
        return self.decision


class CountTest(SequentialTest):
    """A sequential test whose rule depends on the counts alone, so that everything about it can be computed."""

    n_max: int

    @abstractmethod
    def at(self, t: int) -> np.ndarray:
        """Probability (t + 1, t + 1) of stopping after t pairs, by successes of the first and the second policy.

        Where the second has more it is declared better, and the other way round.
        """

    def stop(self, first: np.ndarray, second: np.ndarray) -> tuple[float, str]:
        """See `SequentialTest`."""
        x, y = int(first.sum()), int(second.sum())
        return float(self.at(len(first))[x, y]), "second" if y > x else "first"

    def stopping(self, p_first: float, p_second: float, coin: bool = True) -> Stopping:
        """When the test stops if the policies succeed with these rates, independently; exact.

        Propagates the probability of every state that is not stopped yet. `coin=False`: trials without a generator.
        """
        check_rate(p_first, p_second)
        first, second = np.zeros((2, self.n_max + 1))
        alive = np.ones((1, 1))
        for t in range(1, self.n_max + 1):
            alive = add_pair(alive, p_first, p_second)
            weights = self.at(t)
            stopped = alive * (weights if coin else weights >= 1)
            first[t] = first[t - 1] + np.tril(stopped, -1).sum()
            second[t] = second[t - 1] + np.triu(stopped, 1).sum()
            alive = alive - stopped
        return Stopping(first, second)


def add_pair(mass: np.ndarray, p_first: float | np.ndarray, p_second: float | np.ndarray) -> np.ndarray:
    """Probabilities of the counts (..., t + 1, t + 1) after a pair more (..., t + 2, t + 2); rates scalar or (...)."""
    size = mass.shape[-1]
    p, q = (np.asarray(rate)[..., None, None] for rate in (p_first, p_second))
    rows = np.zeros((*mass.shape[:-2], size + 1, size))
    rows[..., :-1, :] = (1 - p) * mass
    rows[..., 1:, :] += p * mass
    after = np.zeros((*mass.shape[:-2], size + 1, size + 1))
    after[..., :-1] = (1 - q) * rows
    after[..., 1:] += q * rows
    return after


def dead_time(n_max: int) -> int:
    """Pairs during which a test may not stop: max(4, floor(log2 n_max) + 1) (Snyder et al. 2025)."""
    check_pairs(n_max, "n_max")
    return max(4, int(n_max).bit_length())
