from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from ilbook import stats
from ilbook.errors import UserError
from ilbook.stats import Estimate
from ilbook.stats.bootstrap import Bootstrap


def table(a, b):
    """Rows for two policies from arrays (S, N) or (N,)."""
    rows = []
    for policy, values in (("a", a), ("b", b)):
        for seed, row in enumerate(np.atleast_2d(values)):
            rows += [(policy, seed, start, value) for start, value in enumerate(row)]
    return pd.DataFrame(rows, columns=["policy", "train_seed", "start", "score"])


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_wilson_agrees_with_scipy(counts, level):
    successes, n = counts
    low, high = scipy_stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    estimate = stats.wilson(successes, n, level)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)
    assert estimate.low <= estimate.effect <= estimate.high


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (0, 0), (0.5, 2)])
def test_wilson_refuses_what_is_no_rate(counts):
    with pytest.raises(UserError, match="is no rate"):
        stats.wilson(*counts)


def test_wilson_refuses_a_level_in_percent():
    with pytest.raises(UserError, match="confidence level 95"):
        stats.wilson(1, 2, 95)


def test_bootstrap_agrees_with_scipy(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 80), rng.normal(0, 1, 80)
    monkeypatch.setattr(Bootstrap, "REPLICATES", 20000)
    estimate = stats.paired_bootstrap(table(a, b), "a", "b", "score")
    reference = scipy_stats.bootstrap((a - b,), np.mean, n_resamples=20000, method="percentile", rng=1)
    assert estimate.effect == pytest.approx((a - b).mean())
    assert estimate.low == pytest.approx(reference.confidence_interval.low, abs=0.02)
    assert estimate.high == pytest.approx(reference.confidence_interval.high, abs=0.02)
    assert (estimate.n, estimate.seeds) == (80, 1)


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 5, 60)
    estimate = stats.paired_bootstrap(table(hard + 1, hard), "a", "b", "score")
    assert estimate.low == pytest.approx(1) and estimate.high == pytest.approx(1)


def test_training_seeds_that_disagree_widen_the_interval():
    noise = np.random.default_rng(2).normal(0, 0.1, (3, 50))
    agree = stats.paired_bootstrap(table(1 + noise, 0 * noise), "a", "b", "score")
    disagree = stats.paired_bootstrap(table(np.array([[0], [1], [2]]) + noise, 0 * noise), "a", "b", "score")
    assert disagree.effect == pytest.approx(agree.effect, abs=0.05)
    assert disagree.high - disagree.low > 10 * (agree.high - agree.low)
    assert (disagree.n, disagree.seeds) == (150, 3)


def test_a_hard_start_stays_hard_for_every_seed():
    # All seeds see the same differences: more seeds must not look like more evidence.
    row = np.random.default_rng(3).normal(0, 1, 40)
    one = stats.paired_bootstrap(table(row, 0 * row), "a", "b", "score")
    many = stats.paired_bootstrap(table(np.tile(row, (8, 1)), np.zeros((8, 40))), "a", "b", "score")
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(Bootstrap, "REPLICATES", 500)
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(200):
        a, b = rng.random(60) < 0.7, rng.random(60) < 0.5
        estimate = stats.paired_bootstrap(table(a * 1.0, b * 1.0), "a", "b", "score")
        inside += estimate.low <= 0.2 <= estimate.high
    assert 0.89 <= inside / 200 <= 0.99


def test_the_same_table_gives_the_same_interval_in_any_order():
    rng = np.random.default_rng(5)
    rows = table(rng.random(30), rng.random(30))
    shuffled = rows.sample(frac=1, random_state=0)
    assert stats.paired_bootstrap(rows, "a", "b", "score") == stats.paired_bootstrap(shuffled, "a", "b", "score")


ROWS = table(np.arange(4.0), np.zeros(4))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS.iloc[:-1], "judged on different starts .1 have no partner."),
        (pd.concat([ROWS, ROWS.iloc[:1]]), "start 0 of training seed 0 twice"),
        (ROWS.assign(score=[np.nan, *range(7)]), "no score for start 0"),
        (ROWS.drop(columns="train_seed"), "unknown table column 'train_seed'"),
        (ROWS[ROWS.policy == "a"], "unknown policy in the table 'b'"),
        (ROWS[ROWS.start == 0], "at least 2 starts"),
        (table(np.ones((2, 3)), np.ones((2, 3))).drop(index=[0, 6]), "no score for start 0 of training seed 0"),
    ],
)
def test_bootstrap_refuses(rows, message):
    with pytest.raises(UserError, match=message):
        stats.paired_bootstrap(rows, "a", "b", "score")


def test_from_table_without_a_baseline_is_a_rate():
    rows = table(np.array([[1, 0, 1], [1, 1, 1]]), np.zeros((2, 3)))
    estimate = stats.from_table(rows, "a", None, "score")
    assert (estimate.effect, estimate.n, estimate.seeds) == (5 / 6, 6, 2)
    with pytest.raises(UserError, match="not 0 or 1"):
        stats.from_table(ROWS, "a", None, "score")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.3, "supported"), (0.05, 0.3, "inconclusive"), (0.0, 0.1, "inconclusive"), (0.0, 0.09, "contradicted")],
)
def test_verdict(low, high, word):
    assert stats.verdict(Estimate(0.05, low, high, 10, 1, "given"), 0.1) == word


