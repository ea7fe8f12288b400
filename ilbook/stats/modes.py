"""How evenly a policy's successes fall on the ways in which a task can be solved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ilbook.errors import UserError
from ilbook.stats import bootstrap
from ilbook.stats.estimate import Estimate
from ilbook.stats.paired import by_start

if TYPE_CHECKING:
    import pandas as pd


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
    bootstrap.check(level, n_boot)
    success, mode = (by_start(table, policy, column).to_numpy() for column in ("success", "mode"))  # (S, N)
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
    rng = bootstrap.generator(rng)
    seed_counts = bootstrap.draws(n_seeds, n_boot, rng)  # (B, S)
    start_counts = bootstrap.draws(n_starts, n_boot, rng)  # (B, N)
    counts = np.stack([start_counts @ of_seed.astype(float) for of_seed in took], axis=1)  # (B, S, M)
    replicates = (_entropy(counts) * seed_counts).sum(axis=1) / n_seeds
    replicates += effect - replicates.mean()
    low, high = np.clip(bootstrap.middle(replicates, level), 0.0, 1.0)
    what = f"bootstrap over {'seeds and ' if n_seeds > 1 else ''}starts, {level:.0%}"
    return Estimate(min(float(effect), 1.0), float(low), float(high), n, n_seeds, what)


def _entropy(counts: np.ndarray) -> np.ndarray:
    """Miller-Madow entropy (...,) of counts (..., M) to the base M; 0 where nothing was counted."""
    total = np.maximum(counts.sum(axis=-1), 1)
    share = counts / total[..., None]
    nats = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=-1)
    missed = np.maximum((counts > 0).sum(axis=-1) - 1, 0) / (2 * total)
    return (nats + missed) / math.log(counts.shape[-1])
