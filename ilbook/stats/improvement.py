"""Probability of improvement: how often one policy does better than another, whatever the scale of the score."""

from collections.abc import Sequence

import numpy as np

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.bootstrap import Bootstrap
from ilbook.stats.estimate import Estimate

Scores = Sequence[float] | np.ndarray


def probability_of_improvement(first: Scores, second: Scores, level: float = 0.95, n_boot: int = 2000) -> Estimate:
    """P(a run of the first scores higher than one of the second), ties half, mean over tasks (Agarwal et al. 2021).

    Scores (N,) and (M,), or (N, T) and (M, T) with T tasks; any run against any run. Percentile bootstrap over runs,
    within each task.
    """
    one, other, bootstrap = _scores(first), _scores(second), Bootstrap(level, n_boot)
    if one.shape[1] != other.shape[1]:
        raise UserError(f"the policies were scored on {one.shape[1]} and {other.shape[1]} tasks; use the same tasks")
    wins = _wins(one.T[:, :, None], other.T[:, None])  # (T, N, M)
    totals = sum(((bootstrap.draws(len(one)) @ task) * bootstrap.draws(len(other))).sum(axis=1) for task in wins)
    what = "probability of improvement, unpaired bootstrap"
    return bootstrap.estimate(wins.mean(), totals / wins.size, one.size + other.size, 1, what)


def paired_improvement(first: Scores, second: Scores, level: float = 0.95, n_boot: int = 2000) -> Estimate:
    """P(the first scores higher than the second on the same start), ties half, mean over tasks; n counts pairs.

    Scores (N,) or (N, T), row i of both from start i. Percentile bootstrap over starts, within each task.
    """
    one, other, bootstrap = _scores(first), _scores(second), Bootstrap(level, n_boot)
    if one.shape != other.shape:
        raise UserError(f"scores of shapes {one.shape} and {other.shape} cannot be paired; use one list of starts")
    wins = _wins(one, other)  # (N, T)
    totals = sum(bootstrap.draws(len(wins)) @ task for task in wins.T)
    what = "probability of improvement, paired bootstrap"
    return bootstrap.estimate(wins.mean(), totals / wins.size, wins.size, 1, what)


def _wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a > b) + 0.5 * (a == b)


def _scores(scores: Scores) -> np.ndarray:
    """Scores as (N, T)."""
    used.note("stats.improvement")
    array = np.asarray(scores, dtype=float)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise UserError(f"scores of shape {array.shape} must be finite numbers (runs,) or (runs, tasks), at least one")
    return array
