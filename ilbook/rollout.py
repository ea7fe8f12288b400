"""Closed-loop evaluation: the same initial states for every policy, all copies in one batch, one row per episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ilbook.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd


class Controller(Protocol):
    """Anything that drives N copies: a chunk controller around a policy, or an expert behind an adapter."""

    def reset(self) -> None: ...

    def act(self, obs: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Rollout:
    """What happened: a table with one row per episode, and the states that were visited."""

    table: pd.DataFrame  # policy, train_seed, start, success, score, length, and the columns of the task
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

    `start_seeds` names the initial states, so that every policy meets the same ones. `progress(step, running)`.
    """
    import pandas as pd

    task = task_type(len(start_seeds))
    obs = task.reset(task.starts(start_seeds))
    controller.reset()
    visited = [task.state]
    while not (done := task.done).all():
        if progress:
            progress(len(visited) - 1, int((~done).sum()))
        obs = task.step(controller.act(obs))
        visited.append(task.state)
    states = np.stack(visited, axis=1)  # (N, T, S)
    table = pd.DataFrame(
        {
            "policy": policy,
            "train_seed": train_seed,
            "start": list(start_seeds),
            "success": task.success.astype(int),
            "score": task.score,
            "length": task.length,
            **task.info(),
        }
    )
    return Rollout(table, [states[i, : n + 1] for i, n in enumerate(task.length)])
