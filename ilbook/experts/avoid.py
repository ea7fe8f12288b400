"""A scripted Avoid demonstrator: smooth paths through chosen gaps, with the variation and the slips of a human hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.experts import base
from ilbook.experts.base import STEADY, Expert, Style, check_number, joined
from ilbook.tasks.avoid import CENTRES, GAPS, N_MODES, RADII, ROWS, START, Avoid, clearance

STEP = 1.0 / Avoid.control_hz  # s
HEIGHTS = np.linspace(-0.32, 0.40, 145)  # m, the y values at which a path is stored
END = 0.40  # m, y beyond the goal where paths end


SPEED, SPEED_SPREAD = 0.24, 0.03  # m/s, mean and standard deviation between episodes
HURRY = 0.12  # relative standard deviation of the speed within an episode
GAP_SPREAD = 0.008  # m, standard deviation of the point where a gap is passed
TURN = 0.35  # 0: upright through every gap; 1: in the direction of the next one
CORRECTION = 3.0  # 1/s, how quickly the hand comes back to its path
MARGIN = 0.012  # m, free distance that a planned path keeps from every obstacle
BULGE = 0.05  # m, standard deviation of a detour between two rows
TRIES = 40  # plans of a take-over that are thrown away before another gap, and half the margin, are allowed
SAME_MODE = 100  # attempts at one demonstration before the style is given up


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


def _path(
    mode: int, style: Style, rng: np.random.Generator, begin: np.ndarray = START, tries: float = np.inf
) -> np.ndarray:
    """One planned path: its x at each of `HEIGHTS`, from `begin` (2,) through the gaps of `mode` that lie ahead."""
    gaps = np.unravel_index(mode, GAPS)
    ahead = [row for row, y in enumerate(ROWS) if y > begin[1]]
    middle = np.array([GAP_POINTS[row][gaps[row]] for row in ahead])
    knots = np.array([begin[1], *(ROWS[row] for row in ahead), max(END, begin[1] + 0.02)])
    for attempt in itertools.count():
        margin = MARGIN
        if attempt >= tries:  # someone else led the hand to a place from which this way is closed
            middle = np.array([rng.choice(GAP_POINTS[row]) for row in ahead])
            margin = MARGIN * 0.5 ** (attempt // tries)
        through = middle + GAP_SPREAD * rng.standard_normal(len(ahead))
        last = through[-1] if ahead else begin[0]
        values = np.array([begin[0], *through, last + GAP_SPREAD * rng.standard_normal()])
        slopes = np.zeros(len(values))
        slopes[1:-1] = TURN * (values[2:] - values[:-2]) / (knots[2:] - knots[:-2])
        path = _hermite(HEIGHTS, knots, values, slopes)
        if style.detour:
            path = path + _bulges(knots, style, rng)
        path = np.where(begin[1] > HEIGHTS, begin[0], path)
        to_come = begin[1] < HEIGHTS
        if clearance(np.column_stack([path, HEIGHTS])[to_come]).min(initial=1.0) > margin or attempt > 10 * tries:
            return path


def _bulges(knots: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Needless swings between the rows, each with the chance `style.detour`: x to add at `HEIGHTS`."""
    t = (HEIGHTS[:, None] - knots[:-1]) / np.diff(knots)
    size = BULGE * rng.standard_normal(len(knots) - 1) * (rng.random(len(knots) - 1) < style.detour)
    return (size * np.where((t > 0) & (t < 1), np.sin(np.pi * t) ** 2, 0.0)).sum(axis=1)


