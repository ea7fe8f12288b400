"""How many episodes a difference needs, and how large a difference some episodes can show."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import check_alpha, check_pairs, check_rate
from ilbook.stats.intervals import binomial
from ilbook.stats.pairs import sign_p
from ilbook.stats.sequential.peeking import barnard_p

MOST_EPISODES = 10_000_000  # a gap that needs more is no gap


def power_unpaired(p: float, q: float, n: int, alpha: float = 0.05) -> float:
    """Probability that a two-sided test of two rates, n episodes each on their own starts, sees the difference.

    Normal approximation of the pooled z test (Fleiss 1981), without the chance of seeing it the wrong way round.
    """
    check_rate(p, q)
    check_pairs(n)
    pooled, own = _deviations(p, q)
    if p == q or own == 0:
        return float(p != q) if own == 0 else alpha / 2
    return NormalDist().cdf((abs(p - q) * math.sqrt(n) - _z(alpha) * pooled) / own)


def exact_power(
    p: float, q: float, n: int, alpha: float = 0.05, p_values: Callable[[int], np.ndarray] = barnard_p
) -> float:
    """The same for a test whose p-values (n + 1, n + 1) are known for all counts, as in `stats.peeking`; exact.

    At p = q this is the false-alarm rate. Both directions count.
    """
    check_rate(p, q)
    check_alpha(alpha)
    return float(binomial(n, p) @ _rejected(p_values, n, alpha) @ binomial(n, q))


def sample_size(p: float, q: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Episodes per policy, each on its own starts, with which rates p and q are told apart with this power."""
    check_rate(p, q)
    pooled, own = _deviations(p, q)
    return _episodes((_z(alpha) * pooled + _z_power(power) * own) / _gap(p, q))


def detectable_gap(n: int, base: float = 0.5, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest q - base that n episodes per policy show with this power; a UserError when none is large enough."""
    check_rate(base)
    check_pairs(n)
    _z_power(power)
    return _smallest(lambda gap: power_unpaired(base, base + gap, n, alpha) >= power, 1 - base, n)


def power_paired(p: float, q: float, n: int, correlation: float = 0.0, alpha: float = 0.05) -> float:
    """Power of McNemar's exact test on n common starts; exact, both directions count.

    `correlation` (phi) of the outcomes of the two policies on one start; what pairing buys grows with it.
    """
    check_pairs(n)
    check_alpha(alpha)
    wins, losses = discordant(p, q, correlation)
    share = wins + losses
    if share == 0:
        return 0.0
    total = 0.0
    for differing, chance in enumerate(binomial(n, share)):
        if chance > 1e-15:
            k = np.arange(differing + 1)
            total += chance * float(binomial(differing, wins / share) @ (sign_p(k, differing - k) <= alpha))
    return total


def sample_size_paired(p: float, q: float, correlation: float = 0.0, alpha: float = 0.05, power: float = 0.8) -> int:
    """Common starts with which McNemar's test tells rates p and q apart; normal approximation (Connor 1987).

    The exact test needs a few more; see `power_paired`.
    """
    share = sum(discordant(p, q, correlation))
    gap = _gap(p, q)
    spread = math.sqrt(max(share - gap**2, 0.0))
    return _episodes((_z(alpha) * math.sqrt(share) + _z_power(power) * spread) / gap)


def discordant(p: float, q: float, correlation: float) -> tuple[float, float]:
    """Probabilities that on one start only the second, and only the first policy succeeds, at rates p and q."""
    check_rate(p, q)
    both = p * q + correlation * math.sqrt(p * (1 - p) * q * (1 - q))
    if not max(0.0, p + q - 1) - 1e-12 <= both <= min(p, q) + 1e-12:
        raise UserError(f"rates {p} and {q} cannot have the correlation {correlation}; bring it nearer to 0")
    return max(q - both, 0.0), max(p - both, 0.0)


@lru_cache(maxsize=64)
def _rejected(p_values: Callable[[int], np.ndarray], n: int, alpha: float) -> np.ndarray:
    return p_values(n) <= alpha


def _deviations(p: float, q: float) -> tuple[float, float]:
    """Standard deviations of the difference of one episode each: if the rates are equal, and as they are."""
    mean = (p + q) / 2
    return math.sqrt(2 * mean * (1 - mean)), math.sqrt(p * (1 - p) + q * (1 - q))


def _z(alpha: float) -> float:
    check_alpha(alpha)
    return NormalDist().inv_cdf(1 - alpha / 2)


def _z_power(power: float) -> float:
    if not 0.5 <= power < 1:
        raise UserError(f"power {power} is not from 0.5 to below 1; use 0.8")
    return NormalDist().inv_cdf(power)


def _gap(p: float, q: float) -> float:
    if p == q:
        raise UserError(f"both rates are {p}; no number of episodes shows a difference that is not there")
    return abs(p - q)


def _episodes(root: float) -> int:
    """The next whole number above root ** 2."""
    if root**2 > MOST_EPISODES:
        raise UserError(f"the rates differ so little that more than {MOST_EPISODES:,} episodes are needed")
    return max(math.ceil(root**2 - 1e-9), 1)


def _smallest(enough: Callable[[float], bool], most: float, n: int) -> float:
    """The smallest gap up to `most` that is enough, by bisection."""
    if most <= 0 or not enough(most):
        raise UserError(f"with {n} episodes no rate is far enough above the base rate; use more episodes")
    low, high = 0.0, most
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
