"""What a servo may be asked to do in one control step: the box of its targets and its speed."""

import numpy as np

from ilbook import used

Array = np.ndarray


def limit(action: Array, command: Array, low: Array, high: Array, reach: float, weight: float | Array) -> Array:
    """The move (N, A) of commanded positions (N, A) straight towards targets (N, A), metres or radians: these are first
    brought into the box from `low` to `high` (A,), then it is at most `reach` long, each action counting `weight` (a
    number or (A,)) in its length.
    """
    used.note("tasks.limit")
    move = np.minimum(np.maximum(action, low), high)
    move -= command
    distance = np.sqrt(((move * weight) ** 2).sum(axis=1, keepdims=True))
    move *= np.minimum(1.0, reach / np.maximum(distance, 1e-12))
    return move
