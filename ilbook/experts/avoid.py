"""A scripted Avoid demonstrator: smooth paths through chosen gaps, with the variation and the slips of a human hand."""

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from ilbook.errors import UserError
from ilbook.experts.base import STEADY, Expert, Style
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

# The x of the middle of each gap of each row; outside the last obstacle as far as an inner gap is wide.
HALVES = (RADII[0] + 0.04, 0.075, 0.075)  # m
GAP_POINTS = [np.append(xs[0] - half, xs + half) for xs, half in zip(CENTRES, HALVES, strict=True)]


def _path(mode: int, style: Style, rng: np.random.Generator, begin=START, tries=np.inf) -> np.ndarray:
    """One planned path: its x at each of `HEIGHTS`, from `begin` (2,) through the gaps of `mode` that lie ahead."""
    gaps = np.unravel_index(mode, GAPS)
    ahead = [row for row, y in enumerate(ROWS) if y > begin[1]]
    middle = np.array([GAP_POINTS[row][gaps[row]] for row in ahead])
    knots = np.array([begin[1], *(ROWS[row] for row in ahead), max(END, begin[1] + 0.02)])
    for attempt in itertools.count():
        if attempt >= tries:  # someone else led the hand to a place from which this way is closed
            middle = np.array([rng.choice(GAP_POINTS[row]) for row in ahead])
        through = middle + GAP_SPREAD * rng.standard_normal(len(ahead))
        last = through[-1] if ahead else begin[0]
        values = np.array([begin[0], *through, last + GAP_SPREAD * rng.standard_normal()])
        slopes = np.pad(TURN * (values[2:] - values[:-2]) / (knots[2:] - knots[:-2]), 1)
        path = CubicHermiteSpline(knots, values, slopes)(np.clip(HEIGHTS, knots[0], knots[-1]))
        if style.detour:  # needless swings between the rows
            t = (HEIGHTS[:, None] - knots[:-1]) / np.diff(knots)
            size = BULGE * rng.standard_normal(len(knots) - 1) * (rng.random(len(knots) - 1) < style.detour)
            path = path + (size * np.where((t > 0) & (t < 1), np.sin(np.pi * t) ** 2, 0.0)).sum(axis=1)
        path = np.where(begin[1] > HEIGHTS, begin[0], path)
        free = clearance(np.column_stack([path, HEIGHTS])[begin[1] < HEIGHTS]).min(initial=1.0)
        if free > MARGIN * 0.5 ** (attempt // tries) or attempt > 10 * tries:
            return path


class AvoidExpert(Expert):
    """Demonstrates Avoid, copy i by way `modes[i]`: that of the style, else one drawn from the seed of the copy."""

    task = demo_task = Avoid()
    human = Style(noise=0.12)
    n_modes = N_MODES
    takes_turns = True
    # Its way, path (m, as `_path`), speed (m/s) with a slow and a quicker wave along y, and the row that comes next.
    mind: ClassVar[dict[str, object]] = {
        "_modes": 0, "_paths": np.zeros(len(HEIGHTS)), "_speed": 0.0, "_waves": (0.0, 0.0), "_row": 0,
    }  # fmt: skip

    def __init__(self, style: Style = STEADY, modes: Sequence[int] | None = None):
        if modes is not None and any(not 0 <= mode < N_MODES for mode in modes):
            raise UserError(f"an Avoid expert takes modes from 0 to {N_MODES - 1}, not {list(modes)}")
        super().__init__(style)
        self._asked_modes = modes

    def _forget(self, copies):
        """Plan anew, from the usual start: the same seeds give the same paths."""
        super()._forget(copies)
        if self._asked_modes is not None and len(self._asked_modes) != (n := len(self._generators)):
            raise UserError(f"an Avoid expert for {n} copies needs as many modes, not {len(self._asked_modes)}")
        for i in copies:
            rng, mode = self._generators[i], self.style.mode
            if self._asked_modes is not None:
                mode = self._asked_modes[i]
            self._modes[i] = rng.integers(N_MODES) if mode is None else mode
            self._paths[i] = _path(int(self._modes[i]), self.style, rng)
            drawn = rng.standard_normal(3)
            self._speed[i] = self.style.speed * (SPEED + SPEED_SPREAD * np.clip(drawn[0], -2, 2))
            self._waves[i] = HURRY * drawn[1:]

    def take_over(self, states, copies):
        for i, state in zip(copies, states, strict=True):
            self._paths[i] = _path(int(self._modes[i]), self.style, self._generators[i], state[2:4], TRIES)
            self._row[i] = np.searchsorted(ROWS, state[3])

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
        move *= np.minimum(1.0, Avoid.max_speed * STEP / np.linalg.norm(move, axis=1))[:, None]  # within reach
        if self.style.pause:
            row = np.searchsorted(ROWS, y)
            for i in np.flatnonzero(row > self._row):  # it has just passed a row
                self._pause(i)
                self._wait[i] = max(self._wait[i] - 1, 0)  # the step past the row is the first of them
            self._row = np.maximum(row, self._row)
        return command + move
