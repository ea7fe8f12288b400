import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats import contingency_tables

from ilbook.errors import UserError
from ilbook.stats import pairs

OUTCOMES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


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


@pytest.mark.parametrize(
    ("values", "message"), [([], "no episodes"), ([1, np.nan], "broken episode"), ([1, np.inf], "inf")]
)
def test_what_is_no_outcome_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        pairs.mcnemar(values, [0, 1])
    with pytest.raises(UserError, match=message):
        pairs.mcnemar([0, 1], values)


def test_tests_refuse_what_they_are_not_for():
    with pytest.raises(UserError, match="2 and 3 episodes; pair them"):
        pairs.mcnemar([0, 1], [0, 1, 1])
    with pytest.raises(UserError, match=r"outcome 0\.5"):
        pairs.mcnemar([0, 0.5], [0, 1])
    with pytest.raises(UserError, match="is no rate"):
        pairs.barnard((0, 0), (1, 2))
