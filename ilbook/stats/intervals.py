"""Intervals for one success rate, and how often an interval really holds the truth."""

from collections.abc import Callable, Sequence

import numpy as np

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.estimate import Estimate, check_counts, check_level, check_rate, check_whole


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A success rate with its Wilson score interval (Wilson 1927), sound for few episodes and for rates of 0 or 1."""
    return _interval(successes, n, level, "wilson", "Wilson")


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A success rate with its exact interval (Clopper and Pearson 1934): wide, for no rate may fall short."""
    return _interval(successes, n, level, "beta", "Clopper-Pearson")


def jeffreys(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A success rate with Jeffreys' interval (Brown et al. 2001), the equal tails of Beta(s + 1/2, f + 1/2)."""
    return _interval(successes, n, level, "jeffreys", "Jeffreys")


def _interval(successes: int, n: int, level: float, method: str, name: str) -> Estimate:
    from statsmodels.stats.proportion import proportion_confint  # brings pandas, which a claim does without

    used.note("stats.intervals")
    check_level(level)
    check_counts(successes, n)
    low, high = map(float, proportion_confint(successes, n, 1 - level, method=method))
    # With no success, or no failure, Wilson's ends are off by rounding, and Jeffreys' leave out the rate that was seen.
    low, high = (0.0 if successes == 0 else low), (1.0 if successes == n else high)
    return Estimate(successes / n, low, high, int(n), 1, f"{name} interval, {level:.0%}")


def stevens(successes: np.ndarray, n: int, coins: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends (low, high) of intervals that hold every rate with exactly the probability `level` (Stevens 1950).

    Each count has a coin, drawn evenly from 0 to 1: the share of the probability of that count that is added to that of
    larger ones. The interval holds the rates at which the sum lies in the middle `level`. For comparison, not for
    reports: equal counts get different intervals, at times without the rate that was seen.
    """
    from scipy.optimize.elementwise import find_root
    from scipy.special import bdtrc

    used.note("stats.intervals")
    check_level(level)
    counts, coins = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(coins, dtype=float))
    for count in np.unique(counts):
        check_counts(count, n)
    if not ((coins >= 0) & (coins <= 1)).all():
        raise UserError("a coin of Stevens' interval is not between 0 and 1; draw each with rng.random()")

    def excess(rates: np.ndarray, counts: np.ndarray, coins: np.ndarray, tail: np.ndarray) -> np.ndarray:
        """P(more successes) + coin P(as many) - tail; grows with the rate."""
        more, as_many_or_more = bdtrc(counts, n, rates), bdtrc(counts - 1, n, rates)
        return more + coins * (as_many_or_more - more) - tail

    tails = np.array([(1 - level) / 2, (1 + level) / 2]).reshape(2, *[1] * counts.ndim)
    drawn = counts, coins, tails
    found = find_root(excess, (0.0, 1.0), args=drawn).x
    # Where the sum is always or never above a tail the interval ends at 0 or 1.
    found = np.where(excess(0.0, *drawn) >= 0, 0.0, np.where(excess(1.0, *drawn) <= 0, 1.0, found))
    return found[0], found[1]


def coverage(interval: Callable[[int, int], Estimate], n: int, rates: Sequence[float]) -> np.ndarray:
    """Probability (R,) that the interval from n episodes holds the true rate, for each of `rates` (R,); exact."""
    used.note("stats.intervals")
    check_whole(n)
    check_rate(*rates)
    made, truth = [interval(successes, n) for successes in range(n + 1)], np.asarray(rates, dtype=float)[:, None]
    low, high = np.array([(one.low, one.high) for one in made]).T
    return (binomial(n, rates) * ((low <= truth) & (truth <= high))).sum(axis=1)  # over (R, n + 1)


def binomial(n: int, rates: float | np.ndarray) -> np.ndarray:
    """Probability (..., n + 1) of each number of successes in n episodes, for success rates (...)."""
    from scipy.stats import binom

    used.note("stats.intervals")
    return binom.pmf(np.arange(n + 1), n, np.asarray(rates, dtype=float)[..., None])
