"""The SO-101 arm (so101.xml): its joints, where its gripper is, which joint angles bring it to a place; its tasks.

Joints are those of the real arm, in its order. Angles are radians; zero is the middle of each range; a larger gripper
angle is a wider one. The world's origin is the middle of the base on the table, x forward, z up.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np

from ilbook.tasks import perturb
from ilbook.tasks.base import Task
from ilbook.tasks.simulation import Simulation

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
COMMANDS = tuple(f"command {name}" for name in JOINTS)
LOW = np.array([-1.91986, -1.74533, -1.69, -1.65806, -2.74385, -0.17453])  # rad
HIGH = np.array([1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.74533])

# Where each joint lies in the frame of the one before, at zero, metres (so101.xml).
PAN = np.array([0.0388353, 0.0, 0.0624])
LIFT = np.array([0.0303992, -0.0182778, 0.0542])
ELBOW = np.array([0.028, 0.0, 0.11257])
WRIST = np.array([0.1349, 0.0, 0.0052])
ROLL = np.array([0.0611, 0.0181, 0.0])
TILT = 2 * np.arctan2(0.0243374, 0.9997038)  # rad, of the gripper about the roll axis at zero
GRASP = np.array([0.094, 0.0, 0.0061])  # from the roll joint to the centre of a held cube
DOWN = np.pi / 2  # pitch of a gripper that points straight down
X, Y, Z = range(3)  # axes to turn about


def forward(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of the grasp (..., 3), metres, and the gripper's axes (..., 3, 3) for joint angles (..., 5 or 6).

    The columns of the axes point along the fingers, along the hinge of the jaw, and from the fixed to the moving jaw.
    """
    pan, lift = -joints[..., 0], joints[..., 1]
    elbow = lift + joints[..., 2]
    pitch = elbow + joints[..., 3]
    flat = LIFT + _turned(ELBOW, Y, lift) + _turned(WRIST, Y, elbow) + _turned(ROLL, Y, pitch)
    rolled = _turned(np.eye(3), X, (TILT - joints[..., 4])[..., None])  # (..., 3, 3): an axis of the gripper a row
    axes = _turned(_turned(rolled, Y, pitch[..., None]), Z, pan[..., None])
    axes = np.ascontiguousarray(np.swapaxes(axes, -1, -2))
    # Not a matrix product: that of a batch need not be, bit for bit, that of its rows.
    return PAN + _turned(flat, Z, pan) + (axes * GRASP).sum(axis=-1), axes


def _turned(vectors: np.ndarray, axis: int, angle: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) turned about `X`, `Y` or `Z` by angles (...,)."""
    cos, sin = np.cos(angle), np.sin(angle)
    one, two = (axis + 1) % 3, (axis + 2) % 3
    turned = np.empty((*np.broadcast_shapes(vectors.shape[:-1], cos.shape), 3))
    turned[..., axis] = vectors[..., axis]
    turned[..., one] = cos * vectors[..., one] - sin * vectors[..., two]
    turned[..., two] = sin * vectors[..., one] + cos * vectors[..., two]
    return turned


def solve_ik(place: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint angles (..., 5) that bring the grasp to `place` (..., 3) with a pitch and a wrist roll (...,), and whether
    they exist within the limits (...,); else they are the nearest ones of the same bearing. Roll and pitch fix where
    the wrist is, and it remains a triangle of two links.
    """
    hand = _turned(ROLL + _turned(GRASP, X, TILT - roll), Y, pitch)
    # From above: the hand lies `aside` of the vertical plane through the pan axis.
    offset = place - PAN
    aside = LIFT[1] + hand[..., 1]
    ahead = np.sqrt(np.maximum(offset[..., 0] ** 2 + offset[..., 1] ** 2 - aside**2, 1e-12))
    pan = np.arctan2(aside, ahead) - np.arctan2(offset[..., 1], offset[..., 0])
    # From the side: two links from the shoulder to the wrist, elbow up.
    far, up = ahead - LIFT[0] - hand[..., 0], offset[..., 2] - LIFT[2] - hand[..., 2]
    upper, lower = np.hypot(ELBOW[0], ELBOW[2]), np.hypot(WRIST[0], WRIST[2])
    bend = (far**2 + up**2 - upper**2 - lower**2) / (2 * upper * lower)
    inner = np.arccos(np.clip(bend, -1, 1))  # between the two links
    first = np.arctan2(far, up) - np.arctan2(lower * np.sin(inner), upper + lower * np.cos(inner))
    lift = first - np.arctan2(ELBOW[0], ELBOW[2])
    elbow = first + inner - np.arctan2(WRIST[0], WRIST[2]) - lift
    joints = np.stack([pan, lift, elbow, pitch - lift - elbow, roll], axis=-1)
    possible = (np.abs(bend) <= 1) & ((joints >= LOW[:5]) & (joints <= HIGH[:5])).all(axis=-1)
    return np.clip(joints, LOW[:5], HIGH[:5]), possible


