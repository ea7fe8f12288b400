"""What every bootstrap here shares: its checks, its draws, and the interval that its replicates give."""

from __future__ import annotations

import numpy as np

from ilbook.errors import UserError
from ilbook.stats.estimate import check_level

BOOTSTRAP_SEED = 20240229  # any constant: the same table must give the same interval
FEWEST = 100  # replicates


def check(level: float, n_boot: int) -> None:
    """Refuse a level that is none, and too few replicates to have quantiles."""
    check_level(level)
    if n_boot < FEWEST:
        raise UserError(f"n_boot is {n_boot}; an interval needs at least {FEWEST} bootstrap replicates")


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """`rng`, or the one that makes intervals repeat."""
    return rng or np.random.default_rng(BOOTSTRAP_SEED)


def draws(n: int, n_boot: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n items is drawn in each replicate (B, n): a mean is then a weighted sum, without a loop."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_boot)


def middle(replicates: np.ndarray, level: float) -> tuple[float, float]:
    """The percentile interval: the bounds of the middle `level` of the replicates (B,)."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