def test_the_smallest_visible_effect_is_seen_in_four_of_five_repetitions(monkeypatch):
    monkeypatch.setattr(Bootstrap, "REPLICATES", 500)
    rng, n, found = np.random.default_rng(6), 150, []
    width = stats.paired_bootstrap(table(rng.normal(0, 1, n), np.zeros(n)), "a", "b", "score")
    effect = stats.smallest_visible(width)
    assert effect == pytest.approx(1.4294 * (width.high - width.low) / 2, rel=1e-4)
    for _ in range(300):
        estimate = stats.paired_bootstrap(table(rng.normal(effect, 1, n), np.zeros(n)), "a", "b", "score")
        found.append(estimate.low > 0)
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_the_smallest_visible_effect_does_not_depend_on_the_effect_and_is_0_for_what_is_exact():
    assert stats.smallest_visible(Estimate(0.3, 0.3, 0.3, 50, 0, "exact")) == 0
    assert stats.smallest_visible(Estimate(0.7, 0.6, 0.8, 50, 1, "given")) == pytest.approx(0.1429, abs=1e-4)
    assert stats.smallest_visible(Estimate(-5.0, -5.1, -4.9, 50, 1, "given")) == pytest.approx(0.1429, abs=1e-4)


@pytest.mark.parametrize("numbers", [(float("nan"), 0, 1), (0, 0, float("inf")), (0, 1, -1)])
def test_an_estimate_is_an_interval(numbers):
    with pytest.raises(UserError, match="estimate"):
        Estimate(*numbers, 10, 1, "given")


def modes_table(modes, seeds=1):
    """Rows of one policy from modes (N,), the same for every training seed; -1 is a failure."""
    modes = np.asarray(modes)
    rows = [("a", seed, start, int(mode >= 0), mode) for seed in range(seeds) for start, mode in enumerate(modes)]
    return pd.DataFrame(rows, columns=["policy", "train_seed", "start", "success", "mode"])


@given(st.lists(st.integers(0, 40), min_size=2, max_size=24).filter(lambda counts: sum(counts) > 1))
def test_mode_entropy_is_scipys_entropy_with_millers_correction(counts):
    with mock.patch.object(Bootstrap, "REPLICATES", 100):
        estimate = stats.mode_entropy(modes_table(np.repeat(range(len(counts)), counts)), "a", len(counts))
    plain = scipy_stats.entropy(counts, base=len(counts))
    correction = (np.count_nonzero(counts) - 1) / (2 * sum(counts)) / np.log(len(counts))
    assert estimate.effect == pytest.approx(min(plain + correction, 1.0))
    assert 0 <= estimate.low <= estimate.effect <= estimate.high <= 1
    assert (estimate.n, estimate.seeds) == (sum(counts), 1)


def test_mode_entropy_counts_successes_only():
    few = stats.mode_entropy(modes_table([0, 1, 2, 3] * 10), "a", 24)
    with_failures = stats.mode_entropy(modes_table([0, 1, 2, 3] * 10 + [-1] * 60), "a", 24)
    assert with_failures.effect == few.effect and with_failures.n == 40


def test_mode_entropy_of_one_way_and_of_no_success():
    assert stats.mode_entropy(modes_table([5] * 50), "a", 24).effect == 0
    nothing = stats.mode_entropy(modes_table([-1] * 50), "a", 24)
    assert (nothing.effect, nothing.low, nothing.high, nothing.n) == (0, 0, 1, 0)


def test_mode_entropy_is_taken_within_each_training():
    one_way_each = pd.concat([modes_table([0] * 20), modes_table([1] * 20).assign(train_seed=1)])
    assert stats.mode_entropy(one_way_each, "a", 2).effect == 0
    assert stats.mode_entropy(one_way_each, "a", 2).seeds == 2


@pytest.mark.parametrize("probabilities", [np.full(24, 1 / 24), [0.5, 0.3, 0.1, 0.1], [0.5, 0.5]])
def test_interval_of_the_mode_entropy_covers_the_truth(monkeypatch, probabilities):
    monkeypatch.setattr(Bootstrap, "REPLICATES", 400)
    rng = np.random.default_rng(3)
    truth = scipy_stats.entropy(probabilities, base=24)
    covered = []
    for _ in range(80):
        table = modes_table(rng.choice(len(probabilities), size=100, p=probabilities))
        estimate = stats.mode_entropy(table, "a", 24)
        covered.append(estimate.low - 1e-9 <= truth <= estimate.high + 1e-9)
    assert np.mean(covered) >= 0.86


def test_mode_entropy_refuses_a_mode_that_does_not_exist():
    with pytest.raises(UserError, match="from 0 to 3"):
        stats.mode_entropy(modes_table([0, 4]), "a", 4)
    with pytest.raises(UserError, match="polic"):
        stats.mode_entropy(modes_table([0, 1]), "b", 4)