def natural_pitch(height: np.ndarray) -> np.ndarray:
    """Pitch (...,) of a grasp carried at a height (...,): down near the table; higher, the wrist cannot bend so far."""
    return DOWN - np.clip(7.0 * (np.asarray(height) - 0.045), 0.0, 0.75)


REST = np.append(solve_ik(np.array([0.20, 0.0, 0.10]), natural_pitch(0.10), 0.0)[0], 0.5)  # rad, where episodes begin
# Where cubes and targets lie: a ring around the pan axis that the gripper reaches pointing down.
NEAR, FAR, SIDE = 0.135, 0.225, 0.9  # m, m, rad to either side
CUBE = 0.014  # m, half a side of the cube
TABLE = np.array([[-0.10, -0.30], [0.42, 0.30]])  # m, corners of the table top
OPENED = 0.40  # rad, a gripper at least this wide holds nothing


def on_ring(rng: np.random.Generator) -> np.ndarray:
    """A random place (2,) within the arm's reach, metres; every bit of area is as likely."""
    radius, angle = np.sqrt(rng.uniform(NEAR**2, FAR**2)), rng.uniform(-SIDE, SIDE)
    return PAN[:2] + radius * np.array([np.cos(angle), np.sin(angle)])


def fourfold(quaternion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin (...,) of 4 yaw of cubes (..., 4): a quarter turn, or another face on top, looks the same."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    # First two rows of the rotation; an upright axis adds nothing, the two level ones the same.
    one = _quadrupled(1 - 2 * (y * y + z * z), 2 * (x * y + w * z))
    two = _quadrupled(2 * (x * y - w * z), 1 - 2 * (x * x + z * z))
    three = _quadrupled(2 * (x * z + w * y), 2 * (y * z - w * x))
    return (one[0] + two[0] + three[0]) / 2, (one[1] + two[1] + three[1]) / 2


def _quadrupled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fourth power of x + iy, in real numbers: complex ones round differently in a batch."""
    x, y = x * x - y * y, 2 * x * y
    return x * x - y * y, 2 * x * y


@dataclass(frozen=True, repr=False)
class ArmTask(Task):
    """A task of the SO-101 with one cube: actions are the targets of the six servos, states begin with joints, cube."""

    control_hz = 10.0
    substeps = 20
    max_speed = 2.5
    weight = np.array([1.0, 1.0, 1.0, 1.0, 0.5, 0.5])  # the last two move nothing but the hand
    action_low, action_high = LOW, HIGH
    obs_limit = 4.0
    camera = "front"
    state_names = (*JOINTS, *(f"cube {axis}" for axis in ("x", "y", "z", "qw", "qx", "qy", "qz")), *COMMANDS)
    obs_names = (
        *JOINTS, *COMMANDS, *(f"{what} {axis}" for what in ("grasp", "cube", "grasp to cube") for axis in "xyz"),
        "cos 4 jaw to cube", "sin 4 jaw to cube",
    )  # fmt: skip
    perturbations: ClassVar[dict[str, str]] = {
        "friction": "a third of the friction of pads, cube and table",
        "mass": "a cube three times as heavy",
        "size": "a cube with sides 15 % longer",
        "push": "one push of 0.28 N for 0.1 s on the cube, which slides 3 cm",
        **perturb.EVERYWHERE,
    }
    rubbing, heavy = ("fixed_pad", "moving_pad", "cube", "table"), "cube"
    coloured = ("cube", "target", "so101", "solid")
    room, distractor = ((0.12, -0.20, 0.015), (0.34, 0.22, 0.015)), 0.015
    push_joints = ("cube",)
    push_force = 0.28  # the table's friction holds 0.18
    push_time = 0.1
    push_window = (0.02, 0.15)  # mostly before the cube is held
    milestones: ClassVar[tuple[str, ...]] = ("reached", "lifted")  # before success, kept in `Simulation.memory`

    def cube_half(self) -> float:
        """m, half a side of the cube."""
        return CUBE * (1 + 0.15 * self.strength("size"))

    def _perturb(self, spec: mujoco.MjSpec) -> None:
        super()._perturb(spec)
        spec.geom("cube").size = np.full(3, self.cube_half())

    def draw_push(self, state: np.ndarray, model: mujoco.MjModel) -> tuple[int, np.ndarray]:
        """A free joint is pushed along the table, in the direction in which the start has the cube turned."""
        begin, force = super().draw_push(state, model)
        first = model.joint("cube").dofadr[0]
        angle = 2 * np.arctan2(state[12], state[9])
        force[first : first + 2] = force[first] * np.array([np.cos(angle), np.sin(angle)])
        return begin, force

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """The arm near its rest above the table, the cube anywhere within reach."""
        joints = REST + np.clip(rng.standard_normal(6), -2, 2) * [0.06, 0.03, 0.03, 0.03, 0.06, 0.03]
        yaw = rng.uniform(-np.pi, np.pi)
        pose = [*on_ring(rng), self.cube_half(), np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        return np.concatenate([joints, pose, joints])

    @staticmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """What `obs_names` says: (..., S) -> (..., 23), radians and metres."""
        joints, cube, command = state[..., :6], state[..., 6:9], state[..., -6:]
        grasp, axes = forward(joints)
        (cos, sin), (jaw_cos, jaw_sin) = fourfold(state[..., 9:13]), _quadrupled(axes[..., 0, 2], axes[..., 1, 2])
        turned = np.stack([cos * jaw_cos + sin * jaw_sin, sin * jaw_cos - cos * jaw_sin], axis=-1)
        return np.concatenate([joints, command, grasp, cube, cube - grasp, turned], axis=-1)

    def memory(self, n: int) -> dict[str, np.ndarray]:
        """Which milestones each episode has passed."""
        return {name: np.zeros(n, dtype=bool) for name in self.milestones}

    def info(self, sim: Simulation) -> dict[str, np.ndarray]:
        """How far each episode came: its milestones."""
        return {name: sim.memory[name].astype(int) for name in self.milestones}

    def judge(self, sim: Simulation, index: np.ndarray, trace: np.ndarray) -> None:
        """The score counts milestones, of which success is the last; a cube off the table is lost."""
        cube = trace[:, -1, 6:9]
        between = np.sqrt(((cube - forward(trace[:, -1, :6])[0]) ** 2).sum(axis=1)) < 0.02
        height = cube[:, 2] - self.cube_half()
        sim.memory["reached"][index] |= between
        sim.memory["lifted"][index] |= between & (height > 0.02)
        sim.failure[index] |= ((cube[:, :2] < TABLE[0]) | (cube[:, :2] > TABLE[1])).any(axis=1)
        sim.success[index] |= self._solved(sim, index, trace, between, height)
        passed = sum(sim.memory[name][index].astype(float) for name in self.milestones)
        share = np.where(sim.success[index], 1.0, passed / (len(self.milestones) + 1))
        sim.score[index] = np.maximum(sim.score[index], share)

    @abstractmethod
    def _solved(self, sim, index, trace, between, height) -> np.ndarray:
        """As `judge`, for cubes `between` the jaws (n,) and `height` metres up (n,); returns which are solved (n,)."""
