"""An effect with its interval, the verdict it supports, and the checks that every statistic makes of its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ilbook.errors import UserError

VERDICTS = ("supported", "contradicted", "inconclusive")


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
        if not all(math.isfinite(number) for number in (self.effect, self.low, self.high)):
            raise UserError(
                f"estimate {self.effect} [{self.low}, {self.high}] is not finite; look for NaN in what it was made from"
            )
        if self.low > self.high:
            raise UserError(f"estimate has the interval [{self.low}, {self.high}]; give the lower end first")

    def negated(self) -> Estimate:
        """The same estimate with its sign turned, for a metric of which less is better."""
        return replace(self, effect=-self.effect, low=-self.high, high=-self.low)


def verdict(estimate: Estimate, minimum: float) -> str:
    """Supported if the whole interval reaches `minimum`, contradicted if none of it does, else inconclusive."""
    if estimate.low >= minimum:
        return "supported"
    return "contradicted" if estimate.high < minimum else "inconclusive"


def check_level(level: float) -> None:
    """Refuse a confidence level in percent."""
    if not 0 < level < 1:
        raise UserError(f"confidence level {level} is not between 0 and 1; use 0.95")


def check_alpha(alpha: float) -> None:
    """Refuse an error rate that is none, or that is a confidence level by mistake."""
    if not 0 < alpha < 0.5:
        raise UserError(f"error rate alpha {alpha} is not between 0 and 0.5; use 0.05")


def check_counts(successes: int, n: int) -> None:
    """Refuse what is no number of successes among n episodes."""
    if not (
        math.isfinite(n)
        and math.isfinite(successes)
        and n == int(n)
        and successes == int(successes)
        and n > 0
        and 0 <= successes <= n
    ):
        raise UserError(
            f"{successes} successes of {n} episodes is no rate; give whole numbers with 0 <= successes <= n and n > 0"
        )


def check_rate(*rates: float) -> None:
    """Refuse a success rate outside 0 to 1, NaN too."""
    for rate in rates:
        if not 0 <= rate <= 1:
            raise UserError(f"success rate {rate} is not between 0 and 1; give 0.7 for 70 %")


def check_sides(sides: int) -> None:
    """Refuse a test that has neither one direction nor both."""
    if sides not in (1, 2):
        raise UserError(f"a test has 1 or 2 sides, not {sides}")


def check_pairs(n: int, name: str = "n") -> None:
    """Refuse a number of episodes or pairs that is not a whole number of at least one."""
    if not (n == n and n == int(n) and n >= 1):
        raise UserError(f"{name} is {n}; give a whole number of at least 1")


def outcomes(values: Sequence[float] | np.ndarray, name: str, binary: bool = True) -> np.ndarray:
    """Outcomes of episodes as floats (N,); a UserError when there are none, or one is NaN or (binary) not 0 or 1."""
    array = np.asarray(values, dtype=float).reshape(-1)
    if array.size == 0:
        raise UserError(f"{name} has no episodes; evaluate it first")
    if not np.isfinite(array).all():
        index = int(np.argmin(np.isfinite(array)))
        raise UserError(f"{name} has {array[index]} for episode {index}; a broken episode counts as a failure, write 0")
    if binary and not np.isin(array, (0, 1)).all():
        value = array[~np.isin(array, (0, 1))][0]
        raise UserError(f"{name} has the outcome {value:g}; this test takes successes (1) and failures (0) only")
    return array


def same_length(first: np.ndarray, second: np.ndarray) -> None:
    """Refuse two lists of outcomes that cannot be paired start by start."""
    if len(first) != len(second):
        raise UserError(
            f"the policies have {len(first)} and {len(second)} episodes; pair them on one list of initial states"
        )
