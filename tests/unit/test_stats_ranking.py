from itertools import product

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.stats.intervals import binomial
from ilbook.stats.ranking import wrong_ranking, wrong_winner


def enumerated(rates, n, right):
    """1 - the expected share of right answers, over every outcome."""
    masses = [binomial(n, rate) for rate in rates]
    outcomes = product(range(n + 1), repeat=len(rates))
    return 1 - sum(np.prod([mass[s] for mass, s in zip(masses, o, strict=True)]) * right(np.array(o)) for o in outcomes)


@pytest.mark.parametrize("rates", [(0.5, 0.6, 0.7), (0.1, 0.5), (0.2, 0.4, 0.45, 0.9), (0.0, 0.3, 1.0)])
@pytest.mark.parametrize("n", [1, 4])
def test_against_enumeration(rates, n):
    assert wrong_ranking(rates, n) == pytest.approx(enumerated(rates, n, lambda c: (np.diff(c) > 0).all()))
    assert wrong_winner(rates, n) == pytest.approx(enumerated(rates, n, lambda c: c[-1] > c[:-1].max()))
    assert wrong_winner(rates, n, break_ties=True) == pytest.approx(
        enumerated(rates, n, lambda c: (c[-1] == c.max()) / (c == c.max()).sum())
    )


def test_three_policies_at_50_60_70_percent():
    wrong = [wrong_ranking((0.5, 0.6, 0.7), n) for n in (10, 20, 50, 200)]
    assert wrong == pytest.approx([0.727, 0.586, 0.347, 0.045], abs=0.001)
    assert wrong_ranking((0.7, 0.5, 0.6), 20) == wrong[1]


@pytest.mark.parametrize(
    ("rates", "n", "message"),
    [
        ((0.5,), 10, "no true ranking"),
        ((0.5, 0.5), 10, "no true ranking"),
        ((0.5, np.nan), 10, "rate nan"),
        ((0.1, 0.2), 0, "n is 0"),
    ],
)
def test_refuses(rates, n, message):
    with pytest.raises(UserError, match=message):
        wrong_ranking(rates, n)
