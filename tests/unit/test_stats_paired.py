"""Where the noise of a paired difference comes from, and how often each interval holds the truth."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from ilbook import stats
from ilbook.errors import UserError
from ilbook.stats.bootstrap import Bootstrap
from ilbook.stats.intervals import binomial
from ilbook.stats.power import discordant

BOOTSTRAPS = (stats.evaluation_bootstrap, stats.paired_bootstrap, stats.nested_bootstrap)


def table(a, b):
    """Rows for two policies from scores (S, N)."""
    seeds, starts = (grid.reshape(-1) for grid in np.indices(a.shape))
    rows = [
        pd.DataFrame({"policy": p, "train_seed": seeds, "start": starts, "score": x.reshape(-1)})
        for p, x in zip("ab", (a, b), strict=True)
    ]
    return pd.concat(rows)  # fmt: skip


def width(estimate):
    return estimate.high - estimate.low


def test_without_differences_between_seeds_all_agree(monkeypatch):
    row = np.random.default_rng(0).normal(0, 1, (1, 60))
    monkeypatch.setattr(Bootstrap, "REPLICATES", 5000)
    found = [bootstrap(table(row, 0 * row), "a", "b", "score") for bootstrap in BOOTSTRAPS]
    assert len({estimate.effect for estimate in found}) == 1
    assert [width(estimate) for estimate in found] == pytest.approx([width(found[0])] * 3, rel=0.05)


def test_seeds_that_differ_widen_all_but_the_evaluation_interval():
    noise = np.random.default_rng(1).normal(0, 0.5, (5, 100))
    seeds = np.array([[-0.5], [-0.2], [0.0], [0.3], [0.4]])
    rows = table(1 + seeds + noise, 0 * noise)
    evaluation, crossed, nested = (width(bootstrap(rows, "a", "b", "score")) for bootstrap in BOOTSTRAPS)
    student = width(stats.seed_t(rows, "a", "b", "score"))
    assert 4 * evaluation < nested <= crossed * 1.05 < 1.5 * student


def test_the_nested_bootstrap_has_the_variance_of_theory(monkeypatch):
    monkeypatch.setattr(Bootstrap, "REPLICATES", 20000)
    values = np.random.default_rng(2).normal(0, 1, (4, 30)) + np.arange(4)[:, None]
    estimate = stats.nested_bootstrap(table(values, 0 * values), "a", "b", "score", level=0.6827)
    between = values.mean(axis=1).var() / 4
    within = values.var(axis=1).mean() / values.size
    assert width(estimate) / 2 == pytest.approx(np.sqrt(between + within), rel=0.04)


def test_seed_t_agrees_with_scipy():
    from scipy import stats as scipy_stats

    values = np.random.default_rng(3).normal(0.3, 1, (4, 25))
    estimate = stats.seed_t(table(values, 0 * values), "a", "b", "score", 0.9)
    means = values.mean(axis=1)
    reference = scipy_stats.t.interval(0.9, 3, means.mean(), means.std(ddof=1) / 2)
    assert (estimate.effect, estimate.low, estimate.high) == pytest.approx((means.mean(), *reference))
    assert (estimate.n, estimate.seeds) == (100, 4)


def test_seed_t_needs_two_seeds():
    with pytest.raises(UserError, match="at least 2"):
        stats.seed_t(table(np.ones((1, 5)), np.zeros((1, 5))), "a", "b", "score")


@pytest.mark.parametrize("interval", [*BOOTSTRAPS, stats.seed_t])
def test_unequal_and_broken_starts_are_refused(interval):
    rows = table(np.ones((2, 5)), np.zeros((2, 5)))
    for broken, message in [
        (rows.iloc[:-1], "no score for start 4"),
        (rows[(rows.policy == "a") | (rows.start < 4)], "different starts"),
        (pd.concat([rows, rows.iloc[:1]]), "twice"),
        (rows.assign(score=np.nan), "no score"),
        (rows[rows.policy == "a"], "unknown policy"),
    ]:
        with pytest.raises(UserError, match=message):
            interval(broken, "a", "b", "score")


# How often the interval of a paired difference of rates holds the truth. Outcomes are -1, 0 or 1, so that the interval
# depends only on how many starts each policy wins: with all of them tabled, coverage is a sum and no simulation.


@cache
def ideal(wins, losses, n):
    """The interval that infinitely many replicates would give."""
    step, mass = np.array([losses, n - wins - losses, wins]) / n, np.ones(1)
    for _ in range(n):
        mass = np.convolve(mass, step)
    return tuple((np.searchsorted(np.cumsum(mass), [0.025, 0.975]) - n) / n)


def exact_coverage(p, q, n, correlation):
    wins, losses = discordant(q, p, correlation)
    total = 0.0
    for differing, chance in enumerate(binomial(n, wins + losses)):
        for won, share in enumerate(binomial(differing, wins / (wins + losses))):
            if chance * share > 1e-7:
                low, high = ideal(won, differing - won, n)
                total += chance * share * (low - 1e-9 <= p - q <= high + 1e-9)
    return total


@pytest.mark.parametrize(("q", "gap", "correlation"), [(0.05, 0, 0), (0.5, 0, 0.5), (0.7, 0.2, 0.5), (0.3, 0.2, 0)])
def test_100_pairs_cover_at_93_to_97_percent(q, gap, correlation):
    assert 0.93 <= exact_coverage(q + gap, q, 100, correlation) <= 0.97


def test_20_pairs_do_not_always():
    assert exact_coverage(0.5, 0.5, 20, 0) == pytest.approx(0.958, abs=0.001)
    assert exact_coverage(0.05, 0.05, 20, 0) == pytest.approx(0.988, abs=0.001)  # hardly any start is won by anybody
    assert exact_coverage(0.9, 0.7, 20, 0.5) == pytest.approx(0.922, abs=0.001)


def test_our_replicates_give_the_ideal_interval_and_its_coverage_over_5000_tables():
    rng, n, bootstrap = np.random.default_rng(4), 20, Bootstrap(0.95)

    @cache
    def ours(wins, losses):
        values = np.repeat([1.0, -1.0, 0.0], [wins, losses, n - wins - losses])
        return bootstrap.estimate(values[None], bootstrap.draws(n) @ values, "starts")

    inside = 0
    for _ in range(5000):
        a, b = rng.random(n) < 0.7, rng.random(n) < 0.5
        found = ours(int((a & ~b).sum()), int((b & ~a).sum()))
        inside += found.low - 1e-9 <= 0.2 <= found.high + 1e-9
    assert inside / 5000 == pytest.approx(exact_coverage(0.7, 0.5, n, 0), abs=0.015)
    assert 0.93 <= inside / 5000 <= 0.97
    assert (ours(9, 3).low, ours(9, 3).high) == pytest.approx(ideal(9, 3, n), abs=0.051)  # one start is 0.05


def test_three_trainings_on_100_starts_are_not_300_trials(monkeypatch):
    monkeypatch.setattr(Bootstrap, "REPLICATES", 300)
    rng = np.random.default_rng(5)
    intervals = (*BOOTSTRAPS, stats.seed_t)
    inside = np.zeros(4)
    for _ in range(100):
        skill = np.array([0.6, 0.4])[:, None, None] + 0.08 * rng.standard_normal((2, 3, 1))
        success = (rng.random((2, 3, 100)) < skill).astype(float)
        rows = table(*success)
        for index, interval in enumerate(intervals):
            estimate = interval(rows, "a", "b", "score")
            inside[index] += (estimate.low <= 0.2 <= estimate.high) / 100
    evaluation, crossed, nested, student = inside
    assert evaluation < 0.8 < nested <= crossed
    assert student > 0.9
