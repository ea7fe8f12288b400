"""What the demonstrators of the SO-101 share: move over the cube, grasp it along two faces, go somewhere with it.

What to do next is read off the state alone, and the hand moves through funnels: the farther it is from where it should
go down, the higher it flies. So a clone without memory can follow, and the expert can take over anywhere.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from ilbook.experts.base import Expert, Style
from ilbook.tasks import arm
from ilbook.tasks.arm import ArmTask
from ilbook.tasks.limit import limit

STEP = 1.0 / ArmTask.control_hz  # s
SPEED = 0.08  # m/s of the grasp
GAIN = 0.3  # of the distance left, the longest step: the hand comes to rest softly
TURN, SQUEEZE = 0.12, 0.10  # rad in a step, of the wrist's roll and of the jaw
OPEN, SHUT = 0.5, 0.0  # rad, commands of the gripper; shut is narrower than the cube, so it is held with full force
CLEAR = 0.006  # m, between fixed jaw and cube before the grasp
HOVER = 0.05  # m above the grasp, while not yet aligned
BULGE = 0.05  # m, size of a needless way round
APPROACH, GRASP, MOVE, RELEASE = range(4)  # phases


class ArmExpert(Expert):
    """Mode 0 turns the wrist as little as possible; mode 1 takes the other pair of the cube's faces."""

    human = Style()
    n_modes = 2
    knock_size = 0.10  # rad
    slip_share = 0.35  # of what `Style.noise` says: the errors of the joints add up along the arm
    # The phase (-1: none yet), and the side of a needless way round: left (1), right (-1), none (0).
    mind: ClassVar[dict[str, object]] = {"_phase": -1, "_side": 0.0}

    def _act(self, state: np.ndarray) -> np.ndarray:
        self.joints, self.command = state[:, :6], state[:, -6:]
        self.cube, self.quaternion = state[:, 6:9], state[:, 9:13]
        self.grasp, axes = arm.forward(self.joints)
        self.hand = arm.forward(self.command)[0]  # where the command asks the grasp to be
        self.inside = np.einsum("nij,ni->nj", axes, self.cube - self.grasp)  # the cube in the gripper's frame
        self.opening = axes[:, :2, 2]  # from the fixed to the moving jaw
        self.height = self.cube[:, 2] - self.demo_task.cube_half()
        width, caught = self.joints[:, 5], (np.abs(self.inside) < [0.018, 0.016, 0.012]).all(axis=1)
        self.held = caught & (width - self.command[:, 5] > 0.04) & (width < arm.OPENED)
        goal, roll, closes = self._approach()
        carry, placed = self._carry(state)
        phase = np.select([placed, self.held, closes], [RELEASE, MOVE, GRASP], APPROACH)
        goal = np.where((phase >= MOVE)[:, None], carry, np.where((phase == GRASP)[:, None], self.hand, goal))
        roll = np.where(phase == APPROACH, roll, self.command[:, 4])
        width = np.where((phase == MOVE) | (phase == GRASP), SHUT, OPEN)
        return self._go(goal, roll, width, phase)

    @abstractmethod
    def _carry(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the hand should go once it holds the cube (N, 3), and which cubes (N,) are to be let go of."""

    def _approach(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place (N, 3) and roll (N,) that lead to a grasp, and which copies (N,) may close the jaws."""
        goal = self.cube + np.array([0, 0, 0.002])
        goal[:, :2] -= CLEAR * self.opening
        pan = arm.solve_ik(goal, arm.DOWN, self.command[:, 4])[0][:, 0]
        cos, sin = arm.fourfold(self.quaternion)
        upright = np.arctan2(sin, cos) / 4 + pan + arm.TILT  # the roll at which the jaws lie on one of the four pairs
        wanted = 0.25 * self.command[:, 4] + 0.75 * (self.style.mode or 0) * np.pi / 2
        roll = upright + np.round((wanted - upright) / (np.pi / 2)) * np.pi / 2
        off = np.linalg.norm(self.grasp[:, :2] - goal[:, :2], axis=1)
        twist, narrow = np.abs(roll - self.joints[:, 4]), OPEN - self.joints[:, 5]
        ready = (off < 0.006) & (np.abs(self.grasp[:, 2] - goal[:, 2]) < 0.005) & (twist < 0.12)
        between = (np.abs(self.inside - [0, 0, 0.003]) < [0.014, 0.012, 0.010]).all(axis=1)
        # Steep where a jaw could come down on the cube instead of beside it.
        away = np.maximum((off - 0.003) / 0.008, np.maximum((twist - 0.06) / 0.4, (narrow - 0.05) / 0.3))
        goal[:, 2] += HOVER * np.clip(away, 0, 1)
        return goal, roll, ready | (between & (narrow > 0.08))

    def _go(self, goal: np.ndarray, roll: np.ndarray, width: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """Joint targets (N, 6) one step towards a place (N, 3), a roll and a width (N,)."""
        for i in np.flatnonzero(phase != self._phase) if self.style.pause or self.style.detour else ():
            if self._phase[i] >= 0:
                self._pause(i)
            rng = self._generators[i]
            self._side[i] = rng.choice([-1.0, 1.0]) * (rng.random() < self.style.detour)
        self._phase = phase
        way = (goal - self.hand)[:, :2]
        far = np.linalg.norm(way, axis=1)
        size = self._side * BULGE * np.clip((far - 0.03) / 0.05, 0, 1) / np.maximum(far, 1e-9)  # the less, the nearer
        goal = goal + np.column_stack([-way[:, 1] * size, way[:, 0] * size, np.zeros(len(way))])
        move = goal - self.hand
        move[:, :2] *= np.clip(1 - (goal[:, 2] - self.grasp[:, 2] - 0.01) / 0.02, 0, 1)[:, None]  # first up, then aside
        far = np.linalg.norm(move, axis=1)
        move *= (np.minimum(self.style.speed * SPEED * STEP, GAIN * far) / np.maximum(far, 1e-9))[:, None]
        place = self.hand + move
        now = np.column_stack([self.command[:, 1:4].sum(axis=1), self.command[:, 4:]])
        most = np.array([0.15, self.style.speed * TURN, self.style.speed * SQUEEZE])
        wanted = np.column_stack([arm.natural_pitch(place[:, 2]), roll, width])
        pitch, roll, width = (now + np.clip(wanted - now, -most, most)).T
        target = np.column_stack([arm.solve_ik(place, pitch, roll)[0], width])
        return self.command + limit(target, self.command, arm.LOW, arm.HIGH, ArmTask.max_speed * STEP, ArmTask.weight)
