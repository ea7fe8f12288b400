"""Intervals for one success rate, and how often an interval really holds the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import Estimate, check_counts, check_level, check_pairs, check_rate


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A success rate with its Wilson score interval (Wilson 1927), sound for few episodes and for rates of 0 or 1."""
    check_level(level)
    check_counts(successes, n)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # At rates of 0 and 1 the interval ends there exactly; rounding would leave 1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(rate, low, high, int(n), 1, f"Wilson interval, {level:.0%}")


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A success rate with its exact interval (Clopper and Pearson 1934): holds the truth at least as often as it says.

    It is wider than Wilson's, because no rate at all may fall short of the level.
    """
    from scipy.special import betaincinv

    check_level(level)
    check_counts(successes, n)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Estimate(successes / n, low, high, int(n), 1, f"Clopper-Pearson interval, {level:.0%}")


def jeffreys(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A success rate with Jeffreys' interval (Brown, Cai and DasGupta 2001), the equal tails of Beta(s + 1/2, f + 1/2).

    For few episodes its coverage stays nearer to the level than Wilson's: see `coverage`.
    """
    from scipy.special import betaincinv

    check_level(level)
    check_counts(successes, n)
    tail = (1 - level) / 2
    a, b = successes + 0.5, n - successes + 0.5
    # With no success, or no failure, an equal-tailed interval would leave out the rate that was seen.
    low = 0.0 if successes == 0 else float(betaincinv(a, b, tail))
    high = 1.0 if successes == n else float(betaincinv(a, b, 1 - tail))
    return Estimate(successes / n, low, high, int(n), 1, f"Jeffreys interval, {level:.0%}")


def stevens(successes: np.ndarray, n: int, coins: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends (low, high) of intervals that hold every rate with exactly the probability `level` (Stevens 1950).

    Each experiment has a count of successes and a coin, drawn evenly from 0 to 1, that says which share of the
    probability of its own count is added to that of larger ones; the interval holds the rates at which the sum lies in
    the middle `level`. For comparison, not for reports: equal counts get different intervals, at times without the
    rate that was seen.
    """
    from scipy.special import betainc

    check_level(level)
    counts, coins = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(coins, dtype=float))
    for count in np.unique(counts):
        check_counts(count, n)
    if not ((coins >= 0) & (coins <= 1)).all():
        raise UserError("a coin of Stevens' interval is not between 0 and 1; draw each with rng.random()")

    def at_least(rate: np.ndarray) -> np.ndarray:
        """P(more successes) + coin P(as many); grows with the rate. 1 and 0 are the limits of betainc's arguments."""
        more = np.where(counts < n, betainc(counts + 1, np.maximum(n - counts, 1e-300), rate), 0.0)
        no_fewer = np.where(counts > 0, betainc(np.maximum(counts, 1e-300), n - counts + 1, rate), 1.0)
        return more + coins * (no_fewer - more)

    def reaches(mass: float) -> np.ndarray:
        """The smallest rate at which `at_least` is `mass`, by halving; 0 or 1 where it always or never is."""
        below, above = np.zeros(counts.shape), np.ones(counts.shape)
        for _ in range(50):  # to 1e-15
            middle = (below + above) / 2
            enough = at_least(middle) >= mass
            below, above = np.where(enough, below, middle), np.where(enough, middle, above)
        return np.where(at_least(np.zeros(counts.shape)) >= mass, 0.0, above)

    tail = (1 - level) / 2
    return reaches(tail), reaches(1 - tail)


def coverage(interval: Callable[[int, int], Estimate], n: int, rates: Sequence[float]) -> np.ndarray:
    """Probability (R,) that the interval from n episodes holds the true rate, for each of `rates` (R,); exact.

    With n episodes there are only n + 1 intervals, so the probability jumps as the rate moves past an end of one.
    """
    check_pairs(n)
    check_rate(*rates)
    truth = np.asarray(rates, dtype=float)
    made = [interval(successes, n) for successes in range(n + 1)]
    low, high = np.array([(estimate.low, estimate.high) for estimate in made]).T
    holds = (low <= truth[:, None]) & (truth[:, None] <= high)  # (R, n + 1)
    return (binomial(n, truth) * holds).sum(axis=1)


def binomial(n: int, rates: float | np.ndarray) -> np.ndarray:
    """Probability (..., n + 1) of each number of successes in n episodes, for success rates (...)."""
    rates = np.asarray(rates, dtype=float)[..., None]
    k = np.arange(n + 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # rates of 0 and 1: 0 * log 0 is 0 here
        logs = np.where(k > 0, k * np.log(rates), 0.0) + np.where(k < n, (n - k) * np.log1p(-rates), 0.0)
    return np.exp(log_choose(n) + logs)


def log_choose(n: int) -> np.ndarray:
    """Logarithms (n + 1,) of the binomial coefficients n over k."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    return factorials[n] - factorials - factorials[::-1]
