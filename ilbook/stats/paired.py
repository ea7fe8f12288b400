"""Two policies on the same initial states: the difference, and intervals that know where its noise comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ilbook.errors import UserError, unknown
from ilbook.stats import bootstrap
from ilbook.stats.bootstrap import draws
from ilbook.stats.estimate import Estimate
from ilbook.stats.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

PAIR = ["train_seed", "start"]  # two policies are compared on equal training seeds and equal initial states


def paired_bootstrap(
    table: pd.DataFrame,
    policy: str,
    baseline: str,
    metric: str,
    level: float = 0.95,
    n_boot: int = 2000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """Mean difference policy - baseline with a percentile bootstrap interval; n counts the pairs of episodes.

    `table` has one row per episode: policy, train_seed, start and the metric. Each replicate draws training seeds
    (when there are several), then starts; all seeds share the drawn starts, because a hard start is hard for all.
    Refuses policies that were not judged on exactly the same starts, each once.
    """
    values = differences(table, policy, baseline, metric, level, n_boot)  # (S, N)
    rng = bootstrap.generator(rng)
    seed_counts = draws(len(values), n_boot, rng)  # (B, S)
    start_counts = draws(values.shape[1], n_boot, rng)  # (B, N)
    means = ((seed_counts @ values) * start_counts).sum(axis=1) / values.size  # (B,)
    return _percentile(values, means, level, "seeds and starts" if len(values) > 1 else "starts")


def evaluation_bootstrap(
    table: pd.DataFrame,
    policy: str,
    baseline: str,
    metric: str,
    level: float = 0.95,
    n_boot: int = 2000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """As `paired_bootstrap`, but draws starts only: what is said of these checkpoints, not of the method.

    The noise of training is left out, so this interval is too narrow for a claim that one method beats another:
    with 3 seeds that differ by 8 points it held the truth in 69 % of simulations instead of 95 %.
    """
    values = differences(table, policy, baseline, metric, level, n_boot)  # (S, N)
    counts = draws(values.shape[1], n_boot, bootstrap.generator(rng))  # (B, N)
    means = counts @ values.mean(axis=0) / values.shape[1]  # (B,)
    return _percentile(values, means, level, "starts only, trainings as they are")


def nested_bootstrap(
    table: pd.DataFrame,
    policy: str,
    baseline: str,
    metric: str,
    level: float = 0.95,
    n_boot: int = 2000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """As `paired_bootstrap`, but every drawn training seed draws starts of its own: seeds outside, starts inside.

    For trainings that were judged each on other starts; on shared starts a hard one would average out over seeds.
    With 3 seeds that differ it held the truth in 88 % of simulations, `paired_bootstrap` in 93 % and `seed_t` in 95 %.
    """
    values = differences(table, policy, baseline, metric, level, n_boot)  # (S, N)
    rng = bootstrap.generator(rng)
    n_seeds, n_starts = values.shape
    drawn = rng.integers(n_seeds, size=(n_seeds, n_boot))
    totals = sum((draws(n_starts, n_boot, rng) * values[seeds]).sum(axis=1) for seeds in drawn)  # (B,)
    return _percentile(values, totals / values.size, level, "seeds, then the starts of each")


def seed_t(table: pd.DataFrame, policy: str, baseline: str, metric: str, level: float = 0.95) -> Estimate:
    """Mean difference policy - baseline with Student's t interval over the mean of each training seed.

    The unit of evidence is the training. Holds its level with three seeds, where a bootstrap over seeds need not: it
    sees only (S - 1) / S of their variance. Speaks of new trainings on these starts: starts are not drawn again.
    """
    from scipy.special import stdtrit

    values = differences(table, policy, baseline, metric, level)
    n_seeds = len(values)
    if n_seeds < 2:
        raise UserError("an interval over training seeds needs at least 2 of them; train the policies again")
    means = values.mean(axis=1)
    half = float(stdtrit(n_seeds - 1, (1 + level) / 2)) * means.std(ddof=1) / np.sqrt(n_seeds)
    effect = float(means.mean())
    what = f"Student's t over {n_seeds} trainings, {level:.0%}"
    return Estimate(effect, effect - half, effect + half, values.size, n_seeds, what)


def from_table(table: pd.DataFrame, policy: str, baseline: str | None, metric: str) -> Estimate:
    """The estimate that a claim asks for: paired difference with a baseline, success rate without one."""
    if baseline is not None:
        return paired_bootstrap(table, policy, baseline, metric)
    values = by_start(table, policy, metric)  # (S, N)
    if not np.isin(values, (0, 1)).all():
        raise UserError(
            f"metric {metric!r} is not 0 or 1 in every episode and so has no rate; hand a ready Estimate to judge"
        )
    return replace(wilson(int(values.to_numpy().sum()), values.size), seeds=len(values))


def differences(
    table: pd.DataFrame, policy: str, baseline: str, metric: str, level: float = 0.95, n_boot: int = 2000
) -> np.ndarray:
    """policy - baseline per training seed and start (S, N), after the checks that every paired interval needs."""
    bootstrap.check(level, n_boot)
    values = (by_start(table, policy, metric) - by_start(table, baseline, metric, like=policy)).to_numpy()
    if values.shape[1] < 2:
        raise UserError("a paired bootstrap needs at least 2 starts; evaluate on more initial states")
    return values


def by_start(table: pd.DataFrame, policy: str, metric: str, like: str | None = None) -> pd.DataFrame:
    """One policy's metric with training seeds as rows and starts as columns; complete, or an error that says why.

    `like` names the other policy of a pair: this one must have run on exactly its seeds and starts.
    """
    for column in ("policy", *PAIR, metric):
        if column not in table.columns:
            raise unknown("table column", column, [str(name) for name in table.columns])
    mine = table[table["policy"] == policy]
    if mine.empty:
        raise unknown("policy in the table", policy, sorted(map(str, table["policy"].unique())))
    if mine.duplicated(PAIR).any():
        seed, start = mine.loc[mine.duplicated(PAIR), PAIR].iloc[0]
        raise UserError(f"policy {policy!r} has start {start} of training seed {seed} twice; evaluate each start once")
    values = mine.pivot(index="train_seed", columns="start", values=metric).astype(float)
    if values.isna().any(axis=None):
        row, column = np.argwhere(values.isna().to_numpy())[0]
        raise UserError(
            f"policy {policy!r} has no {metric} for start {values.columns[column]} of training seed "
            f"{values.index[row]}; evaluate every training seed on the same starts"
        )
    if like is not None:
        other = table.loc[table["policy"] == like, PAIR]
        mine_pairs, other_pairs = (set(map(tuple, pairs.to_numpy().tolist())) for pairs in (mine[PAIR], other))
        if mine_pairs != other_pairs:
            raise UserError(
                f"policies {like!r} and {policy!r} were judged on different starts "
                f"({len(mine_pairs ^ other_pairs)} have no partner); evaluate both on one list of initial states"
            )
    return values


def _percentile(values: np.ndarray, means: np.ndarray, level: float, what: str) -> Estimate:
    """The mean of `values` (S, N) with the middle `level` of the replicates (B,) as interval."""
    label = f"paired bootstrap over {what}, {level:.0%}"
    return Estimate(float(values.mean()), *bootstrap.middle(means, level), values.size, len(values), label)
