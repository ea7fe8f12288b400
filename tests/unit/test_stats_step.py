import time

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.stats.sequential import step
from ilbook.stats.sequential.base import CountTest, add_pair


@pytest.fixture(scope="module")
def fifty():
    return step.synthesise(50, 0.05)


@pytest.fixture(scope="module")
def twenty():
    return step.synthesise(20, 0.1)


def without_coin(test):
    """The test as it is run without a generator."""
    return CountTest([weights >= 1 for weights in test.boundaries])


def risk(test, p, q):
    """Probability that the second policy is ever declared better at these rates."""
    return test.stopping(p, q).second[-1]


def test_power_and_stopping_time_of_the_card(fifty):
    found = [fifty.stopping(p, 0.7) for p in (0.4, 0.5)]
    assert [curve.second[-1] for curve in found] == pytest.approx([0.88, 0.58], abs=0.006)
    assert [curve.mean_pairs for curve in found] == pytest.approx([27.7, 37.5], abs=0.15)
    assert all(curve.first[-1] == 0 for curve in found)


def test_a_hundred_pairs_take_less_than_10_s_and_have_the_cards_power():
    start = time.process_time()
    test = step.synthesise(100, 0.025)
    assert time.process_time() - start < 10
    found = test.stopping(0.4, 0.7)
    assert found.second[-1] == pytest.approx(0.98, abs=0.005)
    assert found.mean_pairs == pytest.approx(41, abs=0.5)
    assert step.worst_risk(test) <= 0.025 + 1e-5


def test_the_risk_is_controlled_between_the_nulls_and_is_used(fifty):
    assert 0.05 - 1e-4 < step.worst_risk(fifty) <= 0.05 + 1e-5
    assert risk(fifty, 0.3, 0.3) == pytest.approx(risk(fifty, 0.7, 0.7)), "failures are as good as successes"
    assert max(risk(fifty, p, q) for p in (0.1, 0.3, 0.5, 0.9) for q in (0.05, 0.1, 0.3, 0.5, 0.9) if q < p) < 0.05
    assert risk(fifty, 0.0, 0.0) == risk(fifty, 1.0, 1.0) == 0


def test_the_risk_is_spent_as_planned_and_not_before_the_dead_time(fifty):
    for p in (0.1, 0.37, 0.5):
        curve = fifty.stopping(p, p).second
        assert (curve <= 0.05 * np.arange(51) / 50 + 1e-5).all()
        assert (curve[: step.dead_time(50) + 1] == 0).all()


def test_another_shape_keeps_risk_for_later():
    late = step.synthesise(30, 0.05, shape=2.0)
    even = step.synthesise(30, 0.05)
    assert late.stopping(0.3, 0.3).second[15] < even.stopping(0.3, 0.3).second[15] * 0.7
    assert step.worst_risk(late) <= 0.05 + 1e-5
    assert late.stopping(0.3, 0.7).second[-1] > even.stopping(0.3, 0.7).second[-1]


def test_two_sides_split_alpha(fifty):
    both = step.synthesise(50, 0.1, sides=2)
    assert all((both.at(t) == fifty.at(t) + fifty.at(t).T).all() for t in range(51))
    curve = both.stopping(0.5, 0.5)
    assert curve.first == pytest.approx(curve.second)
    assert 0.095 < curve.declared[-1] <= 0.1 + 2e-5
    assert both.run([1] * 50, [0] * 50).better == "first"


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.3, 0.7)])
def test_the_exact_curves_are_what_simulated_trials_show(twenty, rates):
    rng = np.random.default_rng(0)
    for coin in (True, False):
        runs = [
            twenty.run(*(rng.random((2, 20)) < np.c_[rates].reshape(2, 1)), rng if coin else None) for _ in range(2000)
        ]
        exact = (twenty if coin else without_coin(twenty)).stopping(*rates)
        assert np.mean([run.better == "second" for run in runs]) == pytest.approx(exact.second[-1], abs=0.035)
        assert np.mean([run.pairs for run in runs]) == pytest.approx(exact.mean_pairs, abs=0.35)


def test_without_a_coin_false_alarms_are_never_more(twenty):
    for p in np.linspace(0.05, 0.95, 7):
        careful, exact = (test.stopping(p, p).second for test in (without_coin(twenty), twenty))
        assert (careful <= exact + 1e-12).all()


def test_each_boundary_is_symmetric_and_only_where_the_second_leads(twenty):
    for t in range(21):
        weights = twenty.at(t)
        assert weights.shape == (t + 1, t + 1)
        assert (np.tril(weights) == 0).all() and ((weights >= 0) & (weights <= 1)).all()
        assert weights == pytest.approx(weights[::-1, ::-1].T)


def test_a_boundary_of_four_pairs_is_the_best_of_all_subsets():
    # All equal rates at once, and few enough states to try every set of them that may be rejected.
    rates = np.array([0.1, 0.3, 0.5])
    mass = np.ones((3, 1, 1))
    for _ in range(4):
        mass = add_pair(mass, rates, rates)
    budget = np.full(3, 0.06)
    found = step._most_rejected(mass, budget)
    assert ((mass * found).sum(axis=(1, 2)) <= budget + 1e-7).all()
    states = [(x, y) for x in range(5) for y in range(x + 1, 5) if x + y <= 4]

    def value(weights):
        return sum(weights[state] for state in states)

    best = 0
    for chosen in range(2 ** len(states)):
        whole = np.zeros((5, 5))
        for bit, (x, y) in enumerate(states):
            whole[x, y] = whole[4 - y, 4 - x] = chosen >> bit & 1
        if ((mass * whole).sum(axis=(1, 2)) <= budget).all():
            best = max(best, value(whole))
    assert best <= value(found) + 1e-9 < best + 3  # a fraction of a state for each null at most


def test_a_trial_may_be_asked_after_every_pair_and_ends(twenty):
    assert not twenty.run([0], [1]).over
    whole = twenty.run([0] * 20, [1] * 20)
    asked = [twenty.run([0] * t, [1] * t) for t in range(1, 21)]
    assert whole.better == "second" and whole.over and whole.pairs < 20
    assert all(decision == whole for decision in asked[whole.pairs - 1 :])
    assert all(decision.better is None and not decision.over for decision in asked[: whole.pairs - 1])
    undecided = twenty.run([1] * 20, [1] * 20)
    assert undecided.over and undecided.better is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0, 1], [0, 1, 1], "2 and 3 episodes"),
        ([0] * 21, [1] * 21, "21 pairs were run but the test was made for 20"),
        ([], [], "no episodes"),
        ([0, np.nan], [1, 1], "nan for episode 1"),
        ([0, 2], [1, 1], "outcome 2"),
    ],
)
def test_streams_are_refused(twenty, first, second, message):
    with pytest.raises(UserError, match=message):
        twenty.run(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_max": 0}, "n_max is 0"),
        ({"n_max": 5}, "at least 8 pairs"),
        ({"n_max": 20, "alpha": 0.9}, "alpha 0.9"),
        ({"n_max": 20, "shape": -1}, "positive shape"),
        ({"n_max": 20, "sides": 3}, "1 or 2 sides"),
    ],
)
def test_synthesis_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        step.synthesise(**arguments)


def test_a_rate_in_percent_is_refused(twenty):
    with pytest.raises(UserError, match="success rate"):
        twenty.stopping(1.5, 0.5)
