"""Tests that may stop after every pair of episodes: how a trial is run, and its error rate and power, exactly.

Both policies run from the same list of starts. After t pairs the state is (x, y), the successes of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.estimate import check_rate, paired_outcomes


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


class SequentialTest:
    """A rule that says after every pair whether to stop; `n_max` is None for one that may go on for ever."""

    n_max: int | None

    def __post_init__(self) -> None:
        used.note_type(type(self))

    def stop(self, first: np.ndarray, second: np.ndarray) -> tuple[float, str]:
        """Probability of stopping after these outcomes (t,), (t,), and which policy is then declared better."""
        raise NotImplementedError

    def run(self, first: Sequence[float], second: Sequence[float], rng: np.random.Generator | None = None) -> Decision:
        """The decision for two lists of outcomes (T,) of 0 and 1 on the same starts, in the order they were run.

        What was run after the test has stopped does not count. `rng` tosses the coin of a randomised boundary; without
        it such a boundary does not stop: a little less power, never more false alarms, no chance involved.
        """
        one, other = paired_outcomes(first, second)
        if self.n_max is not None and len(one) > self.n_max:
            raise UserError(f"{len(one)} pairs were run but the test was made for {self.n_max}; end the trial there")
        for t in range(1, len(one) + 1):
            weight, better = self.stop(one[:t], other[:t])
            stops = weight >= 1 or (weight > 0 and rng is not None and rng.random() < weight)
            if stops:
                break
        successes = int(one[:t].sum()), int(other[:t].sum())
        return Decision(better if stops else None, t, successes, stops or t == self.n_max)


@dataclass(frozen=True, eq=False)
class CountTest(SequentialTest):
    """A sequential test whose rule depends on the counts alone, so that everything about it can be computed."""

    boundaries: Sequence[np.ndarray] = field(repr=False)  # after 0, 1, ..., n_max pairs, see `at`

    @property
    def n_max(self) -> int:
        """Pairs that the test was made for."""
        return len(self.boundaries) - 1

    def at(self, t: int) -> np.ndarray:
        """Probability (t + 1, t + 1) of stopping after t pairs for the policy with more successes, by those of both."""
        return self.boundaries[t]

    def stop(self, first: np.ndarray, second: np.ndarray) -> tuple[float, str]:
        x, y = int(first.sum()), int(second.sum())
        return float(self.at(len(first))[x, y]), "second" if y > x else "first"

    def stopping(self, p_first: float, p_second: float) -> Stopping:
        """When the test stops, with its coin, if the policies succeed with these rates, independently; exact."""
        check_rate(p_first, p_second)
        chances, alive = np.zeros((2, self.n_max + 1)), np.ones((1, 1))
        for t in range(1, self.n_max + 1):
            alive = add_pair(alive, p_first, p_second)
            stopped = alive * self.at(t)
            chances[:, t] = np.tril(stopped, -1).sum(), np.triu(stopped, 1).sum()
            alive = alive - stopped
        return Stopping(*np.cumsum(chances, axis=1))


def add_pair(mass: np.ndarray, p_first: float | np.ndarray, p_second: float | np.ndarray) -> np.ndarray:
    """Probabilities of the counts (..., t + 1, t + 1) after a pair more (..., t + 2, t + 2); rates scalar or (...)."""
    size = mass.shape[-1]
    p, q = (np.asarray(rate)[..., None, None] for rate in (p_first, p_second))
    rows, after = (np.zeros((*mass.shape[:-2], size + 1, width)) for width in (size, size + 1))
    rows[..., :-1, :] = (1 - p) * mass
    rows[..., 1:, :] += p * mass
    after[..., :-1] = (1 - q) * rows
    after[..., 1:] += q * rows
    return after
