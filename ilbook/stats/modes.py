"""How evenly a policy's successes fall on the ways in which a task can be solved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ilbook import used
from ilbook.errors import UserError
from ilbook.stats.bootstrap import Bootstrap
from ilbook.stats.estimate import Estimate
from ilbook.stats.paired import by_start

if TYPE_CHECKING:
    import pandas as pd


def mode_entropy(table: pd.DataFrame, policy: str, n_modes: int, level: float = 0.95) -> Estimate:
    """How evenly the successful episodes of a policy fall on its modes: 0 always the same one, 1 all equally often.

    Entropy to the base `n_modes` (Jia et al. 2024), with the correction of Miller (1955) for few episodes, at most 1;
    mean over training seeds. `table` as for the paired bootstrap, with columns success and mode (0 to n_modes - 1).
    Bootstrap samples lack rare modes, so their entropies are too low: they are moved up to centre on the estimate.
    """
    used.note("stats.modes")
    bootstrap = Bootstrap(level)
    success, mode = (by_start(table, policy, column).to_numpy() for column in ("success", "mode"))  # (S, N)
    way = np.where(success == 1, mode, -1)
    if n_modes < 2 or not np.isin(way, np.arange(-1, n_modes)).all():
        wrong = f"policy {policy!r} has successful episodes whose mode is not a number from 0 to {n_modes - 1}"
        raise UserError(f"{wrong}; count the modes of the task")
    n_seeds, n_starts = way.shape
    n = int((way >= 0).sum())
    if n == 0:  # nothing was seen, so nothing is known
        return Estimate(0.0, 0.0, 1.0, 0, n_seeds, "no successful episode")
    took = (way[..., None] == np.arange(n_modes)).astype(float)  # (S, N, M)
    effect = _entropy(took.sum(axis=1)).mean()
    seed_counts, start_counts = bootstrap.draws(n_seeds), bootstrap.draws(n_starts)  # (B, S), (B, N)
    counts = np.stack([start_counts @ of_seed for of_seed in took], axis=1)  # (B, S, M)
    replicates = (_entropy(counts) * seed_counts).sum(axis=1) / n_seeds
    ends = bootstrap.middle(replicates + effect - replicates.mean())
    effect, low, high = (min(max(float(value), 0.0), 1.0) for value in (effect, *ends))
    what = f"bootstrap over {'seeds and ' if n_seeds > 1 else ''}starts, {level:.0%}"
    return Estimate(effect, low, high, n, n_seeds, what)


def _entropy(counts: np.ndarray) -> np.ndarray:
    """Miller-Madow entropy (...,) of counts (..., M) to the base M; 0 where nothing was counted."""
    from scipy.special import entr  # brings more than a claim needs

    total = np.maximum(counts.sum(axis=-1), 1)
    nats = entr(counts / total[..., None]).sum(axis=-1)
    missed = np.maximum((counts > 0).sum(axis=-1) - 1, 0) / (2 * total)
    return (nats + missed) / math.log(counts.shape[-1])
