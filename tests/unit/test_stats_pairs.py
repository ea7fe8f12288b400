import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats import contingency_tables

from ilbook.errors import UserError
from ilbook.stats import pairs

OUTCOMES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
TESTS = [pairs.mcnemar, pairs.welch]


@given(OUTCOMES)
def test_mcnemar_agrees_with_statsmodels(outcomes):
    first, second = np.array(outcomes).T
    counts = [[((first == i) & (second == j)).sum() for j in (0, 1)] for i in (0, 1)]
    found = pairs.mcnemar(first, second)
    if counts[0][1] + counts[1][0]:
        assert found.p == pytest.approx(contingency_tables.mcnemar(counts, exact=True).pvalue)
    else:
        assert found.p == 1
    assert found.effect == pytest.approx(first.mean() - second.mean())


def test_barnard_is_scipys_with_the_policies_as_columns():
    found = pairs.barnard((16, 20), (8, 20))
    assert found.p == scipy_stats.barnard_exact([[16, 8], [4, 12]]).pvalue
    assert found.p < scipy_stats.fisher_exact([[16, 8], [4, 12]]).pvalue
    assert (found.effect, found.n) == (pytest.approx(0.4), (20, 20))


@pytest.mark.parametrize("counts", [((0, 10), (0, 20)), ((10, 10), (20, 20))])
def test_barnard_without_any_difference(counts):
    assert pairs.barnard(*counts).p == 1


@given(st.integers(0, 1000), st.integers(2, 40), st.integers(2, 40))
def test_welch_agrees_with_scipy(seed, n, m):
    rng = np.random.default_rng(seed)
    first, second = rng.beta(2, 1, n), rng.beta(1, 3, m)
    reference = scipy_stats.ttest_ind(first, second, equal_var=False)
    assert pairs.welch(first, second).p == pytest.approx(reference.pvalue)


def test_welch_of_constant_scores():
    assert pairs.welch([0.5, 0.5], [0.5, 0.5]).p == 1
    assert pairs.welch([1.0, 1.0], [0.5, 0.5]).p == 0


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("values", "message"), [([], "no episodes"), ([1, np.nan], "broken episode"), ([1, np.inf], "inf")]
)
def test_what_is_no_outcome_is_refused(test, values, message):
    with pytest.raises(UserError, match=message):
        test(values, [0, 1])
    with pytest.raises(UserError, match=message):
        test([0, 1], values)


def test_tests_refuse_what_they_are_not_for():
    with pytest.raises(UserError, match="2 and 3 episodes; pair them"):
        pairs.mcnemar([0, 1], [0, 1, 1])
    with pytest.raises(UserError, match=r"outcome 0\.5"):
        pairs.mcnemar([0, 0.5], [0, 1])
    with pytest.raises(UserError, match="at least 2"):
        pairs.welch([1], [0, 1])
    with pytest.raises(UserError, match="is no rate"):
        pairs.barnard((0, 0), (1, 2))
