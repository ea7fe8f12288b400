"""PushT: push a T-shaped block onto its target pose with a round pusher (Florence et al. 2021, Chi et al. 2023).

Sizes are those of the original, 1 pixel = 1 mm; the y axis points up, so human data are mirrored on import.
"""

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from ilbook.tasks import perturb
from ilbook.tasks.base import Task
from ilbook.tasks.simulation import Simulation

WORLD = 0.512  # m, side of the square workspace
PUSHER_RADIUS = 0.015  # m
# The T as two rectangles in the frame of its centre of mass: (x_min, x_max, y_min, y_max), metres.
RECTANGLES = np.array([[-0.060, 0.060, 0.01071, 0.04071], [-0.015, 0.015, -0.07929, 0.01071]])
AREA = float(np.sum((RECTANGLES[:, 1] - RECTANGLES[:, 0]) * (RECTANGLES[:, 3] - RECTANGLES[:, 2])))
# The eight corners, once around the outline, anticlockwise from the lower end of the stem.
OUTLINE = np.array([
    [-0.015, -0.07929], [0.015, -0.07929], [0.015, 0.01071], [0.060, 0.01071],
    [0.060, 0.04071], [-0.060, 0.04071], [-0.060, 0.01071], [-0.015, 0.01071],
])  # fmt: skip
TARGET = np.array([0.2272, 0.2272, -np.pi / 4])  # x, y, angle of the block when the task is solved
SUCCESS = 0.90  # of the target's area covered
SCALED = ("bar", "stem", "target_bar", "target_stem")  # geoms of block and target


def _columns(points: np.ndarray) -> np.ndarray:
    """Points (P, 2) one after the other, and the same turned by a quarter: (2, P * 2)."""
    return np.stack([points, points[:, ::-1] * [-1, 1]]).reshape(2, -1)


