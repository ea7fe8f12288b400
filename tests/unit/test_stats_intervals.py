import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from ilbook import stats
from ilbook.errors import UserError
from ilbook.stats.intervals import binomial, coverage, stevens
from ilbook.stats.posterior import Posterior

RATES = np.round(np.arange(0.05, 0.951, 0.05), 2)
COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
INTERVALS = [stats.wilson, stats.clopper_pearson, stats.jeffreys]


@given(COUNTS, st.sampled_from([0.9, 0.95]))
def test_clopper_pearson_agrees_with_scipy(counts, level):
    estimate = stats.clopper_pearson(*counts, level)
    reference = scipy_stats.binomtest(*counts).proportion_ci(level, method="exact")
    assert (estimate.low, estimate.high) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert estimate.effect == counts[0] / counts[1]


@given(COUNTS.filter(lambda counts: 0 < counts[0] < counts[1]))
def test_jeffreys_are_the_tails_of_the_posterior(counts):
    estimate, belief = stats.jeffreys(*counts), Posterior(*counts, prior=0.5).interval()
    assert (estimate.low, estimate.high) == pytest.approx((belief.low, belief.high), abs=1e-9)


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (-1, 2), (0.5, 2), (float("nan"), 2), (1, float("nan"))])
def test_an_interval_refuses_what_is_no_rate(interval, counts):
    with pytest.raises(UserError, match="is no rate"):
        interval(*counts)


@pytest.mark.parametrize("interval", INTERVALS)
def test_no_and_only_successes_end_at_the_border(interval):
    assert interval(0, 10).low == 0 and interval(10, 10).high == 1
    assert 0 < interval(0, 10).high < 0.35


@given(st.integers(1, 60), st.sampled_from([0.0, 0.05, 0.5, 0.73, 1.0]))
def test_binomial_is_the_textbooks(n, rate):
    by_hand = [math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]
    assert binomial(n, rate) == pytest.approx(by_hand, abs=1e-12)
    assert binomial(n, [[rate], [0.5]]).shape == (2, 1, n + 1)


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize("interval", INTERVALS)
def test_coverage_is_what_5000_simulated_samples_show(interval, n):
    rng = np.random.default_rng(n)
    made = np.array([(interval(s, n).low, interval(s, n).high) for s in range(n + 1)])
    for rate, exact in zip(RATES, coverage(interval, n, RATES), strict=True):
        low, high = made[rng.binomial(n, rate, size=5000)].T
        assert ((low <= rate) & (rate <= high)).mean() == pytest.approx(exact, abs=0.012)


def outside(interval, n):
    """The rates at which the interval covers less than 93 or more than 97 % of the time, exactly."""
    exact = coverage(interval, n, RATES)
    return dict(
        zip(RATES[(exact < 0.93) | (exact > 0.97)].tolist(), exact[(exact < 0.93) | (exact > 0.97)], strict=True)
    )


def test_at_100_episodes_wilson_and_jeffreys_cover_at_93_to_97_percent():
    assert outside(stats.wilson, 100) == outside(stats.jeffreys, 100) == {}


def test_at_20_episodes_the_counts_are_too_coarse_for_93_to_97_percent_everywhere():
    wilson = outside(stats.wilson, 20)
    assert {rate: round(float(exact), 3) for rate, exact in wilson.items()} == {
        0.05: 0.925, 0.15: 0.978, 0.3: 0.975, 0.7: 0.975, 0.85: 0.978, 0.95: 0.925
    }  # fmt: skip
    assert set(outside(stats.jeffreys, 20)) == {0.05, 0.95}
    # No interval can do it at 0.05: whatever run of counts it accepts there, the run has another probability.
    mass = binomial(20, 0.05)
    runs = [mass[first : last + 1].sum() for first in range(21) for last in range(first, 21)]
    assert not any(0.93 <= run <= 0.97 for run in runs)


