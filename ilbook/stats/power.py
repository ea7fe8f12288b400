"""How many episodes a difference needs, and how often some episodes show it."""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.estimate import check_alpha, check_rate, check_whole
from ilbook.stats.intervals import binomial
from ilbook.stats.sequential.peeking import barnard_p

Table = Callable[[int], np.ndarray]  # p-values (n + 1, n + 1) of a test for all counts of n episodes each
quantile = NormalDist().inv_cdf


def power_unpaired(p: float, q: float, n: int, alpha: float = 0.05) -> float:
    """Probability that a two-sided test of two rates, n episodes each on their own starts, sees the difference.

    Normal approximation of the pooled z test (Fleiss 1981), without the chance of seeing it the wrong way round.
    """
    check_whole(n)
    check_alpha(alpha)
    pooled, own = _deviations(p, q)
    if own == 0:
        return float(p != q)
    return NormalDist().cdf((abs(p - q) * math.sqrt(n) - quantile(1 - alpha / 2) * pooled) / own)


def exact_power(p: float, q: float, n: int, alpha: float = 0.05, p_values: Table = barnard_p) -> float:
    """The same, exact, for a test as in `sequential.peeking`, both directions; at p = q the false-alarm rate."""
    used.note("stats.power", "stats.sequential.peeking")  # whose tables may be remembered, and so do not say it again
    check_rate(p, q)
    check_alpha(alpha)
    return float(binomial(n, p) @ _rejected(p_values, n, alpha) @ binomial(n, q))


def sample_size(p: float, q: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Episodes per policy, each on its own starts, with which rates p and q are told apart with this power."""
    return _episodes(p, q, *_deviations(p, q), alpha, power)


def sample_size_paired(p: float, q: float, correlation: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> int:
    """Common starts with which McNemar's test tells rates p and q apart; normal approximation (Connor 1987).

    `correlation` (phi) of the outcomes of the two policies on one start; what pairing buys grows with it.
    """
    share = sum(discordant(p, q, correlation))
    return _episodes(p, q, math.sqrt(share), math.sqrt(max(share - (p - q) ** 2, 0.0)), alpha, power)


def discordant(p: float, q: float, correlation: float) -> tuple[float, float]:
    """Probabilities that on one start only the second, and only the first policy succeeds, at rates p and q."""
    used.note("stats.power")
    check_rate(p, q)
    both = p * q + correlation * math.sqrt(p * (1 - p) * q * (1 - q))
    if not max(0.0, p + q - 1) - 1e-12 <= both <= min(p, q) + 1e-12:
        raise UserError(f"rates {p} and {q} cannot have the correlation {correlation}; bring it nearer to 0")
    return max(q - both, 0.0), max(p - both, 0.0)


@lru_cache(maxsize=64)
def _rejected(p_values: Table, n: int, alpha: float) -> np.ndarray:
    return p_values(n) <= alpha


def _deviations(p: float, q: float) -> tuple[float, float]:
    """Standard deviations of the difference of one episode each: if the rates are equal, and as they are."""
    used.note("stats.power")
    check_rate(p, q)
    mean = (p + q) / 2
    return math.sqrt(2 * mean * (1 - mean)), math.sqrt(p * (1 - p) + q * (1 - q))


def _episodes(p: float, q: float, null: float, own: float, alpha: float, power: float) -> int:
    """Episodes for a normal test, from the standard deviations of one difference if the rates are equal and as is."""
    check_alpha(alpha)
    if not 0.5 <= power < 1:
        raise UserError(f"power {power} is not from 0.5 to below 1; use 0.8")
    if p == q:
        raise UserError(f"both rates are {p}; no number of episodes shows a difference that is not there")
    needed = ((quantile(1 - alpha / 2) * null + quantile(power) * own) / (p - q)) ** 2
    return max(math.ceil(needed - 1e-9), 1)
