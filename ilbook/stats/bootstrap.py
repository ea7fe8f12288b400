"""What every bootstrap here shares: its checks, its draws, and the interval that its replicates give."""

import numpy as np

from ilbook import used
from ilbook.stats.estimate import Estimate, check_level

SEED = 20240229  # any constant: the same table must give the same interval


class Bootstrap:
    """Replicates of a statistic, the same at every call, and their middle `level`."""

    REPLICATES = 2000  # enough for the ends of a 95 % interval

    def __init__(self, level: float):
        used.note("stats.bootstrap")
        check_level(level)
        self.level, self.rng = level, np.random.default_rng(SEED)

    def draws(self, n: int) -> np.ndarray:
        """How often each of n items is drawn in each replicate (B, n): means are then weighted sums, without a loop."""
        return self.rng.multinomial(n, np.full(n, 1 / n), size=self.REPLICATES)

    def middle(self, replicates: np.ndarray) -> tuple[float, float]:
        """The percentile interval: the bounds of the middle `level` of the replicates (B,)."""
        return tuple(np.quantile(replicates, [(1 - self.level) / 2, (1 + self.level) / 2]).tolist())

    def estimate(self, values: np.ndarray, totals: np.ndarray, what: str) -> Estimate:
        """The mean of paired differences (S, N), with the interval that their sums in each replicate (B,) give."""
        label = f"paired bootstrap over {what}, {self.level:.0%}"
        return Estimate(float(values.mean()), *self.middle(totals / values.size), values.size, len(values), label)