@pytest.mark.parametrize("n", [20, 100])
def test_with_a_coin_the_coverage_is_93_to_97_percent_at_all_rates_over_5000_samples(n):
    rng = np.random.default_rng(n)
    truths = RATES[:, None]
    low, high = stevens(rng.binomial(n, truths, (len(RATES), 5000)), n, rng.random((len(RATES), 5000)))
    held = ((low <= truths) & (truths <= high)).mean(axis=1)
    assert held.min() > 0.93 and held.max() < 0.97 and held.mean() == pytest.approx(0.95, abs=0.003)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_coin_at_its_ends_gives_clopper_pearson(level):
    counts = np.arange(21)
    exact = [stats.clopper_pearson(s, 20, level) for s in counts]
    assert stevens(counts, 20, 1.0, level)[0] == pytest.approx([one.low for one in exact], abs=1e-12)
    assert stevens(counts, 20, 0.0, level)[1] == pytest.approx([one.high for one in exact], abs=1e-12)


def test_the_interval_of_a_coin_refuses_what_is_no_rate():
    with pytest.raises(UserError, match="is no rate"):
        stevens([3, 21], 20, 0.5)
    with pytest.raises(UserError, match="between 0 and 1"):
        stevens(3, 20, [0.5, 1.5])


@pytest.mark.parametrize("interval", [stats.wilson, stats.jeffreys])
@pytest.mark.parametrize("n", [20, 100])
def test_on_average_over_the_rates_coverage_is_the_level(interval, n):
    assert coverage(interval, n, np.linspace(0.05, 0.95, 901)).mean() == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize("n", [5, 20, 100])
def test_clopper_pearson_never_covers_less_than_it_says(n):
    assert coverage(stats.clopper_pearson, n, np.linspace(0, 1, 501)).min() >= 0.95


def test_coverage_refuses_what_is_no_rate():
    with pytest.raises(UserError, match="between 0 and 1"):
        coverage(stats.wilson, 10, [0.5, float("nan")])
    with pytest.raises(UserError, match="n is 0"):
        coverage(stats.wilson, 0, [0.5])


@given(COUNTS, st.sampled_from([0.5, 1.0, 2.0]))
def test_the_posterior_is_scipys_beta(counts, prior):
    posterior = Posterior(*counts, prior)
    reference = scipy_stats.beta(prior + counts[0], prior + counts[1] - counts[0])
    estimate = posterior.interval(0.9)
    assert (estimate.effect, estimate.low, estimate.high) == pytest.approx((reference.mean(), *reference.interval(0.9)))
    rates = np.linspace(0.01, 0.99, 9)
    assert posterior.belief.pdf(rates) == pytest.approx(reference.pdf(rates), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    "counts", [((3, 5), (4, 5)), ((30, 50), (20, 50)), ((1990, 2000), (1980, 2000)), ((0, 1), (7, 9))]
)
def test_the_chance_to_be_better_is_exact(counts):
    one, other = (Posterior(*pair) for pair in counts)
    # For whole parameters there is a finite sum over successes (Miller 2015).
    a, b, c, d = *one.belief.args, *other.belief.args
    i = np.arange(int(a))
    from scipy.special import betaln

    exact = np.exp(betaln(c + i, b + d) - np.log(b + i) - betaln(1 + i, b) - betaln(c, d)).sum()
    assert one.better_than(other) == pytest.approx(exact, abs=1e-6)
    assert one.better_than(other) + other.better_than(one) == pytest.approx(1, abs=1e-6)


def test_the_posterior_of_200_episodes_is_about_14_points_wide_at_worst():
    widest = max(Posterior(s, 200).interval().high - Posterior(s, 200).interval().low for s in range(201))
    assert widest == pytest.approx(0.14, abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "message"), [((0, 0), "is no rate"), ((1, 2, 0), "prior 0"), ((1, 2, np.nan), "prior")]
)
def test_the_posterior_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        Posterior(*arguments)
