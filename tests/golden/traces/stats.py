"""What the statistics say of small inputs that were drawn once and for all."""

from unittest import mock

import numpy as np
import pandas as pd

from ilbook.stats import (
    estimate,
    intervals,
    modes,
    paired,
    pairs,
    posterior,
    power,
    ranking,
    selection,
    several,
)
from ilbook.stats.bootstrap import Bootstrap
from ilbook.stats.sequential import base, peeking, savi, step
from tests.golden.registry import trace


def numbers(one):
    """What an estimate says."""
    return [one.effect, one.low, one.high, one.n, one.seeds]


def replicates(number):
    """Other bootstraps than of 2,000 replicates."""
    return mock.patch.object(Bootstrap, "REPLICATES", number)


def table(seeds=1, n=20):
    """Episodes of four policies on common starts: success, score and mode."""
    rng = np.random.default_rng(0)
    rows = [
        (name, seed, start, int(rng.random() < rate), rate + rng.normal(), int(rng.integers(3)))
        for name, rate in (("bad", 0.1), ("fine", 0.5), ("good", 0.6), ("best", 0.95))
        for seed in range(seeds)
        for start in range(n)
    ]
    return pd.DataFrame(rows, columns=["policy", "train_seed", "start", "success", "score", "mode"])


@trace("stats.estimate")
def _():
    wide = estimate.Estimate(0.3, 0.1, 0.4, 20, 1, "given")
    one, other = estimate.paired_outcomes([0, 1, 1], [True, False, True])
    estimate.check_level(0.9)
    estimate.check_alpha(0.05, sides=2)
    estimate.check_counts(3, 4)
    estimate.check_rate(0, 0.5, 1)
    estimate.check_whole(3)
    return {
        "negated": numbers(wide.negated()),
        "verdicts": " ".join(estimate.verdict(wide, minimum) for minimum in (0.1, 0.2, 0.41)),
        "smallest visible": estimate.smallest_visible(wide),
        "outcomes": [one, other],
    }


