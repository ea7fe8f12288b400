"""A scripted Avoid demonstrator: smooth paths through chosen gaps, with the variation and the slips of a human hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.experts.record import record
from ilbook.tasks.avoid import CENTRES, GAPS, N_MODES, RADII, ROWS, START, Avoid, clearance

STEP = 1.0 / Avoid.control_hz  # s
HEIGHTS = np.linspace(-0.32, 0.40, 145)  # m, the y values at which a path is stored
END = 0.40  # m, y beyond the goal where paths end


@dataclass(frozen=True)
class Style:
    """How a demonstrator moves; all chance comes from the generators given to the expert."""

    speed: float = 0.24  # m/s, mean
    speed_spread: float = 0.03  # m/s, standard deviation between episodes
    hurry: float = 0.12  # relative standard deviation of the speed within an episode
    gap_spread: float = 0.008  # m, standard deviation of the point where a gap is passed
    turn: float = 0.35  # 0: upright through every gap; 1: in the direction of the next one
    correction: float = 3.0  # 1/s, how quickly the hand comes back to its path
    slip: float = 0.12  # of the distance moved: standard deviation of the executed error
    slip_memory: float = 0.8  # of the error that is left in the next step
    margin: float = 0.012  # m, free distance that a planned path keeps from every obstacle


def _gap_points() -> tuple[np.ndarray, ...]:
    """The x of the middle of each gap of each row; outside the last obstacle as far as an inner gap is wide."""
    points = []
    for centres, radius in zip(CENTRES, RADII, strict=True):
        half = 0.075 if len(centres) > 1 else radius + 0.04
        points.append(np.concatenate([centres[:1] - half, centres + half]))
    return tuple(points)


GAP_POINTS = _gap_points()


def _hermite(at: np.ndarray, knots: np.ndarray, values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Cubic Hermite spline through values (k,) at knots (k,) with the given slopes, evaluated at `at`."""
    k = np.clip(np.searchsorted(knots, at) - 1, 0, len(knots) - 2)
    width = knots[k + 1] - knots[k]
    t = np.clip((at - knots[k]) / width, 0.0, 1.0)
    rest = 1.0 - t
    return (
        values[k] * (1 + 2 * t) * rest**2
        + values[k + 1] * t**2 * (3 - 2 * t)
        + width * (slopes[k] * t * rest**2 - slopes[k + 1] * t**2 * rest)
    )


def _path(mode: int, style: Style, rng: np.random.Generator) -> np.ndarray:
    """One planned path: its x at each of `HEIGHTS`, from the start through the three gaps of `mode`."""
    gaps = np.unravel_index(mode, GAPS)
    middle = np.array([points[gap] for points, gap in zip(GAP_POINTS, gaps, strict=True)])
    knots = np.array([START[1], *ROWS, END])
    while True:
        through = middle + style.gap_spread * rng.standard_normal(3)
        values = np.array([START[0], *through, through[2] + style.gap_spread * rng.standard_normal()])
        slopes = np.zeros(5)
        slopes[1:4] = style.turn * (values[2:] - values[:-2]) / (knots[2:] - knots[:-2])
        path = _hermite(HEIGHTS, knots, values, slopes)
        if clearance(np.column_stack([path, HEIGHTS])).min() > style.margin:
            return path


