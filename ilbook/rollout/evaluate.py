"""Closed-loop evaluation: the same initial states for every policy, all copies in one batch, one row per episode."""

from __future__ import annotations

import time
from collections import Counter
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
    """What happened: a table with one row per episode, and the states that were visited.

    All of it follows from policy, task and starts, except the column `wall_seconds`: the share of an episode in the
    time that its batch took. `invalid` is 1 where a number that is not finite ended the episode, as a failure.
    """

    table: pd.DataFrame  # its columns: see `evaluate`; n_exec and such are the controller's, milestones the task's
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

    `start_seeds` names the initial states, so that every policy meets the same ones: each once, or one start for all
    episodes. `states` (N, S) takes over elsewhere. `progress(episodes that ended just now)`.
    """
    starts = check_starts(start_seeds)
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
        print(
            f"{policy}: {len(invalid)} of {len(starts)} episodes ended by a number that is not finite "
            f"(start {listed(invalid, 5)}); they count as failures"
        )
    return Rollout(table, [path[i, : n + 1] for i, n in enumerate(sim.length)])


def check_starts(start_seeds: Sequence[int]) -> list[int]:
    """The start seeds as a list of ints; a UserError if there is none, one is no seed, or one is listed twice.

    Many episodes from one and the same start are allowed: there all chance is the policy's.
    """
    seeds = list(start_seeds)
    if not seeds:
        raise UserError("the list of start seeds is empty, so there is no episode to judge; give it, say, range(100)")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise UserError(f"start seed {seed!r} names no initial state; give whole numbers from 0 up")
    seeds = [int(seed) for seed in seeds]
    twice = [seed for seed, count in sorted(Counter(seeds).items()) if count > 1]
    if twice and len(set(seeds)) > 1:
        raise UserError(
            f"start {listed(twice, 5)} is listed more than once and would count twice; list each start once"
        )
    return seeds
