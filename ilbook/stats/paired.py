"""Two policies on the same initial states: the difference, and intervals that know where its noise comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ilbook import used
from ilbook.errors import UserError, unknown
from ilbook.stats.bootstrap import Bootstrap
from ilbook.stats.estimate import Estimate, check_level
from ilbook.stats.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

PAIR = ["train_seed", "start"]  # two policies are compared on equal training seeds and equal initial states


def paired_bootstrap(table: pd.DataFrame, policy: str, baseline: str, metric: str, level: float = 0.95) -> Estimate:
    """Mean difference policy - baseline with a percentile bootstrap interval; n counts the pairs of episodes.

    `table` has one row per episode: policy, train_seed, start and the metric, both policies on the same starts. Each
    replicate draws training seeds, then starts; all seeds share these, because a hard start is hard for all.
    """
    values, bootstrap = differences(table, policy, baseline, metric), Bootstrap(level)  # (S, N)
    seed_counts, start_counts = bootstrap.draws(len(values)), bootstrap.draws(values.shape[1])  # (B, S), (B, N)
    totals = ((seed_counts @ values) * start_counts).sum(axis=1)  # (B,)
    return bootstrap.estimate(values, totals, "seeds and starts" if len(values) > 1 else "starts")


def evaluation_bootstrap(table: pd.DataFrame, policy: str, baseline: str, metric: str, level: float = 0.95) -> Estimate:
    """As `paired_bootstrap`, but draws starts only: what is said of these checkpoints, not of the method.

    Too narrow for a claim about methods: with 3 seeds that differ by 8 points it held the truth in 69 % of simulations.
    """
    values, bootstrap = differences(table, policy, baseline, metric), Bootstrap(level)  # (S, N)
    totals = bootstrap.draws(values.shape[1]) @ values.sum(axis=0)  # (B,)
    return bootstrap.estimate(values, totals, "starts only, trainings as they are")


def nested_bootstrap(table: pd.DataFrame, policy: str, baseline: str, metric: str, level: float = 0.95) -> Estimate:
    """As `paired_bootstrap`, but every drawn training seed draws starts of its own: seeds outside, starts inside.

    For trainings judged each on other starts; on shared ones a hard start would average out over seeds: with 3 seeds
    that differ it held the truth in 88 % of simulations, `paired_bootstrap` in 93 % and `seed_t` in 95 %.
    """
    values, bootstrap = differences(table, policy, baseline, metric), Bootstrap(level)  # (S, N)
    n_seeds, n_starts = values.shape
    drawn = bootstrap.rng.integers(n_seeds, size=(n_seeds, bootstrap.REPLICATES))
    totals = sum((bootstrap.draws(n_starts) * values[seeds]).sum(axis=1) for seeds in drawn)  # (B,)
    return bootstrap.estimate(values, totals, "seeds, then the starts of each")


def seed_t(table: pd.DataFrame, policy: str, baseline: str, metric: str, level: float = 0.95) -> Estimate:
    """Mean difference policy - baseline with Student's t interval over the mean of each training seed.

    Holds its level with three seeds, where a bootstrap over seeds need not: it sees only (S - 1) / S of their variance.
    Speaks of new trainings on these starts: starts are not drawn again.
    """
    from scipy.stats import ttest_1samp

    check_level(level)
    values = differences(table, policy, baseline, metric)
    n_seeds = len(values)
    if n_seeds < 2:
        raise UserError("an interval over training seeds needs at least 2 of them; train the policies again")
    low, high = map(float, ttest_1samp(values.mean(axis=1), 0).confidence_interval(level))
    what = f"Student's t over {n_seeds} trainings, {level:.0%}"
    return Estimate(float(values.mean()), low, high, values.size, n_seeds, what)


def from_table(table: pd.DataFrame, policy: str, baseline: str | None, metric: str) -> Estimate:
    """The estimate that a claim asks for: paired difference with a baseline, success rate without one."""
    if baseline is not None:
        return paired_bootstrap(table, policy, baseline, metric)
    values = by_start(table, policy, metric)  # (S, N)
    if not np.isin(values, (0, 1)).all():
        raise UserError(f"metric {metric!r} is not 0 or 1 in every episode: no rate; hand a ready Estimate to judge")
    return replace(wilson(int(values.to_numpy().sum()), values.size), seeds=len(values))


def differences(table: pd.DataFrame, policy: str, baseline: str, metric: str) -> np.ndarray:
    """policy - baseline per training seed and start (S, N), after the checks that every paired interval needs."""
    values = (by_start(table, policy, metric) - by_start(table, baseline, metric, like=policy)).to_numpy()
    if values.shape[1] < 2:
        raise UserError("a paired bootstrap needs at least 2 starts; evaluate on more initial states")
    return values


def by_start(table: pd.DataFrame, policy: str, metric: str, like: str | None = None) -> pd.DataFrame:
    """One policy's metric with training seeds as rows and starts as columns; complete, or an error that says why.

    `like` names the other policy of a pair: this one must have run on exactly its seeds and starts.
    """
    used.note("stats.paired")
    for column in ("policy", *PAIR, metric):
        if column not in table.columns:
            raise unknown("table column", column, map(str, table.columns))
    mine = table[table["policy"] == policy].set_index(PAIR)[metric].astype(float)
    if mine.empty:
        raise unknown("policy in the table", policy, sorted(map(str, table["policy"].unique())))
    for seed, start in mine.index[mine.index.duplicated()]:
        raise UserError(f"policy {policy!r} has start {start} of training seed {seed} twice; evaluate each start once")
    values = mine.unstack("start")
    if values.isna().any(axis=None):
        seed, start = values.isna().stack().idxmax()
        lacks = f"policy {policy!r} has no {metric} for start {start} of training seed {seed}"
        raise UserError(f"{lacks}; evaluate every training seed on the same starts")
    partners = table[table["policy"] == (like or policy)].set_index(PAIR).index
    if alone := len(mine.index.symmetric_difference(partners)):
        apart = f"policies {like!r} and {policy!r} were judged on different starts ({alone} have no partner)"
        raise UserError(f"{apart}; evaluate both on one list of initial states")
    return values