class AvoidExpert:
    """Demonstrates Avoid in N copies, copy i by way `modes[i]`; `act` maps states (N, 4) to target positions (N, 2).

    Every choice of copy i comes from `seeds[i]`. Before a target is executed, `slip` moves it by an error in proportion
    to the distance moved (Harris and Wolpert 1998); recording the clean target makes the data hold recoveries, as in
    DART (Laskey et al. 2017).
    """

    def __init__(self, modes: Sequence[int], seeds: Sequence[Sequence[int]], style: Style | None = None):
        if len(modes) != len(seeds) or any(not 0 <= mode < N_MODES for mode in modes):
            raise UserError(f"an Avoid expert needs one mode from 0 to {N_MODES - 1} and one seed per copy")
        self.modes, self.seeds, self.style = modes, seeds, style or Style()
        self.reset()

    def reset(self) -> None:
        """Plan all paths anew: the same ones, because the seeds are the same."""
        style = self.style
        self._rngs = [np.random.default_rng(seed) for seed in self.seeds]
        self._paths = np.stack([_path(mode, style, rng) for mode, rng in zip(self.modes, self._rngs, strict=True)])
        drawn = np.stack([rng.standard_normal(3) for rng in self._rngs])  # (N, 3)
        self._speed = style.speed + style.speed_spread * np.clip(drawn[:, 0], -2, 2)
        self._waves = style.hurry * drawn[:, 1:]  # a slow and a quicker wave of the speed along y
        self._error = np.zeros((len(self.modes), 2))
        self._moved = np.zeros(len(self.modes))

    def _x(self, y: np.ndarray) -> np.ndarray:
        """Planned x (N,) at heights y (N,)."""
        at = np.clip((y - HEIGHTS[0]) / (HEIGHTS[1] - HEIGHTS[0]), 0, len(HEIGHTS) - 1.001)
        low, copy = at.astype(int), np.arange(len(y))
        return self._paths[copy, low] + (at - low) * (self._paths[copy, low + 1] - self._paths[copy, low])

    def act(self, state: np.ndarray) -> np.ndarray:
        """The next command: forward along the path from the present command, and back towards it when off it."""
        command = state[:, 2:4]
        y = command[:, 1]
        slope = (self._x(y + 0.005) - self._x(y - 0.005)) / 0.01
        forward = np.column_stack([slope, np.ones_like(slope)]) / np.sqrt(1 + slope**2)[:, None]
        waves = self._waves[:, 0] * np.sin(10 * y) + self._waves[:, 1] * np.cos(25 * y)
        started = np.clip((y - START[1]) / 0.03, 0.0, 1.0)  # hands gather speed
        speed = self._speed * np.exp(waves) * (0.35 + 0.65 * started)
        move = forward * (speed * STEP)[:, None]
        move[:, 0] += self.style.correction * STEP * (self._x(y) - command[:, 0])
        distance = np.linalg.norm(move, axis=1)
        self._moved = np.minimum(distance, Avoid.max_speed * STEP)  # no target that the arm cannot reach in one step
        return command + move * (self._moved / distance)[:, None]

    def slip(self, action: np.ndarray) -> np.ndarray:
        """What the hand does instead of `action` (N, 2): a slowly changing error, larger in quick movements."""
        fresh = np.stack([rng.standard_normal(2) for rng in self._rngs])
        memory = self.style.slip_memory
        self._error = memory * self._error + np.sqrt(1 - memory**2) * fresh
        return action + self.style.slip * self._moved[:, None] * self._error


def demonstrate(n: int, seed: int, style: Style | None = None) -> Episodes:
    """`n` successful demonstrations that take the modes in turn: arrays state (T, 4) and action (T, 2), float32.

    Actions are the clean targets; what was executed had slips. An attempt that touches an obstacle is thrown away and
    tried again with other chances, in the same mode, so that the modes stay even.
    """
    if n < 1:
        raise UserError(f"{n} demonstrations asked for; ask for at least 1")
    modes = np.arange(n) % N_MODES
    kept: list[tuple[np.ndarray, np.ndarray] | None] = [None] * n
    attempt = 0
    while missing := [i for i in range(n) if kept[i] is None]:
        seeds = [(seed, i, attempt) for i in missing]
        for i, episode in zip(missing, _attempt(modes[missing], seeds, style), strict=True):
            kept[i] = episode
        attempt += 1
    states, actions = zip(*kept, strict=True)
    return Episodes(
        {"state": np.concatenate(states), "action": np.concatenate(actions)}, np.cumsum([len(a) for a in actions])
    )


def _attempt(modes: np.ndarray, seeds: list[tuple[int, ...]], style: Style | None) -> list:
    """One attempt at each mode: its states (T, 4) and actions (T, 2), or None where it did not succeed in its mode."""
    task = Avoid(len(modes))
    task.reset(np.stack([task.start(np.random.default_rng([*seed, 1])) for seed in seeds]))
    expert = AvoidExpert(modes, seeds, style)
    states, actions = record(task, expert)
    good = task.info()["mode"] == modes
    return [(states[i, :t], actions[i, :t]) if good[i] else None for i, t in enumerate(task.length)]
