"""How often the ranking that a sample shows is not the true one, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import check_pairs, check_rate
from ilbook.stats.intervals import binomial


def wrong_ranking(rates: Sequence[float], n: int, break_ties: bool = False) -> float:
    """Probability that policies with these true rates, n independent episodes each, are not ranked as they are.

    A tie counts as wrong, because it does not show the order; with `break_ties` it is broken by a fair coin.
    """
    ordered = _distinct(rates, n)
    masses = binomial(n, ordered)  # (K, n + 1), worst policy first
    # alive[m, s]: in order so far, the last policy has s successes, and so do the m policies before it.
    alive = np.zeros((len(ordered), n + 1))
    alive[0] = masses[0]
    for mass in masses[1:]:
        below = np.concatenate([[0.0], np.cumsum(alive.sum(axis=0))[:-1]])  # P(in order, last has fewer than s)
        # Of the (m + 1)! orders that a coin may give m + 1 equal policies one is right: 1/2, then 1/3, ...
        ties = alive[:-1] / np.arange(2, len(ordered) + 1)[:, None] if break_ties else np.zeros_like(alive[:-1])
        alive = np.concatenate([below[None], ties]) * mass
    return float(1 - alive.sum())


def wrong_winner(rates: Sequence[float], n: int, break_ties: bool = False) -> float:
    """Probability that the truly best policy does not have the most successes; ties as in `wrong_ranking`."""
    masses = binomial(n, _distinct(rates, n))  # (K, n + 1), worst policy first
    # ways[m, s]: every other policy has at most s successes, and exactly m of them have s.
    ways = np.zeros((len(masses), n + 1))
    ways[0] = 1.0
    for mass in masses[:-1]:
        fewer = np.cumsum(mass) - mass
        tied = np.concatenate([np.zeros((1, n + 1)), ways[:-1] * mass])
        ways = ways * fewer + tied
    share = 1 / np.arange(1, len(masses) + 1) if break_ties else np.eye(len(masses))[0]
    return float(1 - share @ ways @ masses[-1])


def _distinct(rates: Sequence[float], n: int) -> np.ndarray:
    check_pairs(n)
    check_rate(*rates)
    ordered = np.sort(np.asarray(rates, dtype=float))
    if len(ordered) < 2 or (np.diff(ordered) == 0).any():
        raise UserError(f"rates {list(rates)} have no true ranking; give at least two, all different")
    return ordered
