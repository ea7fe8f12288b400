"""Tests of one difference between two policies, for a number of episodes that was fixed in advance."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import barnard_exact, binomtest

from ilbook import used
from ilbook.stats.estimate import check_counts, paired_outcomes


@dataclass(frozen=True)
class Comparison:
    """A difference first - second of two rates, and how surprising it is if there is none."""

    effect: float
    p: float  # two-sided
    n: tuple[int, int]  # episodes of each


def mcnemar(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """McNemar's exact test (1947) of outcomes 0 or 1 (N,) of two policies on the same starts, in the same order.

    Only starts on which they differ count. Starts must be independent: one under several training seeds is not.
    """
    used.note("stats.pairs")
    one, other = paired_outcomes(first, second)
    wins, losses = int((one > other).sum()), int((one < other).sum())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Comparison(float(one.mean() - other.mean()), p, (len(one), len(other)))


def barnard(first: tuple[int, int], second: tuple[int, int]) -> Comparison:
    """Barnard's exact test (1945, pooled z) of two policies, each given as (successes, episodes), on own starts."""
    used.note("stats.pairs")
    (x, n), (y, m) = first, second
    check_counts(x, n)
    check_counts(y, m)
    same = x + y in (0, n + m)  # all succeed or all fail: no evidence, and z is 0 / 0
    p = 1.0 if same else float(barnard_exact([[x, y], [n - x, m - y]]).pvalue)
    return Comparison(x / n - y / m, min(p, 1.0), (int(n), int(m)))
