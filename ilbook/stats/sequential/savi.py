"""A test that is valid at any time, without a planned end: the e-process for two success rates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ilbook import used
from ilbook.stats.estimate import check_alpha, check_rate, check_whole, paired_outcomes
from ilbook.stats.sequential.base import SequentialTest, Stopping


@dataclass(frozen=True)
class SaviTest(SequentialTest):
    """Declares the second policy better when the e-process reaches 1 / alpha (Turner and Gruenwald 2023).

    Any number of looks makes a false claim with probability `alpha` at most in either direction. With `sides` 2 the
    mirrored e-process runs beside it, each with half of `alpha`.
    """

    alpha: float = 0.05  # of the whole test
    sides: int = 1
    n_max: int | None = None  # a plan to stop, which the error rate does not need

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha, self.sides)
        if self.n_max is not None:
            check_whole(self.n_max, "n_max")

    @property
    def threshold(self) -> float:
        """Logarithm of the e-value at which one direction is declared."""
        return math.log(self.sides / self.alpha)

    def stop(self, first: np.ndarray, second: np.ndarray) -> tuple[float, str]:
        up, down = log_e(first, second)[-1], log_e(second, first)[-1]
        if self.sides == 2 and down > up:
            return float(down >= self.threshold), "first"
        return float(up >= self.threshold), "second"

    def simulate(self, p_first: float, p_second: float, n_max: int, trials: int, rng: np.random.Generator) -> Stopping:
        """When the test stops within `n_max` pairs, over simulated trials of policies with these rates.

        The order of the outcomes matters, so that no sum over counts is exact; standard error 0.5 / sqrt(trials).
        """
        check_rate(p_first, p_second)
        check_whole(n_max, "n_max")
        first, second = rng.random((2, trials, n_max)) < np.array([p_first, p_second])[:, None, None]
        reached = np.stack([log_e(second, first), log_e(first, second)]) >= self.threshold  # (2, trials, n_max)
        reached[0] &= self.sides == 2
        when = np.where(reached.any(axis=2), reached.argmax(axis=2), n_max)  # (2, trials)
        stopped = [np.bincount(mine[mine < other] + 1, minlength=n_max + 1) for mine, other in (when, when[::-1])]
        return Stopping(*(np.cumsum(stopped, axis=1) / trials))


def log_e(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> np.ndarray:
    """Logarithm (..., t) of the evidence that the second policy is better, after each pair of outcomes (..., t).

    Each pair multiplies the likelihood ratio of the rates estimated from the pairs before it, Beta(1, 1) means,
    against their mean, the nearest equal rate; 1 while the second does not look better. Under the null its expectation
    is at most 1 by the inequality of the means, whatever the rates, so Ville's inequality bounds its maximum.
    """
    used.note("stats.sequential.savi")
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.ndim < 2:
        one, other = paired_outcomes(one, other)
    seen = np.arange(one.shape[-1])
    p, q = ((1 + np.cumsum(x, axis=-1) - x) / (2 + seen) for x in (one, other))
    null = (p + q) / 2
    factors = np.log(np.where(one == 1, p / null, (1 - p) / (1 - null)))
    factors += np.log(np.where(other == 1, q / null, (1 - q) / (1 - null)))
    return np.cumsum(np.where(q > p, factors, 0.0), axis=-1)
