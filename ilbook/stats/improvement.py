"""Probability of improvement: how often one policy does better than another, whatever the scale of the score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ilbook.errors import UserError
from ilbook.stats import bootstrap
from ilbook.stats.estimate import Estimate


def probability_of_improvement(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    level: float = 0.95,
    n_boot: int = 2000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """P(a run of the first scores higher than one of the second), ties half, mean over tasks (Agarwal et al. 2021).

    Scores (N,) and (M,), or (N, T) and (M, T) with T tasks; any run against any run. Percentile bootstrap over runs,
    within each task.
    """
    one, other = _scores(first), _scores(second)
    if one.shape[1] != other.shape[1]:
        raise UserError(f"the policies were scored on {one.shape[1]} and {other.shape[1]} tasks; use the same tasks")
    bootstrap.check(level, n_boot)
    rng = bootstrap.generator(rng)
    effect, means = 0.0, np.zeros(n_boot)
    for a, b in zip(one.T, other.T, strict=True):
        wins = _wins(a[:, None], b[None, :])  # (N, M)
        effect += wins.mean() / one.shape[1]
        drawn_a, drawn_b = (bootstrap.draws(len(x), n_boot, rng) for x in (a, b))
        means += ((drawn_a @ wins) * drawn_b).sum(axis=1) / wins.size / one.shape[1]
    return _estimate(effect, means, level, one.size + other.size, "probability of improvement, unpaired bootstrap")


def paired_improvement(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    level: float = 0.95,
    n_boot: int = 2000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """P(the first scores higher than the second on the same start), ties half, mean over tasks; n counts pairs.

    Scores (N,) or (N, T), row i of both from start i. Percentile bootstrap over starts, within each task.
    """
    one, other = _scores(first), _scores(second)
    if one.shape != other.shape:
        raise UserError(f"scores of shapes {one.shape} and {other.shape} cannot be paired; use one list of starts")
    bootstrap.check(level, n_boot)
    rng = bootstrap.generator(rng)
    wins = _wins(one, other)  # (N, T)
    means = sum(bootstrap.draws(len(wins), n_boot, rng) @ task / wins.size for task in wins.T)
    return _estimate(wins.mean(), means, level, wins.size, "probability of improvement, paired bootstrap")


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a > b) + 0.5 * (a == b)


def _scores(scores: Sequence[float] | np.ndarray) -> np.ndarray:
    """Scores as (N, T)."""
    array = np.asarray(scores, dtype=float)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise UserError(f"scores of shape {array.shape} must be finite numbers (runs,) or (runs, tasks), at least one")
    return array


def _estimate(effect: float, means: np.ndarray, level: float, n: int, what: str) -> Estimate:
    return Estimate(float(effect), *bootstrap.middle(means, level), n, 1, f"{what}, {level:.0%}")
