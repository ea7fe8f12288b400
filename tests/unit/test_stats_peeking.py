import time

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportions_ztest

from ilbook.errors import UserError
from ilbook.stats.power import exact_power
from ilbook.stats.sequential import peeking
from ilbook.stats.sequential.peeking import PeekingTest, barnard_p, fisher_p, pooled_z_p


@pytest.mark.parametrize("t", [1, 5, 12])
def test_fisher_agrees_with_scipy_for_all_counts(t):
    reference = [
        [scipy_stats.fisher_exact([[x, y], [t - x, t - y]]).pvalue for y in range(t + 1)] for x in range(t + 1)
    ]
    assert fisher_p(t) == pytest.approx(np.array(reference), abs=1e-9)


@pytest.mark.parametrize(("x", "y"), [(2, 9), (0, 3), (15, 5), (7, 7)])
def test_pooled_z_agrees_with_statsmodels(x, y):
    assert pooled_z_p(20)[x, y] == pytest.approx(proportions_ztest([x, y], [20, 20])[1])


def test_barnard_agrees_with_scipy():
    found = barnard_p(12)
    for x, y in [(1, 6), (0, 4), (3, 9), (10, 11), (12, 5)]:
        reference = scipy_stats.barnard_exact([[x, y], [12 - x, 12 - y]], n=64).pvalue
        assert found[x, y] == pytest.approx(reference, abs=2e-3)
    assert found[0, 0] == found[12, 12] == 1
    assert (found == found.T).all()


def test_the_cards_false_alarms_under_peeking():
    found = [PeekingTest(p, n).stopping(0.5, 0.5).declared[-1] for n in (50, 200) for p in (fisher_p, pooled_z_p)]
    assert found[0] == pytest.approx(0.145, abs=0.005)
    assert found[1:] == pytest.approx([0.28, 0.25, 0.39], abs=0.005)


def test_with_one_look_the_level_is_kept_and_the_two_ways_to_compute_it_agree():
    fixed = [PeekingTest(p, 50, first=50).stopping(0.5, 0.5).declared[-1] for p in (pooled_z_p, fisher_p)]
    assert fixed == pytest.approx([0.057, 0.035], abs=0.001)
    assert fixed == pytest.approx([exact_power(0.5, 0.5, 50, p_values=p) for p in (pooled_z_p, fisher_p)])


def test_barnard_inflates_too():
    assert 0.145 < PeekingTest(barnard_p, 50).stopping(0.5, 0.5).declared[-1] < 0.28


def test_the_curve_is_what_simulated_trials_show():
    rng = np.random.default_rng(0)
    counts = np.cumsum(rng.random((20_000, 2, 30)) < 0.4, axis=2)
    alarm = np.zeros((20_000, 31), dtype=bool)
    for t in range(5, 31):
        alarm[:, t] = alarm[:, t - 1] | (fisher_p(t)[counts[:, 0, t - 1], counts[:, 1, t - 1]] <= 0.05)
    curve = PeekingTest(fisher_p, 30).stopping(0.4, 0.4)
    assert curve.declared == pytest.approx(alarm.mean(axis=0), abs=0.008)
    assert curve.first == pytest.approx(curve.second)
    assert (np.diff(curve.declared) >= 0).all() and curve.declared[4] == 0


def test_the_tables_are_quick():
    start = time.perf_counter()
    PeekingTest(fisher_p, 50).stopping(0.5, 0.5)
    assert time.perf_counter() - start < 2
    start = time.perf_counter()
    PeekingTest(fisher_p, 200).stopping(0.5, 0.5)
    assert time.perf_counter() - start < 20


def test_a_reader_who_peeks_stops_early():
    test = PeekingTest(fisher_p, 30)
    decision = test.run([0] * 30, [1] * 30)
    assert (decision.better, decision.pairs, decision.successes) == ("second", 5, (0, 5))
    assert test.run([1] * 30, [0] * 30).better == "first"
    assert str(test.run([1] * 30, [1] * 30)) == "not separated after 30 pairs (30 and 30 successes)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "n_max is 0"), ((50, 5), "alpha 5"), ((50, 0.05, 51), "first look"), ((50, 0.05, 0), "first look")],
)
def test_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        PeekingTest(peeking.fisher_p, *arguments)
