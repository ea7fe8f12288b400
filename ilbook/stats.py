"""Estimates with intervals, and the rule that turns an interval into a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ilbook.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("supported", "contradicted", "inconclusive")
PAIR = ["train_seed", "start"]  # two policies are compared on equal training seeds and equal initial states
BOOTSTRAP_SEED = 20240229  # any constant: the same table must give the same interval


@dataclass(frozen=True)
class Estimate:
    """An effect with its interval: from `n` episodes (or pairs of episodes) over `seeds` trainings."""

    effect: float
    low: float
    high: float
    n: int
    seeds: int
    method: str  # how the interval was made, in words

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.effect, self.low, self.high)):
            raise UserError(
                f"estimate {self.effect} [{self.low}, {self.high}] is not finite; look for NaN in what it was made from"
            )
        if self.low > self.high:
            raise UserError(f"estimate has the interval [{self.low}, {self.high}]; give the lower end first")

    def negated(self) -> Estimate:
        """The same estimate with its sign turned, for a metric of which less is better."""
        return replace(self, effect=-self.effect, low=-self.high, high=-self.low)


def verdict(estimate: Estimate, minimum: float) -> str:
    """Supported if the whole interval reaches `minimum`, contradicted if none of it does, else inconclusive."""
    if estimate.low >= minimum:
        return "supported"
    return "contradicted" if estimate.high < minimum else "inconclusive"


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A success rate with its Wilson score interval (Wilson 1927), sound for few episodes and for rates of 0 or 1."""
    _check_level(level)
    if not (n == int(n) and successes == int(successes) and n > 0 and 0 <= successes <= n):
        raise UserError(
            f"{successes} successes of {n} episodes is no rate; give whole numbers with 0 <= successes <= n and n > 0"
        )
    z = NormalDist().inv_cdf(0.5 + level / 2)
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    # At rates of 0 and 1 the interval ends there exactly; rounding would leave 1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(rate, low, high, int(n), 1, f"Wilson interval, {level:.0%}")


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
    _check_level(level)
    if n_boot < 100:
        raise UserError(f"n_boot is {n_boot}; an interval needs at least 100 bootstrap replicates")
    differences = _by_start(table, policy, metric) - _by_start(table, baseline, metric, like=policy)
    values = differences.to_numpy()  # (S, N)
    n_seeds, n_starts = values.shape
    if n_starts < 2:
        raise UserError("a paired bootstrap needs at least 2 starts; evaluate on more initial states")
    rng = rng or np.random.default_rng(BOOTSTRAP_SEED)
    # How often each seed and each start is drawn in a replicate: the mean is then a weighted sum, without a loop.
    seed_counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_boot)  # (B, S)
    start_counts = rng.multinomial(n_starts, np.full(n_starts, 1 / n_starts), size=n_boot)  # (B, N)
    means = ((seed_counts @ values) * start_counts).sum(axis=1) / values.size  # (B,)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    what = "seeds and starts" if n_seeds > 1 else "starts"
    return Estimate(
        float(values.mean()),
        float(low),
        float(high),
        values.size,
        n_seeds,
        f"paired bootstrap over {what}, {level:.0%}",
    )


def mode_entropy(
    table: pd.DataFrame,
    policy: str,
    n_modes: int,
    level: float = 0.95,
    n_boot: int = 2000,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """How evenly the successful episodes of a policy fall on its modes: 0 always the same one, 1 all equally often.

    Entropy to the base `n_modes` (Jia et al. 2024), with the correction of Miller (1955) for few episodes, at most 1;
    mean over training seeds. `table` as for the paired bootstrap, with columns success and mode (0 to n_modes - 1).
    Bootstrap samples lack rare modes, so their entropies are too low: they are moved up to centre on the estimate.
    """
    _check_level(level)
    success, mode = (_by_start(table, policy, column).to_numpy() for column in ("success", "mode"))  # (S, N)
    if n_modes < 2 or not np.isin(mode[success == 1], np.arange(n_modes)).all():
        raise UserError(
            f"policy {policy!r} has successful episodes whose mode is not a number from 0 to {n_modes - 1}; "
            "count the modes of the task"
        )
    n_seeds, n_starts = mode.shape
    n = int((success == 1).sum())
    if n == 0:  # nothing was seen, so nothing is known
        return Estimate(0.0, 0.0, 1.0, 0, n_seeds, "no successful episode")
    took = (mode[..., None] == np.arange(n_modes)) & (success == 1)[..., None]  # (S, N, M)
    effect = _entropy(took.sum(axis=1)).mean()
    rng = rng or np.random.default_rng(BOOTSTRAP_SEED)
    seed_counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_boot)  # (B, S)
    start_counts = rng.multinomial(n_starts, np.full(n_starts, 1 / n_starts), size=n_boot)  # (B, N)
    counts = np.stack([start_counts @ of_seed.astype(float) for of_seed in took], axis=1)  # (B, S, M)
    replicates = (_entropy(counts) * seed_counts).sum(axis=1) / n_seeds
    replicates += effect - replicates.mean()
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2]).clip(0.0, 1.0)
    what = f"bootstrap over {'seeds and ' if n_seeds > 1 else ''}starts, {level:.0%}"
    return Estimate(min(float(effect), 1.0), float(low), float(high), n, n_seeds, what)


def _entropy(counts: np.ndarray) -> np.ndarray:
    """Miller-Madow entropy (...,) of counts (..., M) to the base M; 0 where nothing was counted."""
    total = np.maximum(counts.sum(axis=-1), 1)
    share = counts / total[..., None]
    nats = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=-1)
    missed = np.maximum((counts > 0).sum(axis=-1) - 1, 0) / (2 * total)
    return (nats + missed) / math.log(counts.shape[-1])


def from_table(table: pd.DataFrame, policy: str, baseline: str | None, metric: str) -> Estimate:
    """The estimate that a claim asks for: paired difference with a baseline, success rate without one."""
    if baseline is not None:
        return paired_bootstrap(table, policy, baseline, metric)
    values = _by_start(table, policy, metric)  # (S, N)
    if not np.isin(values, (0, 1)).all():
        raise UserError(
            f"metric {metric!r} is not 0 or 1 in every episode and so has no rate; hand a ready Estimate to judge"
        )
    return replace(wilson(int(values.to_numpy().sum()), values.size), seeds=len(values))


def _by_start(table: pd.DataFrame, policy: str, metric: str, like: str | None = None) -> pd.DataFrame:
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


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UserError(f"confidence level {level} is not between 0 and 1; use 0.95")
