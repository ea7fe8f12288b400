"""Insert: put a peg into a hole that is 1 mm wider, with a compliant hand; the miniature of ResiP (Ankile et al. 2024).

The plane is x (right) and z (up). The commanded pose is that of the hand, which a soft servo follows, so that contact
moves the peg by millimetres instead of breaking it. A pose is x, z (m) and tilt (rad, positive to the right).
"""

from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from ilbook.errors import UserError
from ilbook.tasks import perturb
from ilbook.tasks.base import Task
from ilbook.tasks.simulation import Simulation

PEG = 0.020  # m, width of the peg
PLAY = 0.001  # m, hole width minus peg width: in the middle of the hole there is half of it on either side
HOLE = PEG + PLAY  # m, width of the hole
FULL = 0.030  # m, depth of the tip below the mouth that counts as inserted
FLOOR = 0.035  # m, depth of the hole
NEAR = 0.003  # m: a tip this close to the middle of the mouth, from above, is "at the hole"
STAGES = ("away", "at the hole", "entered", "half way", "inserted")  # values of `info()["stage"]`
ENTERED = 0.002  # m of depth: further than any slip of a corner over the rim
LENGTH = 0.060  # m, from the hand to the tip
LEFT, RIGHT, BOTTOM, TOP = -0.15, 0.15, 0.0, 0.20  # m, the workspace: a hand outside has failed
HEIGHTS = (0.030, 0.070)  # m, start of the tip above the nominal mouth
ASIDE = 0.080  # m, how far to either side it starts
LEANING = 0.3  # rad, how far it starts from upright
FREE = 0.010  # m, least height of the tip above the board where it starts
HOLE_TURN = 50.0  # rad per m of `hole_jitter`: how far the hole leans at most


