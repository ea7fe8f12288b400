"""Choosing the best of several checkpoints without fooling oneself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ilbook import used
from ilbook.errors import UserError, unknown
from ilbook.stats.estimate import Estimate, check_rate, check_whole, outcomes
from ilbook.stats.intervals import binomial, wilson


@dataclass(frozen=True)
class Selection:
    """The checkpoint that was best on the validation starts, and its rate there and on starts that chose nothing."""

    checkpoint: object
    validation: Estimate  # too high on average: it was chosen for being high
    held_out: Estimate  # the rate to report


def select_checkpoint(table: pd.DataFrame, validation: Iterable[int], held_out: Iterable[int]) -> Selection:
    """Pick the checkpoint with the most successes on the `validation` starts; report it on the `held_out` starts.

    `table` has one row per episode of one training: checkpoint, start and success (0 or 1). Among equals the first
    of the table is taken. Every checkpoint must have run on every validation start.
    """
    used.note("stats.selection")
    for column in ("checkpoint", "start", "success"):
        if column not in table.columns:
            raise unknown("table column", column, map(str, table.columns))
    if "train_seed" in table.columns and table["train_seed"].nunique() > 1:
        raise UserError("the table mixes several training seeds; choose a checkpoint of each training by itself")
    chosen_on, reported_on = set(validation), set(held_out)
    if not (chosen_on and reported_on):
        kind = "held-out" if chosen_on else "validation"
        raise UserError(f"there are no {kind} starts; list their ids in advance")
    if shared := sorted(chosen_on & reported_on):
        both = f"{len(shared)} starts choose the checkpoint and report it too ({shared[0]} is one)"
        raise UserError(f"{both}; keep the lists apart")
    scores = {name: _rate(table, name, chosen_on) for name in dict.fromkeys(table["checkpoint"])}
    if not scores:
        raise UserError("the table has no checkpoint; evaluate at least one")
    best = max(scores, key=lambda name: scores[name].effect)
    return Selection(best, scores[best], _rate(table, best, reported_on))


def best_of(rates: Sequence[float], n: int) -> float:
    """Expected sample rate of whichever of several checkpoints looks best after n independent episodes each; exact.

    Less the best true rate it is the optimism, which is smaller on common starts, where the outcomes are correlated.
    """
    used.note("stats.selection")
    check_whole(n)
    check_rate(*rates)
    if len(rates) == 0:
        raise UserError("there is no checkpoint to choose from; give at least one rate")
    below = np.minimum(np.cumsum(binomial(n, rates), axis=-1), 1.0)  # (K, n + 1)
    return float((1 - below.prod(axis=0)[:-1]).sum() / n)  # E[max] is the sum of P(max > s)


def _rate(table: pd.DataFrame, checkpoint: object, starts: set[int]) -> Estimate:
    """The success rate of a checkpoint on these starts, each exactly once."""
    mine = table[(table["checkpoint"] == checkpoint) & table["start"].isin(starts)]
    for twice in mine.loc[mine["start"].duplicated(), "start"]:
        raise UserError(f"checkpoint {checkpoint!r} has start {twice} twice; evaluate each start once")
    if missing := sorted(starts - set(mine["start"])):
        raise UserError(f"checkpoint {checkpoint!r} was not run on start {missing[0]} ({len(missing)} are missing)")
    return wilson(int(outcomes(mine["success"].to_numpy(), f"checkpoint {checkpoint!r}").sum()), len(starts))