class AvoidExpert(Expert):
    """Demonstrates Avoid, copy i by way `modes[i]`: that of the style, else one drawn from the seed of the copy."""

    task = demo_task = Avoid
    human = Style(noise=0.12)
    n_modes = N_MODES

    def __init__(
        self,
        n_copies: int,
        style: Style = STEADY,
        seeds: Sequence[Sequence[int]] | None = None,
        modes: Sequence[int] | None = None,
    ):
        if modes is not None and (len(modes) != n_copies or any(not 0 <= mode < N_MODES for mode in modes)):
            raise UserError(f"an Avoid expert needs one mode from 0 to {N_MODES - 1} for each of its {n_copies} copies")
        self._asked = modes
        super().__init__(n_copies, style, seeds)

    def reset(self) -> None:
        """Plan all paths anew: the same ones, because the seeds are the same."""
        super().reset()
        n = len(self.seeds)
        if self._asked is not None:
            self.modes = np.array(self._asked)
        elif self.style.mode is not None:
            self.modes = np.full(n, self.style.mode)
        else:
            self.modes = np.array([rng.integers(N_MODES) for rng in self._rngs])
        self._wait, self._row = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
        pairs = zip(self.modes, self._rngs, strict=True)
        self._paths = np.stack([_path(int(mode), self.style, rng) for mode, rng in pairs])
        drawn = np.stack([rng.standard_normal(3) for rng in self._rngs])  # (N, 3)
        self._speed = self.style.speed * (SPEED + SPEED_SPREAD * np.clip(drawn[:, 0], -2, 2))
        self._waves = HURRY * drawn[:, 1:]  # a slow and a quicker wave of the speed along y

    def take_over(self, state: np.ndarray, copies: np.ndarray) -> None:
        super().take_over(state, copies)
        for i in copies:
            self._paths[i] = _path(int(self.modes[i]), self.style, self._rngs[i], state[i, 2:4], TRIES)
            self._row[i] = np.searchsorted(ROWS, state[i, 3])

    def _forget(self, copies: np.ndarray) -> None:
        """Plans are made at `reset` and `take_over`, which know where the copies are."""

    def _x(self, y: np.ndarray) -> np.ndarray:
        """Planned x (N,) at heights y (N,)."""
        at = np.clip((y - HEIGHTS[0]) / (HEIGHTS[1] - HEIGHTS[0]), 0, len(HEIGHTS) - 1.001)
        low, copy = at.astype(int), np.arange(len(y))
        return self._paths[copy, low] + (at - low) * (self._paths[copy, low + 1] - self._paths[copy, low])

    def _act(self, state: np.ndarray) -> np.ndarray:
        """The next command: forward along the path from the present command, and back towards it when off it."""
        command = state[:, 2:4]
        y = command[:, 1]
        slope = (self._x(y + 0.005) - self._x(y - 0.005)) / 0.01
        forward = np.column_stack([slope, np.ones_like(slope)]) / np.sqrt(1 + slope**2)[:, None]
        waves = self._waves[:, 0] * np.sin(10 * y) + self._waves[:, 1] * np.cos(25 * y)
        started = np.clip((y - START[1]) / 0.03, 0.0, 1.0)  # hands gather speed
        speed = self._speed * np.exp(waves) * (0.35 + 0.65 * started)
        move = forward * (speed * STEP)[:, None]
        move[:, 0] += CORRECTION * STEP * (self._x(y) - command[:, 0])
        distance = np.linalg.norm(move, axis=1)
        reach = np.minimum(distance, Avoid.max_speed * STEP)  # no target that the arm cannot reach in one step
        move *= (reach / distance)[:, None]
        return command + np.where(self._rests(y)[:, None], 0.0, move)

    def _rests(self, y: np.ndarray) -> np.ndarray:
        """Which copies (N,) pause, having just passed a row."""
        if self.style.pause:
            row = np.searchsorted(ROWS, y)
            for i in np.flatnonzero(row > self._row):
                self._wait[i] = self._rngs[i].poisson(self.style.pause / STEP)
            self._row = np.maximum(row, self._row)
        self._wait = np.maximum(self._wait - 1, 0)
        return self._wait > 0

    @classmethod
    def demonstrate(cls, n: int, seed: int, style: Style | None = None, patience: float = 1.0) -> Episodes:
        """As the other experts do, but the demonstrations take the modes in turn, unless the style has one.

        An attempt that does not succeed in its mode is thrown away and tried again with other chances, in the same
        mode, so that the modes stay even.
        """
        task_type = cls.patient_task(patience)
        style = cls.human if style is None else style
        check_number(n)
        modes = np.arange(n) % N_MODES if style.mode is None else np.full(n, style.mode)
        kept: list[base.Attempt | None] = [None] * n
        tried = 0
        for tries in range(SAME_MODE):
            missing = [i for i in range(n) if kept[i] is None]
            if not missing:
                return joined(kept, {"tried": tried})
            tried += len(missing)
            seeds = [(seed, i, tries) for i in missing]
            task, episodes = base.attempt(task_type, cls(len(missing), style, seeds, modes[missing]))
            for i, episode, mode in zip(missing, episodes, task.info()["mode"], strict=True):
                kept[i] = episode if mode == modes[i] else None
        raise UserError(
            f"avoid: {len(missing)} demonstrations failed {SAME_MODE} times; choose a gentler style"
        )
