"""Recording a demonstrator at work: what was executed may slip, what is written down is what was meant."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ilbook.tasks.base import Task


class Expert(Protocol):
    """Demonstrates in N copies; `slip` turns the target that was meant into the one that is executed."""

    def act(self, state: np.ndarray) -> np.ndarray: ...

    def slip(self, action: np.ndarray) -> np.ndarray: ...


def record(task: Task, expert: Expert) -> tuple[np.ndarray, np.ndarray]:
    """States (N, T, S) and clean actions (N, T, A), float32, an episode a copy; copy i has `length[i]` steps."""
    states, actions = [], []
    while not task.done.all():
        states.append(task.state)
        actions.append(expert.act(task.state))
        task.step(expert.slip(actions[-1]))
    return tuple(np.stack(steps, axis=1).astype(np.float32) for steps in (states, actions))
