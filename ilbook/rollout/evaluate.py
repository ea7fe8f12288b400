"""Closed-loop evaluation: the same initial states for every policy, all copies in one batch, one row per episode."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ilbook.errors import UserError
from ilbook.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

MOST_NAMED = 5  # starts in a message
WALL_TIME = "wall_seconds"  # the one column of a rollout table that the seed does not determine
EVALUATED: list[str] = []  # policies, in the order in which this process evaluated them


def note_evaluation(policy: str) -> None:
    """Remember that there now are data on a policy: a claim about it that is declared from here on comes too late."""
    EVALUATED.append(policy)


class Controller(Protocol):
    """Anything that drives N copies: a chunk controller around a policy, or an expert behind an adapter."""

    def reset(self) -> None: ...

    def act(self, obs: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Rollout:
    """What happened: a table with one row per episode, and the states that were visited.

    All of the table follows from policy, task and starts, except the column `wall_seconds`: the share of an episode in
    the time that its batch took. `Run.table` and claims refuse that column, because results repeat byte by byte.
    """

    # policy, train_seed, start, success, score, length, the milestones of the task (its `info`), perturbation,
    # invalid (1: a number that is not finite ended the episode, as a failure), wall_seconds
    table: pd.DataFrame
    states: list[np.ndarray]  # per episode (length + 1, S)


def evaluate(
    task_type: type[Task],
    controller: Controller,
    start_seeds: Sequence[int],
    policy: str,
    train_seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Rollout:
    """Run one episode from each of `start_seeds`, all at once, until every one is done.

    `start_seeds` names the initial states, so that every policy meets the same ones: each once, or one start for all
    episodes. An action that is not finite ends its episode as a failure. `progress(step, running)`.
    """
    starts = check_starts(start_seeds, one_for_all=True)
    note_evaluation(policy)
    clock = time.perf_counter()
    task = task_type(len(starts))
    obs = task.reset(task.starts(starts))
    controller.reset()
    visited = [task.state]
    invalid, seconds = np.zeros(len(starts), dtype=bool), np.zeros(len(starts))
    while (running := ~task.done).any():
        if progress:
            progress(len(visited) - 1, int(running.sum()))
        action = _actions(controller.act(obs), task, policy)
        invalid |= running & ~np.isfinite(action).all(axis=1)
        obs = task.step(action)
        visited.append(task.state)
        broken = running & ~np.isfinite(visited[-1]).all(axis=1)  # the simulation itself gave out
        if broken.any():
            invalid |= broken
            task.failure |= broken
        clock, before = time.perf_counter(), clock
        seconds[running] += (clock - before) / running.sum()
    states = np.stack(visited, axis=1)  # (N, T, S)
    table = _table(task, policy, train_seed, starts, invalid, seconds)
    report_invalid(table)
    return Rollout(table, [states[i, : n + 1] for i, n in enumerate(task.length)])


def _table(task: Task, policy: str, train_seed: int, starts: list[int], invalid: np.ndarray, seconds: np.ndarray):
    import pandas as pd

    return pd.DataFrame(
        {
            "policy": policy,
            "train_seed": train_seed,
            "start": starts,
            "success": (task.success & ~invalid).astype(int),
            "score": np.where(np.isfinite(task.score), task.score, 0.0),
            "length": task.length,
            **task.info(),
            "perturbation": shift(type(task)),
            "invalid": invalid.astype(int),
            WALL_TIME: seconds,
        }
    )


def _actions(given: object, task: Task, policy: str) -> np.ndarray:
    """What a controller returned as an array (N, A), or the error that says what it should have returned."""
    try:
        action = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        action = None
    if action is None or action.shape != task.command.shape:
        what = f"a {type(given).__name__}" if action is None else f"actions of shape {action.shape}"
        raise UserError(
            f"policy {policy!r} answered {what} to {task.n_copies} observations of {task.name}; its controller's act "
            f"must return numbers of shape {task.command.shape}, one row a copy"
        )
    return action


def shift(task_type: type[Task]) -> str:
    """The perturbations of a task in words, such as "lag=1, mass=0.5"; "none" for the nominal task."""
    return ", ".join(f"{name}={strength:g}" for name, strength in sorted(task_type.strengths.items())) or "none"


def check_starts(start_seeds: Sequence[int], one_for_all: bool = False) -> list[int]:
    """The start seeds as a list of ints; a UserError if there is none, one is no seed, or one is listed twice.

    `one_for_all` allows many episodes from one and the same start, where all chance is the policy's.
    """
    seeds = list(start_seeds)
    if not seeds:
        raise UserError("the list of start seeds is empty, so there is no episode to judge; give it, say, range(100)")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise UserError(f"start seed {seed!r} names no initial state; give whole numbers from 0 up")
    seeds = [int(seed) for seed in seeds]
    if len(set(seeds)) < len(seeds) and not (one_for_all and len(set(seeds)) == 1):
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        raise UserError(f"start {_listed(twice)} is listed more than once and would count twice; list each start once")
    return seeds


def report_invalid(table: pd.DataFrame) -> None:
    """Say which episodes a number that is not finite has ended."""
    starts = table.loc[table["invalid"] == 1, "start"].tolist()
    if starts:
        print(
            f"{table['policy'].iloc[0]}: {len(starts)} of {len(table)} episodes ended by a number that is not finite "
            f"(start {_listed(starts)}); they count as failures"
        )


def _listed(starts: list[int]) -> str:
    more = len(starts) - MOST_NAMED
    return ", ".join(map(str, starts[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
