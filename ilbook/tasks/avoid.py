"""Avoid: lead a point through three rows of obstacles; 24 ways are equally good (Avoiding of D3IL, Jia et al. 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from ilbook.tasks import perturb
from ilbook.tasks.base import Task
from ilbook.tasks.simulation import Simulation

RADIUS = 0.01  # m, of the end-effector
ROWS = (-0.10, 0.08, 0.26)  # m, y of the three rows
CENTRES = (np.array([0.5]), np.array([0.425, 0.575]), np.array([0.35, 0.5, 0.65]))  # m, x of the obstacles of each row
RADII = (0.03, 0.025, 0.025)  # m, of the obstacles of each row
OBSTACLES = np.array([[x, y, r] for xs, y, r in zip(CENTRES, ROWS, RADII, strict=True) for x in xs])  # (6, 3)
GROWTH = 0.005  # m, added to the obstacles' radii by the perturbation "size" at strength 1
START = np.array([0.525, -0.28])  # m
START_JITTER = 0.003  # m, standard deviation
GOAL = 0.35  # m, solved beyond this y
GAPS = tuple(len(xs) + 1 for xs in CENTRES)  # ways past each row: 2, 3, 4
N_MODES = int(np.prod(GAPS))
MODE_NAMES = tuple(f"{one}-{two}-{three}" for one in "LR" for two in "LMR" for three in "1234")


def gaps(path: np.ndarray) -> np.ndarray:
    """The gap, from the left, by which paths (n, T, 2) first pass each row: (n, 3), -1 for a row not reached."""
    passed = []
    for y, centres in zip(ROWS, CENTRES, strict=True):
        beyond = path[..., 1] > y
        x = path[np.arange(len(path)), beyond.argmax(axis=1), 0]
        passed.append(np.where(beyond.any(axis=1), np.searchsorted(centres, x), -1))
    return np.stack(passed, axis=1)


def mode_of(passed: np.ndarray) -> np.ndarray:
    """Modes (n,) from 0 to 23 of the gaps (n, 3) that were passed; -1 where a row is missing."""
    mode = (passed[:, 0] * GAPS[1] + passed[:, 1]) * GAPS[2] + passed[:, 2]
    return np.where((passed < 0).any(axis=1), -1, mode)


def clearance(points: np.ndarray) -> np.ndarray:
    """Free distance (...,) between the end-effector at points (..., 2) and the nearest obstacle; negative inside."""
    offset = points[..., None, :] - OBSTACLES[:, :2]
    return (np.sqrt((offset**2).sum(axis=-1)) - OBSTACLES[:, 2]).min(axis=-1) - RADIUS


@dataclass(frozen=True, repr=False)
class Avoid(Task):
    """Reach y > 0.35 without touching an obstacle; touching one ends the episode as a failure.

    The original always starts at one point. Here each seed moves it by some 3 mm, too little to suggest a way: else a
    deterministic policy would run one episode a hundred times, which is no measurement.
    """

    max_steps: int = 200

    name = "avoid"
    gym_id = "ilbook/Avoid-v0"
    control_hz = 25.0
    substeps = 40
    max_speed = 0.4
    state_names = ("x", "y", "command x", "command y")
    obs_names = ("command x", "command y", "x", "y")
    action_low = np.array([0.18, -0.32])
    action_high = np.array([0.82, 0.38])
    perturbations: ClassVar[dict[str, str]] = {
        "mass": "an end-effector three times as heavy, which overshoots",
        "size": "obstacles whose radius is 5 mm larger",
        "push": "one push of 1.5 N for 0.15 s on the end-effector",
        **perturb.EVERYWHERE,
    }
    heavy = "end_effector"
    coloured = ("obstacle", "end_effector", "goal")
    room = ((0.18, -0.3, 0), (0.82, 0.3, 0))
    push_joints = ("x", "y")
    push_force = 1.5

    def _perturb(self, spec: mujoco.MjSpec) -> None:
        super()._perturb(spec)
        for geom in perturb.chosen(spec, ("obstacle",)):
            geom.size = geom.size + np.array([GROWTH * self.strength("size"), 0, 0])

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """At rest near the start of the original, within three standard deviations."""
        jitter = np.clip(rng.standard_normal(2), -3, 3) * START_JITTER
        return np.tile(START + jitter, 2)

    @staticmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """Commanded, then actual position: (..., 4) -> (..., 4), metres."""
        return np.concatenate([state[..., 2:4], state[..., :2]], axis=-1)

    def goal(self, state: np.ndarray) -> np.ndarray:
        """The height beyond which the task is solved: (..., 1), metres."""
        return np.full((*state.shape[:-1], 1), GOAL)

    def memory(self, n: int) -> dict[str, np.ndarray]:
        """`gaps` by which each row was passed; -1 for a row that is still ahead."""
        return {"gaps": np.full((n, 3), -1)}

    def info(self, sim: Simulation) -> dict[str, np.ndarray]:
        """`mode`: the way that each successful episode took, 0 to 23 (see `MODE_NAMES`); -1 without success."""
        return {"mode": np.where(sim.success, mode_of(sim.memory["gaps"]), -1)}

    def judge(self, sim: Simulation, index: np.ndarray, trace: np.ndarray) -> None:
        """Touch, goal and gaps from every physics step; the score is the largest share of the way along y so far."""
        x, y = np.ascontiguousarray(trace[..., 0]), np.ascontiguousarray(trace[..., 1])  # (n, K)
        grown = GROWTH * self.strength("size")
        near = [(x - at_x) ** 2 + (y - at_y) ** 2 < (radius + grown + RADIUS) ** 2 for at_x, at_y, radius in OBSTACLES]
        touched = np.any(near, axis=(0, 2))
        top = y.max(axis=1)
        sim.failure[index] |= touched
        sim.success[index] |= (top > GOAL) & ~touched
        progress = np.minimum((top - START[1]) / (GOAL - START[1]), 1.0)
        sim.score[index] = np.maximum(sim.score[index], progress)
        passed = sim.memory["gaps"]
        new = ((top[:, None] > ROWS) & (passed[index] < 0)).any(axis=1)
        if new.any():
            before = passed[index[new]]
            passed[index[new]] = np.where(before < 0, gaps(trace[new]), before)
