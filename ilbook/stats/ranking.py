"""How often the ranking that a sample shows is not the true one, exactly."""

from collections.abc import Sequence

import numpy as np

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.estimate import check_rate, check_whole
from ilbook.stats.intervals import binomial


def wrong_ranking(rates: Sequence[float], n: int) -> float:
    """Probability that policies with these true rates, n episodes each, are not ranked as they are; a tie is wrong."""
    masses = _masses(rates, n)  # (K, n + 1), worst policy first
    in_order = masses[0]  # P(in order so far, the last policy has s successes)
    for mass in masses[1:]:
        in_order = mass * (np.cumsum(in_order) - in_order)
    return float(1 - in_order.sum())


def wrong_winner(rates: Sequence[float], n: int, break_ties: bool = False) -> float:
    """Probability that the truly best policy has not the most successes; a tie is wrong, or left to a coin."""
    masses = _masses(rates, n)  # (K, n + 1), worst policy first
    others, best = masses[:-1], masses[-1]
    fewer = np.cumsum(others, axis=1) - others
    # The coin, as numbers u from 0 to 1: among equals the largest wins. The mean over that of the best policy is exact,
    # because the chance that all others are behind is a polynomial in it. Without a coin ties are lost.
    nodes, weights = np.polynomial.legendre.leggauss(len(masses))
    u, share = ((nodes + 1) / 2, weights / 2) if break_ties else (np.zeros(1), np.ones(1))
    behind = (fewer + u[:, None, None] * others).prod(axis=1)  # (U, n + 1)
    return float(1 - share @ behind @ best)


def _masses(rates: Sequence[float], n: int) -> np.ndarray:
    """Probabilities (K, n + 1) of each number of successes of each policy, from the worst to the best."""
    used.note("stats.ranking")
    check_whole(n)
    check_rate(*rates)
    ordered = np.sort(np.asarray(rates, dtype=float))
    if len(ordered) < 2 or (np.diff(ordered) == 0).any():
        raise UserError(f"rates {list(rates)} have no true ranking; give at least two, all different")
    return binomial(n, ordered)