@trace("stats.intervals")
def _():
    rates = np.array([0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
    makers = {"wilson": intervals.wilson, "exact": intervals.clopper_pearson, "jeffreys": intervals.jeffreys}
    made = {
        f"{name}, {s} of 12, {level}": numbers(maker(s, 12, level))
        for name, maker in makers.items()
        for s in (0, 5, 12)
        for level in (0.95, 0.8)
    }
    held = {f"{name}, coverage": intervals.coverage(maker, 12, rates) for name, maker in makers.items()}
    coin = intervals.stevens([[0], [4], [12]], 12, [0.0, 0.01, 0.3, 1.0], 0.9)
    return {**made, **held, "coin": coin, "binomial": intervals.binomial(7, rates)}


@trace("stats.bootstrap")
def _():
    made, values = Bootstrap(0.9), np.array([[0.0, 1.0, 4.0]])
    with replicates(100):
        drawn = made.draws(3)
    totals = drawn @ values[0]
    estimated = made.estimate(values, totals, "starts")
    return {"drawn": drawn, "middle": made.middle(totals / 3), "estimate": numbers(estimated)}


@trace("stats.paired")
def _():
    rows = table(seeds=3)
    with replicates(500):
        narrow = paired.paired_bootstrap(table(), "good", "fine", "score", 0.8)
    ways = (paired.paired_bootstrap, paired.evaluation_bootstrap, paired.nested_bootstrap, paired.seed_t)
    return {
        **{way.__name__: numbers(way(rows, "good", "fine", "score")) for way in ways},
        "one training, 80 %": numbers(narrow),
        "claim of a difference": numbers(paired.from_table(rows, "good", "bad", "success")),
        "claim of a rate": numbers(paired.from_table(rows, "good", None, "success")),
    }


def sign_p(wins, losses):
    """McNemar's p-value where one policy wins so many starts, and the other so many."""
    return pairs.mcnemar([1] * wins + [0] * losses + [1], [0] * wins + [1] * losses + [1]).p


@trace("stats.pairs")
def _():
    first, second = (table(n=30).query("policy == @name")["success"] for name in ("good", "bad"))
    found = [pairs.mcnemar(first, second), pairs.barnard((9, 12), (4, 10)), pairs.barnard((0, 5), (0, 9))]
    return {
        "tests": [[one.effect, one.p, *one.n] for one in found],
        "sign": [sign_p(wins, 9 - wins) for wins in range(10)],
    }


@trace("stats.modes")
def _():
    rows = table(seeds=3)
    with replicates(500):
        one = modes.mode_entropy(table(), "best", 3, 0.9)
    return {
        "three trainings": numbers(modes.mode_entropy(rows, "good", 5)),
        "one": numbers(one),
        "no success": numbers(modes.mode_entropy(rows.assign(success=0), "good", 3)),
    }


@trace("stats.several")
def _():
    rows = table(n=40)
    compared = several.compare_all(rows, "success")
    letters = several.letters_of(compared, rows.groupby("policy")["success"].mean().to_dict())
    return {
        "pairs": " ".join(compared["first"] + ">" + compared["second"]),
        "tests": compared[["effect", "p", "adjusted", "different"]].to_numpy(float),
        "letters": " ".join(f"{name}:{held}" for name, held in letters.items()),
        "holm": several.adjusted([0.01, 0.04, 0.03, 0.5], "holm"),
    }


@trace("stats.posterior")
def _():
    one, other = posterior.Posterior(7, 10), posterior.Posterior(3, 12, prior=0.5)
    return {
        "intervals": [numbers(one.interval()), numbers(other.interval(0.8))],
        "density": one.belief.pdf(np.linspace(0, 1, 11)),
        "better": one.better_than(other),
    }


@trace("stats.selection")
def _():
    rng = np.random.default_rng(2)
    rows = [(f"step {k}", start, int(rng.random() < 0.2 * k)) for k in range(4) for start in range(20)]
    chosen = selection.select_checkpoint(
        pd.DataFrame(rows, columns=["checkpoint", "start", "success"]), range(10), range(10, 20)
    )
    return {
        "chosen": str(chosen.checkpoint),
        "rates": [numbers(chosen.validation), numbers(chosen.held_out)],
        "best of": [selection.best_of([0.5] * 10, 20), selection.best_of([0.2, 0.6, 0.65], 8)],
    }


@trace("stats.power")
def _():
    rates = ((0.4, 0.7), (0.2, 0.3), (0.9, 0.5))
    return {
        "unpaired": [power.power_unpaired(p, q, 30) for p, q in (*rates, (0.0, 0.0), (0.0, 1.0))],
        "exact": [power.exact_power(p, q, 15) for p, q in (*rates, (0.5, 0.5))],
        "sizes": [power.sample_size(p, q) for p, q in rates],
        "sizes in pairs": [power.sample_size_paired(p, q, 0.2) for p, q in rates],
        "discordant": [power.discordant(p, q, 0.1) for p, q in rates],
    }


@trace("stats.ranking")
def _():
    rates = (0.4, 0.7, 0.5)
    return {
        "wrong ranking": [ranking.wrong_ranking(rates, n) for n in (3, 20)],
        "wrong winner": [ranking.wrong_winner(rates, n, coin) for n in (3, 20) for coin in (False, True)],
    }


@trace("stats.sequential.base")
def _():
    # Stops when the second leads by two, with a coin when it leads by one, and alike for the first.
    lead = [np.abs(np.subtract.outer(np.arange(t + 1), np.arange(t + 1))) for t in range(7)]
    test, certain = base.CountTest([np.clip(by - 0.5, 0, 1) for by in lead]), base.CountTest([by >= 2 for by in lead])
    curves = {coin: which.stopping(0.4, 0.7) for coin, which in ((True, test), (False, certain))}
    decisions = [
        test.run([1, 0, 0, 1], [1, 1, 1, 1]),
        test.run([1, 1, 1], [1, 1, 0], np.random.default_rng(1)),
        test.run([1] * 6, [1] * 6),
        test.run([1], [0]),
    ]
    return {
        "first": [curve.first for curve in curves.values()],
        "second": [curve.second for curve in curves.values()],
        "declared": curves[True].declared,
        "pairs": [curve.mean_pairs for curve in curves.values()],
        "decisions": "; ".join(map(str, decisions)),
    }


@trace("stats.sequential.peeking")
def _():
    tables = {kind.__name__: kind(7) for kind in (peeking.fisher_p, peeking.pooled_z_p, peeking.barnard_p)}
    return {**tables, "declared": peeking.PeekingTest(peeking.fisher_p, 15, 0.1, first=4).stopping(0.5, 0.5).declared}


@trace("stats.sequential.step", tolerance=1e-6)
def _():
    one, both = step.synthesise(12, 0.1), step.synthesise(8, 0.1, shape=2.0, sides=2)
    return {
        "power": one.stopping(0.2, 0.8).second,
        "false alarms": both.stopping(0.5, 0.5).declared,
        "worst": step.worst_risk(one),
        "dead time": [step.dead_time(n) for n in (8, 50, 200)],
    }


@trace("stats.sequential.savi")
def _():
    rng = np.random.default_rng(3)
    first, second = rng.integers(2, size=(2, 12))
    one, both = savi.SaviTest(0.1), savi.SaviTest(0.3, sides=2, n_max=20)
    curve = both.simulate(0.3, 0.8, 20, 200, rng)
    return {
        "evidence": savi.log_e(first, second),
        "threshold": [one.threshold, both.threshold],
        "curve": [curve.first, curve.second],
        "decisions": "; ".join(map(str, (one.run([0] * 9, [1] * 9), both.run([1] * 9, [0] * 9)))),
    }
