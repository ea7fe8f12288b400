"""Data quality at first sight, which does not tell whether a set can be cloned (Belkhale et al. 2023 on robomimic)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError

RESTING = 0.05  # of the typical speed: slower than this counts as rest
LONG_REST = 0.3  # s
NEIGHBOURS = 5
SAMPLE = 500  # steps for which neighbours are looked up


def describe(episodes: Episodes, hz: float, seed: int = 0) -> dict[str, float]:
    """Figures of demonstrations (arrays obs and action) that were recorded `hz` times a second.

    seconds: median length of an episode. speed: median of what the target moves, per second, while it moves.
    resting: share of the steps with less than a twentieth of that. rests: pauses of 0.3 s or more in an episode.
    turning: mean angle (radians) between successive moves. disagreement: see `disagreement`.
    """
    if len(episodes) < 2:
        raise UserError("one episode alone cannot be described; give at least two")
    if "obs" not in episodes.arrays:
        raise UserError("episodes without the array 'obs' cannot be described; add what the policy would see")
    moves, same = _moves(episodes)
    distance = np.linalg.norm(moves, axis=1)
    typical = float(np.median(distance[same & (distance > 1e-6)]))
    resting = same & (distance < RESTING * typical)
    pauses = np.bincount(ndimage.label(resting)[0])[1:]  # how long each lasts
    moving = same & (distance > RESTING * typical)
    both = moving[:-1] & moving[1:]
    cosine = (moves[:-1] * moves[1:])[both].sum(axis=1) / (distance[:-1] * distance[1:])[both]
    return {
        "episodes": len(episodes),
        "steps": episodes.n_steps,
        "seconds": float(np.median(episodes.lengths)) / hz,
        "speed": typical * hz,
        "resting": float(resting[same].mean()),
        "rests": int((pauses >= round(LONG_REST * hz)).sum()) / len(episodes),
        "turning": float(np.arccos(np.clip(cosine, -1, 1)).mean()),
        "disagreement": disagreement(episodes, seed) / typical,
    }


def disagreement(episodes: Episodes, seed: int = 0) -> float:
    """How far the next move differs where different episodes look alike: the median over a sample of steps.

    Of each step it is the root mean square distance of the moves at its five nearest observations (each dimension
    scaled by its spread) of other episodes from their mean.
    """
    moves, same = _moves(episodes)
    rows = np.flatnonzero(same)
    owner = np.repeat(np.arange(len(episodes)), episodes.lengths)
    obs = episodes["obs"].astype(np.float32)
    obs = obs / np.maximum(obs.std(axis=0), 1e-4)
    rng = np.random.default_rng([seed, 41])
    sample = rng.choice(rows, min(SAMPLE, len(rows)), replace=False)
    squares = (obs**2).sum(axis=1)
    far = squares[sample, None] + squares[rows] - 2 * obs[sample] @ obs[rows].T  # (sample, rows)
    far[owner[sample, None] == owner[rows]] = np.inf
    near = rows[np.argpartition(far, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]]
    around = moves[near] - moves[near].mean(axis=1, keepdims=True)  # (sample, neighbours, A)
    return float(np.median(np.sqrt((around**2).sum(axis=2).mean(axis=1))))


def _moves(episodes: Episodes) -> tuple[np.ndarray, np.ndarray]:
    """What the target moves from each step to the next (T, A), and where that stays within an episode (T,)."""
    action = episodes["action"].astype(np.float64)
    moves = np.zeros_like(action)
    moves[:-1] = np.diff(action, axis=0)
    same = np.ones(len(action), dtype=bool)
    same[episodes.episode_ends - 1] = False
    return moves, same
