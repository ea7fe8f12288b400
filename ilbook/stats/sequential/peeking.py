"""Tests made for a fixed number of episodes, and what becomes of their error rate when one looks after every pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import check_alpha, check_pairs
from ilbook.stats.intervals import binomial, log_choose
from ilbook.stats.sequential.base import CountTest

FIRST_LOOK = 5  # with fewer pairs hardly anybody tests
NUISANCE = 64  # common rates over which Barnard's p-value is maximised, between 0 and 1/2; more move it by under 0.001


@dataclass(frozen=True)
class PeekingTest(CountTest):
    """The naive habit: a two-sided test for fixed n after every pair from `first` on, stopping when p <= alpha.

    `first = n_max` is the honest use, one look at the end. `p_values` is one of the functions of this module.
    """

    p_values: Callable[[int], np.ndarray]
    n_max: int
    alpha: float = 0.05
    first: int = FIRST_LOOK

    def __post_init__(self) -> None:
        check_pairs(self.n_max, "n_max")
        check_alpha(self.alpha)
        if not 1 <= self.first <= self.n_max:
            raise UserError(f"the first look is after {self.first} pairs; choose 1 to n_max = {self.n_max}")

    def at(self, t: int) -> np.ndarray:
        """See `CountTest`."""
        return self._looks[t].astype(float) if t >= self.first else np.zeros((t + 1, t + 1))

    @cached_property
    def _looks(self) -> dict[int, np.ndarray]:
        return {t: self.p_values(t) <= self.alpha for t in range(self.first, self.n_max + 1)}


def fisher_p(t: int) -> np.ndarray:
    """Two-sided p-values (t + 1, t + 1) of Fisher's exact test for all counts x, y of t episodes each.

    With equal n, outcomes that are as rare as the observed one or rarer are the two tails of a symmetric distribution.
    """
    check_pairs(t)
    # By y - x along each anti-diagonal x + y: hypergeometric, given the total number of successes.
    total = np.add.outer(np.arange(t + 1), np.arange(t + 1))
    mass = np.exp(np.add.outer(log_choose(t), log_choose(t)) - log_choose(2 * t)[total])
    tail = mass.copy()  # P(second has y or more | total)
    for x in range(1, t + 1):
        tail[x, :-1] += tail[x - 1, 1:]
    two_sided = np.triu(np.minimum(2 * tail, 1.0), 1)
    return two_sided + two_sided.T + np.eye(t + 1)


def pooled_z_p(t: int) -> np.ndarray:
    """Two-sided p-values (t + 1, t + 1) of the z test with pooled variance for all counts x, y of t episodes each."""
    from scipy.special import erfc

    return erfc(np.abs(_pooled_z(t)) / np.sqrt(2))


def barnard_p(t: int) -> np.ndarray:
    """Two-sided p-values (t + 1, t + 1) of Barnard's exact test (pooled z) for all counts x, y of t episodes each.

    The probability of a |z| at least as large, at the common rate where that is most likely.
    """
    extreme = np.abs(_pooled_z(t)).reshape(-1)
    order = np.argsort(-extreme, kind="stable")
    rates = np.sin(np.linspace(0, np.pi / 4, NUISANCE + 1)[1:]) ** 2  # above 1/2 the distribution mirrors
    p_values = np.zeros(len(extreme))
    for marginal in binomial(t, rates):
        mass = np.outer(marginal, marginal).reshape(-1)
        np.maximum(p_values, np.cumsum(mass[order]), out=p_values)
    # Equal |z| count together: all get the sum up to the last of them. Rounding must not tell them apart.
    rounded = np.round(extreme[order], 9)
    last = np.searchsorted(-rounded, -rounded, side="right") - 1
    result = np.empty(len(extreme))
    result[order] = np.minimum(p_values[last], 1.0)
    return result.reshape(t + 1, t + 1)


def _pooled_z(t: int) -> np.ndarray:
    """The pooled z statistic (t + 1, t + 1) of y against x successes; 0 where both are 0 or both t."""
    check_pairs(t)
    x, y = np.meshgrid(np.arange(t + 1), np.arange(t + 1), indexing="ij")
    pooled = (x + y) / (2 * t)
    deviation = np.sqrt(pooled * (1 - pooled) * 2 / t)
    return np.divide((y - x) / t, deviation, out=np.zeros_like(pooled), where=deviation > 0)