def to_tip(hand: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The pose of the tip in the frame of the hole: hand and hole (..., 3) -> (..., 3) across, height, tilt."""
    x = hand[..., 0] - LENGTH * np.sin(hand[..., 2]) - hole[..., 0]
    z = hand[..., 1] - LENGTH * np.cos(hand[..., 2]) - hole[..., 1]
    cos, sin = np.cos(hole[..., 2]), np.sin(hole[..., 2])
    return np.stack([cos * x - sin * z, sin * x + cos * z, hand[..., 2] - hole[..., 2]], axis=-1)


def to_hand(tip: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The pose of the hand whose tip has this pose in the frame of the hole; undoes `to_tip`."""
    cos, sin = np.cos(hole[..., 2]), np.sin(hole[..., 2])
    tilt = tip[..., 2] + hole[..., 2]
    x = hole[..., 0] + cos * tip[..., 0] + sin * tip[..., 1] + LENGTH * np.sin(tilt)
    z = hole[..., 1] - sin * tip[..., 0] + cos * tip[..., 1] + LENGTH * np.cos(tilt)
    return np.stack([x, z, tilt], axis=-1)


@dataclass(frozen=True, repr=False)
class Insert(Task):
    """Put a peg into a hole with 1 mm of play; solved when its tip is 30 mm deep."""

    max_steps: int = 80
    full_depth: float = FULL  # m, of a peg that counts as inserted
    hole_jitter: float = 0.005  # m, how far the hole lies from its nominal place at most, in x and in z

    name = "insert"
    gym_id = "ilbook/Insert-v0"
    control_hz = 20.0
    substeps = 25
    max_speed = 0.25
    weight = np.array([1.0, 1.0, 0.1])  # leaning by 1 rad counts like moving by 0.1 m
    state_names = tuple(f"{what} {axis}" for what in ("hand", "hole", "command") for axis in ("x", "z", "tilt"))
    obs_names = (*state_names[:3], *state_names[6:], *state_names[3:6], "tip across", "tip height", "tip tilt")
    action_low = np.array([-0.12, 0.01, -0.9])
    action_high = np.array([0.12, 0.16, 0.9])
    obs_limit = 2.0  # radians between peg and hole can exceed one
    camera = "side"
    perturbations: ClassVar[dict[str, str]] = {
        "friction": "a third of the friction between peg and hole",
        "mass": "hand and peg three times as heavy, which overshoot",
        "size": "a thicker peg: half of the play",
        "hole": "the place of the hole varies twice as much",
        "push": "one sideways push of 2.5 N for 0.15 s on the peg, which moves it by 5 mm",
        **perturb.EVERYWHERE,
    }
    rubbing, heavy = ("contact", "corner", "wall", "rim"), "peg"
    coloured = ("peg", "wall", "target")
    room, distractor = ((-0.1, 0.03, 0.0), (0.1, 0.03, 0.15)), 0.01
    push_joints = ("hand_x",)
    push_force = 2.5
    push_window = (0.1, 0.2)  # when most pegs come to the hole

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hole_jitter <= 0.015:
            raise UserError(f"insert: hole_jitter is {self.hole_jitter} m; choose 0 to 0.015")

    def _perturb(self, spec: mujoco.MjSpec) -> None:
        super()._perturb(spec)
        thicker = np.array([(PLAY - PLAY * 0.5 ** self.strength("size")) / 2, 0, 0])  # half of the play
        spec.geom("peg").size = spec.geom("peg").size + thicker
        for name, side in (("corner_left", -1), ("corner_right", 1)):
            spec.geom(name).pos = spec.geom(name).pos + side * thicker

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """The peg above the board and to a side, leaning; the hole near its nominal place."""
        hole = self.hole_jitter * (1 + self.strength("hole")) * rng.uniform(-1, 1, 3) * [1, 1, HOLE_TURN]
        tip = np.array([rng.uniform(-ASIDE, ASIDE), rng.uniform(*HEIGHTS), rng.uniform(-LEANING, LEANING)])
        hand = to_hand(tip, np.zeros(3))
        hand[1] += max(0.0, FREE - to_tip(hand, hole)[1]) / np.cos(hole[2])  # a board that leans rises to one side
        return np.concatenate([hand, hole, hand])

    @staticmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """Hand, command, hole, and the tip in the frame of the hole: (..., 9) -> (..., 12), metres and radians."""
        hand, hole, command = state[..., :3], state[..., 3:6], state[..., 6:]
        return np.concatenate([hand, command, hole, to_tip(hand, hole)], axis=-1)

    def goal(self, state: np.ndarray) -> np.ndarray:
        """The pose of a hand whose peg is fully in the hole: (..., 3), metres and radians."""
        return to_hand(np.array([0.0, -self.full_depth, 0.0]), state[..., 3:6])

    def memory(self, n: int) -> dict[str, np.ndarray]:
        """`stage`: how far each episode has come at best, an index of `STAGES`."""
        return {"stage": np.zeros(n, dtype=np.int64)}

    def reward(self, sim: Simulation) -> np.ndarray:
        """1 for an inserted peg, else 0: sparse, as in the paper."""
        return sim.success.astype(float)

    def info(self, sim: Simulation) -> dict[str, np.ndarray]:
        """`stage`: how far each episode has come at best, an index of `STAGES`."""
        return {"stage": sim.memory["stage"].copy()}

    def judge(self, sim: Simulation, index: np.ndarray, trace: np.ndarray) -> None:
        """The score is the largest depth so far, as a share of full depth."""
        hand, hole = trace[..., :3], trace[:, -1:, 3:6]  # a hole does not move
        tip = to_tip(hand, hole)
        aside, height = np.abs(tip[..., 0]), tip[..., 1]  # (n, K)
        depth = np.where(aside < HOLE / 2, -height, 0.0).max(axis=1)
        near = ((aside < NEAR) & (height < NEAR)).any(axis=1)
        x, z = hand[..., 0], hand[..., 1]
        outside = (x < LEFT) | (x > RIGHT) | (z < BOTTOM) | (z > TOP)
        deep = 2 + (depth >= FULL / 2) + (depth >= self.full_depth)
        stage = sim.memory["stage"]
        stage[index] = np.maximum(stage[index], np.where(depth >= ENTERED, deep, near))
        sim.score[index] = np.maximum(sim.score[index], np.minimum(depth / FULL, 1.0))
        sim.success[index] |= depth >= self.full_depth
        sim.failure[index] |= outside.any(axis=1) & ~sim.success[index]
