from itertools import product

import numpy as np
import pytest

from ilbook.errors import UserError
from ilbook.stats.sequential import step
from ilbook.stats.sequential.savi import SaviTest, log_e


def by_hand(first, second):
    """The e-value as the definition reads, one pair after the other."""
    value, x, y = 1.0, 0, 0
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        p, q = (1 + x) / (2 + t), (1 + y) / (2 + t)
        if q > p:
            null = (p + q) / 2
            value *= (p if a else 1 - p) * (q if b else 1 - q) / ((null if a else 1 - null) * (null if b else 1 - null))
        x, y = x + a, y + b
    return value


def test_the_e_value_is_what_the_definition_gives():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(2, size=(2, 15))
        assert np.exp(log_e(first, second)[-1]) == pytest.approx(by_hand(first, second))


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (0.1, 0.1), (0.7, 0.3), (0.95, 0.9)])
def test_under_every_null_the_expectation_is_at_most_one(p, q):
    """Over all 4 ** 6 trials: what Ville's inequality needs for error control at any time."""
    streams = np.array(list(product((0, 1), repeat=6)))
    chance = [np.prod(np.where(streams == 1, rate, 1 - rate), axis=1) for rate in (p, q)]
    first, second = np.repeat(streams, 64, axis=0), np.tile(streams, (64, 1))
    expected = np.outer(*chance).reshape(-1) @ np.exp(log_e(first, second))
    assert (np.diff(expected) <= 1e-12).all() and expected[0] == pytest.approx(1)


def test_false_alarms_and_power_of_the_card():
    rng = np.random.default_rng(1)
    test = SaviTest(0.05)
    assert test.simulate(0.5, 0.5, 50, 40_000, rng).second[-1] == pytest.approx(0.011, abs=0.002)
    assert test.simulate(0.4, 0.7, 50, 20_000, rng).second[-1] == pytest.approx(0.62, abs=0.012)


def test_it_is_less_powerful_than_step_and_valid_for_ever():
    rng = np.random.default_rng(2)
    savi = SaviTest(0.05).simulate(0.4, 0.7, 50, 4000, rng)
    exact = step.synthesise(50, 0.05).stopping(0.4, 0.7)
    assert savi.second[-1] < exact.second[-1] - 0.2 and savi.mean_pairs > exact.mean_pairs + 5
    assert SaviTest(0.05).simulate(0.5, 0.5, 1000, 2000, rng).second[-1] < 0.05


def test_two_sides_split_alpha():
    rng = np.random.default_rng(3)
    curve = SaviTest(0.1, sides=2).simulate(0.5, 0.5, 50, 20_000, rng)
    assert curve.first[-1] == pytest.approx(curve.second[-1], abs=0.004)
    assert curve.declared[-1] == pytest.approx(2 * 0.0115, abs=0.004)
    better = SaviTest(0.1, sides=2).run([1] * 30, [0] * 30)
    assert better.better == "first" and better.pairs < 30


def test_running_agrees_with_simulating():
    test = SaviTest(0.05)
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 300, 40)) < np.array([0.3, 0.7])[:, None, None]
    runs = [test.run(a, b) for a, b in zip(first, second, strict=True)]
    same = test.simulate(0.3, 0.7, 40, 300, np.random.default_rng(4))
    assert np.mean([run.better == "second" for run in runs]) == pytest.approx(same.second[-1])


def test_there_is_no_end_unless_one_was_planned():
    assert not SaviTest().run([1] * 60, [1] * 60).over
    planned = SaviTest(n_max=3)
    assert [planned.run([1] * t, [1] * t).over for t in (1, 2, 3)] == [False, False, True]
    with pytest.raises(UserError, match="4 pairs were run but the test was made for 3"):
        planned.run([1] * 4, [1] * 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SaviTest(2), "alpha 2"),
        (lambda: SaviTest(sides=3), "sides"),
        (lambda: SaviTest(n_max=0), "n_max is 0"),
        (lambda: SaviTest().run([], []), "no episodes"),
        (lambda: SaviTest().run([1], [1, 0]), "1 and 2"),
        (lambda: log_e([1, np.nan], [1, 0]), "nan"),
        (lambda: SaviTest().simulate(0.5, 0.5, 0, 5, np.random.default_rng(0)), "n_max is 0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call()