def _placed(columns: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """`to_world` of points as `_columns`, one after the other: (..., P * 2). Long last axes are faster."""
    placed = np.cos(pose[..., 2, None]) * columns[0]
    placed += np.sin(pose[..., 2, None]) * columns[1]
    placed += pose.take(np.arange(columns.shape[1]) % 2, axis=-1)
    return placed


def to_world(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points (P, 2) of the block's frame at poses (..., 3) = x, y, angle -> (..., P, 2)."""
    return _placed(_columns(points), pose).reshape(*pose.shape[:-1], *points.shape)


def to_block(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """World points (..., P, 2) in the frame of the block at poses (..., 3)."""
    cos, sin = np.cos(pose[..., 2, None]), np.sin(pose[..., 2, None])
    dx, dy = points[..., 0] - pose[..., 0, None], points[..., 1] - pose[..., 1, None]
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=-1)


OUTLINE_COLUMNS = _columns(OUTLINE)
# The target is a hair larger than the block: edges that lie on each other would count twice or not at all.
BOTH = np.stack([RECTANGLES, RECTANGLES + 1e-12 * np.array([-1, 1, -1, 1])])  # (2, R, 4)
CORNERS = BOTH[..., [[0, 2], [1, 2], [1, 3], [0, 3]]]  # (2, R, 4, 2), anticlockwise around each rectangle
EDGES = np.roll(CORNERS, -1, axis=2) - CORNERS  # to the next corner
# `overlap` clips the eight edges of the block and the eight of the target in one go, each in the frame of the other.
# Copies come last in its arrays, which keeps the inner loops long. First axis: x, y; second: the corners and the edges
# of the block, then of the target; the target is turned against the block, and the block with it.
POINTS = np.concatenate([CORNERS, EDGES]).reshape(32, 2).T[..., None]  # (2, 32, 1)
ASIDE = np.stack([-POINTS[1], POINTS[0]]) * np.tile(np.repeat([1.0, -1.0], 8), 2)[:, None]  # turned by a quarter
TARGET_CROSS = POINTS[0, 8:16] * POINTS[1, 24:] - POINTS[1, 8:16] * POINTS[0, 24:]  # (8, 1)
OTHERS = np.repeat(BOTH[::-1], 8, axis=0)  # (16, R, 4), what each edge is clipped against
LOW, HIGH = (OTHERS[..., bounds].T[..., None] for bounds in ([0, 2], [1, 3]))  # (2, R, 16, 1)


def _share_inside(start: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Share (16, n) of edges start + t delta (2, 16, n) in the other shape: line clipping (Liang and Barsky 1984)."""
    inverse = (1.0 / (delta + 1e-30))[:, None]  # an edge along an axis never crosses that slab
    near, far = LOW - start[:, None], HIGH - start[:, None]  # (2, R, 16, n)
    near *= inverse
    far *= inverse
    enter, leave = np.minimum(near, far), np.maximum(near, far, out=near)
    enter, leave = np.maximum(enter[0], enter[1]), np.minimum(leave[0], leave[1])  # (R, 16, n)
    inside = np.minimum(leave, 1.0, out=leave)
    inside -= np.maximum(enter, 0.0, out=enter)
    np.maximum(inside, 0.0, out=inside)
    return inside[0] + inside[1]


def overlap(pose: np.ndarray) -> np.ndarray:
    """Share (n,) of the target's area that blocks at poses (n, 3) cover, by Green's theorem: the border of an
    intersection is the part of either outline inside the other, and its area half the sum of cross products along it.
    """
    pose = np.atleast_2d(pose)
    n, (x, y, angle) = len(pose), (pose - TARGET).T
    turned = np.cos(angle) * POINTS  # (2, 32, n)
    turned += np.sin(angle) * ASIDE
    corners, edges = turned[:, :16].reshape(2, 2, 8, n), turned[:, 16:]
    # Where the block's centre is in the frame of the target, and the other way round: (2, n).
    frames = np.stack([np.full(n, TARGET[2]), pose[:, 2] + np.pi])
    cos, sin = np.cos(frames), np.sin(frames)
    corners[0] += (cos * x + sin * y)[:, None]
    corners[1] += (cos * y - sin * x)[:, None]
    share = _share_inside(corners.reshape(2, 16, n), edges)
    share[:8] *= corners[0, 0] * edges[1, :8] - corners[1, 0] * edges[0, :8]
    share[8:] *= TARGET_CROSS
    while len(share) > 1:  # half to half: the order of the sum is the same for one copy as for many
        share = share[: len(share) // 2] + share[len(share) // 2 :]
    return share[0] / (2.0 * AREA)


@dataclass(frozen=True, repr=False)
class PushT(Task):
    """Push the T onto the green target; solved when at least 90 % of the target is covered."""

    success_overlap: float = SUCCESS  # share of the target

    name = "pusht"
    gym_id = "ilbook/PushT-v0"
    control_hz = 10.0
    substeps = 20
    max_speed = 0.25
    state_names = ("pusher x", "pusher y", "block x", "block y", "block angle", "command x", "command y")
    obs_names = ("pusher x", "pusher y", *(f"corner {i} {axis}" for i in range(8) for axis in "xy"))
    action_low = np.zeros(2)
    action_high = np.full(2, WORLD)
    perturbations: ClassVar[dict[str, str]] = {
        "friction": "a third of the friction between pusher and block",
        "mass": "a block three times as heavy, with three times the friction on the table",
        "size": "block and target 15 % larger",
        "push": "one push of 1 N for 0.15 s on the block",
        **perturb.EVERYWHERE,
    }
    rubbing, heavy = ("contact",), "block"
    coloured = (*SCALED, "pusher_look")
    room = ((0, 0, 0), (WORLD, WORLD, 0))
    push_joints = ("block_x", "block_y")
    push_force = 1.0

    def block_scale(self) -> float:
        """How many times the sizes of block and target are the nominal ones."""
        return 1.0 + 0.15 * self.strength("size")

    def _perturb(self, spec: mujoco.MjSpec) -> None:
        super()._perturb(spec)
        for geom in perturb.chosen(spec, SCALED):
            geom.size = np.array(geom.size) * [self.block_scale(), self.block_scale(), 1]
            geom.pos = np.array(geom.pos) * self.block_scale()

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """The whole block on the table and not yet on the target, the pusher beside it."""
        while True:
            block = np.array([*rng.uniform(0.11, 0.40, 2), rng.uniform(-np.pi, np.pi)])
            pusher = rng.uniform(0.05, WORLD - 0.05, 2)
            apart = distance_to_block(pusher[None], block[None])[0] > 2 * PUSHER_RADIUS
            if apart and overlap(block)[0] < 0.5:
                return np.concatenate([pusher, block, pusher])

    @staticmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """The pusher and the eight corners of the block: (..., 7) -> (..., 18), metres."""
        return np.concatenate([state[..., :2], _placed(OUTLINE_COLUMNS, state[..., 2:5])], axis=-1)

    def goal(self, state: np.ndarray) -> np.ndarray:
        """The eight corners of a block that lies on its target: (..., 16), metres."""
        return np.broadcast_to(_placed(OUTLINE_COLUMNS, TARGET), (*state.shape[:-1], OUTLINE.size))

    def memory(self, n: int) -> dict[str, np.ndarray]:
        """`pose` that was measured last, and how much of the target it covers."""
        return {"pose": np.full((n, 3), np.nan), "covered": np.zeros(n)}

    def reward(self, sim: Simulation) -> np.ndarray:
        """The overlap now, as a share of what success asks for."""
        return np.minimum(sim.memory["covered"] / self.success_overlap, 1.0)

    def judge(self, sim: Simulation, index: np.ndarray, trace: np.ndarray) -> None:
        """The score is the largest overlap so far; only blocks that moved are measured again."""
        pose, measured = trace[:, -1, 2:5], sim.memory["pose"]
        if self.strength("size"):  # a larger block on a larger target is the same picture seen from nearer
            pose = TARGET + (pose - TARGET) / [self.block_scale(), self.block_scale(), 1]
        moved = (pose != measured[index]).any(axis=1).nonzero()[0]
        if len(moved):
            index, pose = index.take(moved), pose.take(moved, axis=0)
            covered = overlap(pose)
            score = np.maximum(sim.score[index], covered)
            measured[index], sim.memory["covered"][index], sim.score[index] = pose, covered, score
            sim.success[index] = score >= self.success_overlap


def distance_to_block(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Distance (n,) from points (n, 2) to the block at poses (n, 3); 0 inside."""
    local = to_block(points[:, None], pose)  # (n, 1, 2)
    outside = np.maximum(RECTANGLES[:, [0, 2]] - local, local - RECTANGLES[:, [1, 3]]).clip(0.0)  # (n, R, 2)
    return np.sqrt((outside**2).sum(axis=-1)).min(axis=-1)
