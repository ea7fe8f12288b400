"""Tests made for a fixed number of episodes, and what becomes of their error rate when one looks after every pair."""

from collections.abc import Callable

import numpy as np
from scipy.special import erfc
from scipy.stats import binom

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.estimate import check_alpha, check_whole
from ilbook.stats.intervals import binomial
from ilbook.stats.sequential.base import CountTest

FIRST_LOOK = 5  # with fewer pairs hardly anybody tests
NUISANCE = 64  # common rates over which Barnard's p-value is maximised, between 0 and 1/2; more move it by under 0.001


class PeekingTest(CountTest):
    """The naive habit: a two-sided test for fixed n after every pair from `first` on, stopping when p <= alpha.

    `first = n_max` is the honest use, one look at the end. `p_values` is one of the functions of this module.
    """

    def __init__(self, p_values: Callable[[int], np.ndarray], n_max: int, alpha: float = 0.05, first: int = FIRST_LOOK):
        check_whole(n_max, "n_max")
        check_alpha(alpha)
        if not 1 <= first <= n_max:
            raise UserError(f"the first look is after {first} pairs; choose 1 to n_max = {n_max}")
        before = [np.zeros((t + 1, t + 1)) for t in range(first)]
        super().__init__([*before, *(p_values(t) <= alpha for t in range(first, n_max + 1))])


def fisher_p(t: int) -> np.ndarray:
    """Two-sided p-values (t + 1, t + 1) of Fisher's exact test for all counts x, y of t episodes each."""
    used.note("stats.sequential.peeking")
    check_whole(t)
    # Hypergeometric by y - x along each anti-diagonal x + y; symmetric, so what is as rare or rarer are its two tails.
    x, y = np.indices((t + 1, t + 1))
    each, both = (binom.logpmf(np.arange(n + 1), n, 0.5) for n in (t, 2 * t))
    mass = np.exp(each[x] + each[y] - both[x + y])
    tail = mass.copy()  # P(second has y or more | total)
    for row in range(1, t + 1):
        tail[row, :-1] += tail[row - 1, 1:]
    two_sided = np.triu(np.minimum(2 * tail, 1.0), 1)
    return two_sided + two_sided.T + np.eye(t + 1)


def pooled_z_p(t: int) -> np.ndarray:
    """Two-sided p-values (t + 1, t + 1) of the z test with pooled variance for all counts x, y of t episodes each."""
    return erfc(np.abs(_pooled_z(t)) / np.sqrt(2))


def barnard_p(t: int) -> np.ndarray:
    """Two-sided p-values (t + 1, t + 1) of Barnard's exact test for all counts x, y of t episodes each.

    The probability of a pooled |z| at least as large, at the common rate where that is most likely.
    """
    extreme = np.round(np.abs(_pooled_z(t)), 9).reshape(-1)  # rounding errors must not tell equal ones apart
    order = np.argsort(-extreme, kind="stable")
    rates = np.sin(np.linspace(0, np.pi / 4, NUISANCE + 1)[1:]) ** 2  # above 1/2 the distribution mirrors
    p_values = np.zeros(len(extreme))
    for marginal in binomial(t, rates):
        np.maximum(p_values, np.cumsum(np.outer(marginal, marginal).reshape(-1)[order]), out=p_values)
    # Equal |z| count together: all get the sum up to the last of them.
    last = np.searchsorted(-extreme[order], -extreme, side="right") - 1
    return np.minimum(p_values[last], 1.0).reshape(t + 1, t + 1)


def _pooled_z(t: int) -> np.ndarray:
    """The pooled z statistic (t + 1, t + 1) of y against x successes; 0 where both are 0 or both t."""
    used.note("stats.sequential.peeking")
    check_whole(t)
    x, y = np.indices((t + 1, t + 1))
    pooled = (x + y) / (2 * t)
    deviation = np.sqrt(pooled * (1 - pooled) * 2 / t)
    return np.divide((y - x) / t, deviation, out=np.zeros_like(pooled), where=deviation > 0)
