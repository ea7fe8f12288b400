"""Closed-loop evaluation: the same initial states for every policy, all copies in one batch, one row per episode."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ilbook import used
from ilbook.control.base import Controller
from ilbook.errors import UserError, listed
from ilbook.rollout import EVALUATED, WALL_TIME
from ilbook.rollout.play import play
from ilbook.tasks.base import Task


@dataclass(frozen=True)
class Rollout:
    """What happened. All of it follows from policy, task and starts, except the column `wall_seconds`: the share of an
    episode in the time of its batch. `invalid` is 1 where a number that is not finite ended the episode, as a failure.
    """

    table: pd.DataFrame  # a row per episode; n_exec and such are the controller's, milestones the task's
    states: list[np.ndarray]  # per episode (length + 1, S)


def evaluate(
    task: Task,
    controller: Controller,
    start_seeds: Sequence[int],
    policy: str,
    train_seed: int = 0,
    states: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rollout:
    """Run one episode from each of `start_seeds`, all at once, until every one is done.

    `start_seeds`: each once, or one for all. `states` (N, S) takes over elsewhere. `progress(episodes ended)`.
    """
    starts = _checked(start_seeds)
    EVALUATED.append(policy)
    used.note("rollout.evaluate")
    sim = task.batch(len(starts))
    chances = [(start, number) for number, start in enumerate(starts)] if len(set(starts)) < len(starts) else starts
    clock, seconds, visited = time.perf_counter(), np.zeros(len(starts)), []
    for step in play(sim, controller, starts, chances=chances, states=states):
        visited.append(step.state)
        clock, before = time.perf_counter(), clock
        seconds[step.alive] += (clock - before) / step.alive.sum()
        if progress:
            progress(int(step.finished.sum()))
    path = np.stack([*visited, sim.state], axis=1)  # (N, T, S)
    table = pd.DataFrame(
        {
            "policy": policy,
            "train_seed": train_seed,
            "start": starts,
            "success": sim.success.astype(int),
            "score": sim.score,
            "length": sim.length,
            **controller.columns,
            **sim.info(),
            "perturbation": ", ".join(f"{name}={strength:g}" for name, strength in task.shift) or "none",
            "invalid": sim.invalid.astype(int),
            WALL_TIME: seconds,
        }
    )
    if invalid := [start for start, broken in zip(starts, sim.invalid, strict=True) if broken]:
        which = f"{len(invalid)} of {len(starts)} episodes ended by a number that is not finite"
        print(f"{policy}: {which} (start {listed(invalid, 5)}); they count as failures")
    return Rollout(table, [path[i, : n + 1] for i, n in enumerate(sim.length)])


def _checked(start_seeds: Sequence[int]) -> list[int]:
    """The start seeds as ints, each of them once, or all the same: there all chance is the policy's."""
    for seed in start_seeds:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise UserError(f"start seed {seed!r} names no initial state; give whole numbers from 0 up")
    seeds = [int(seed) for seed in start_seeds]
    if not seeds:
        raise UserError("the list of start seeds is empty, so there is no episode to judge; give it, say, range(100)")
    if 1 < len(set(seeds)) < len(seeds):
        twice = listed(sorted({seed for seed in seeds if seeds.count(seed) > 1}), 5)
        raise UserError(f"start {twice} is listed more than once and would count twice; list each start once")
    return seeds
