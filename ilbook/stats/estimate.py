"""An effect with its interval, the verdict it supports, and the checks that every statistic makes of its input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Self

import numpy as np

from ilbook import used
from ilbook.errors import UserError

VERDICTS = ("supported", "contradicted", "inconclusive")
Z_LEVEL, Z_POWER = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)


@dataclass(frozen=True)
class Estimate:
    """An effect with its interval: from `n` episodes (or pairs of episodes) over `seeds` trainings (0: of none)."""

    effect: float
    low: float
    high: float
    n: int
    seeds: int
    method: str  # how the interval was made, in words

    def __post_init__(self) -> None:
        used.note("stats.estimate")
        if not (math.isfinite(self.effect) and -math.inf < self.low <= self.high < math.inf):
            what = f"estimate {self.effect} [{self.low}, {self.high}] is no interval"
            raise UserError(f"{what}: look for NaN in what it was made from, and give the lower end first")

    def negated(self) -> Self:
        """The same estimate with its sign turned, for a metric of which less is better."""
        return replace(self, effect=-self.effect, low=-self.high, high=-self.low)


def verdict(estimate: Estimate, minimum: float) -> str:
    """Supported if the whole interval reaches `minimum`, contradicted if none of it does, else inconclusive."""
    used.note("stats.estimate")
    if estimate.low >= minimum:
        return "supported"
    return "contradicted" if estimate.high < minimum else "inconclusive"


def smallest_visible(estimate: Estimate) -> float:
    """The true effect of which a 95 % interval as wide as this one excludes 0 with power 0.8: 1.43 half-widths.

    A half-width is z(0.975) standard errors; in four of five repetitions the effect found is at most z(0.8) too small.
    """
    used.note("stats.estimate")
    return (1 + Z_POWER / Z_LEVEL) * (estimate.high - estimate.low) / 2


def check_level(level: float) -> None:
    """Refuse a confidence level in percent."""
    if not 0 < level < 1:
        raise UserError(f"confidence level {level} is not between 0 and 1; use 0.95")


def check_alpha(alpha: float, sides: int = 1) -> None:
    """Refuse an error rate that is none or a confidence level by mistake, and neither one direction nor both."""
    if not 0 < alpha < 0.5:
        raise UserError(f"error rate alpha {alpha} is not between 0 and 0.5; use 0.05")
    if sides not in (1, 2):
        raise UserError(f"a test has 1 or 2 sides, not {sides}")


def check_counts(successes: int, n: int) -> None:
    """Refuse what is no number of successes among n episodes."""
    if not (0 <= successes <= n and 0 < n < math.inf and successes % 1 == n % 1 == 0):
        raise UserError(f"{successes} successes of {n} episodes is no rate; give whole numbers, n > 0 and 0 to n")


def check_rate(*rates: float) -> None:
    """Refuse a success rate outside 0 to 1, NaN too."""
    for rate in rates:
        if not 0 <= rate <= 1:
            raise UserError(f"success rate {rate} is not between 0 and 1; give 0.7 for 70 %")


def check_whole(n: int, name: str = "n") -> None:
    """Refuse a number of episodes or pairs that is not a whole number of at least one."""
    if not (n >= 1 and n % 1 == 0):
        raise UserError(f"{name} is {n}; give a whole number of at least 1")


def outcomes(values: Sequence[float] | np.ndarray, name: str) -> np.ndarray:
    """Successes and failures as floats (N,); a UserError when there are none, or one is not 0 or 1."""
    array = np.asarray(values, dtype=float).reshape(-1)
    if array.size == 0:
        raise UserError(f"{name} has no episodes; evaluate it first")
    for index in np.flatnonzero(~np.isin(array, (0, 1))):
        wrong = f"{name} has the outcome {array[index]:g} for episode {index}"
        raise UserError(f"{wrong}; write 1 for a success, 0 for a failure or a broken episode")
    return array


def paired_outcomes(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The outcomes (N,), (N,) of two policies on the same starts; refuses what cannot be paired start by start."""
    one, other = outcomes(first, "the first policy"), outcomes(second, "the second policy")
    if len(one) != len(other):
        raise UserError(f"the policies have {len(one)} and {len(other)} episodes; pair them on one list of starts")
    return one, other
