import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from ilbook.errors import UserError
from ilbook.stats.improvement import paired_improvement, probability_of_improvement

SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=20)


@given(SCORES, SCORES)
def test_unpaired_is_the_mann_whitney_statistic(first, second):
    u = scipy_stats.mannwhitneyu(first, second).statistic
    found = probability_of_improvement(first, second, n_boot=100)
    assert found.effect == pytest.approx(u / (len(first) * len(second)))
    assert 0 <= found.low <= found.high <= 1


def test_tasks_count_alike():
    first, second = np.array([[1, 0], [1, 0], [1, 1]]), np.array([[0, 0], [0, 1]])
    assert probability_of_improvement(first, second).effect == pytest.approx((1 + (0.5 * 2 + 0.5 + 1) / 6) / 2)


def test_paired_knows_that_a_hard_start_is_hard_for_both():
    hard = np.random.default_rng(0).normal(0, 10, 60)
    assert paired_improvement(hard + 0.1, hard).low == 1
    assert probability_of_improvement(hard + 0.1, hard).effect == pytest.approx(0.5, abs=0.02)


def test_the_interval_covers():
    rng = np.random.default_rng(1)
    truth = scipy_stats.norm.cdf(0.5 / np.sqrt(2))
    inside = 0
    for _ in range(300):
        found = probability_of_improvement(rng.normal(0.5, 1, 40), rng.normal(0, 1, 40), n_boot=300)
        inside += found.low <= truth <= found.high
    assert 0.9 <= inside / 300 <= 0.98


@pytest.mark.parametrize("function", [paired_improvement, probability_of_improvement])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [([], [1], "at least one"), ([np.nan], [1], "finite"), (np.ones((2, 3)), np.ones((2, 2)), "tasks|paired")],
)
def test_refuses(function, first, second, message):
    with pytest.raises(UserError, match=message):
        function(first, second)


def test_pairs_need_equal_numbers():
    with pytest.raises(UserError, match="cannot be paired"):
        paired_improvement([1, 2], [1, 2, 3])
