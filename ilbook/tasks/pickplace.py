"""PickPlace: the SO-101 arm puts a cube onto a disc somewhere else on the table."""

from __future__ import annotations

import numpy as np

from ilbook.tasks.arm import OPENED, ArmTask, on_ring

RADIUS = 0.03  # m, of the target
APART = 0.08  # m, at least, between cube and target at the start


class PickPlace(ArmTask):
    """Put the cube on the green disc and let go; solved when its centre lies within the disc and the jaws are open."""

    name = "pickplace"
    gym_id = "ilbook/PickPlace-v0"
    max_steps = 200
    state_names = (*ArmTask.state_names[:13], "target x", "target y", *ArmTask.state_names[13:])
    obs_names = (*ArmTask.obs_names, "target x", "target y", "cube to target x", "cube to target y")
    coloured = ("cube", "target")
    success_radius = RADIUS
    opened = OPENED  # rad, of the gripper that has let go

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """The arm above the table, the cube anywhere within reach, the target elsewhere."""
        joints, pose = self._arm_and_cube(rng)
        while np.linalg.norm((target := on_ring(rng)) - pose[:2]) < APART:
            pass
        return np.concatenate([joints, pose, target, joints])

    @staticmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """What every task of the arm shows, then where the target is: (..., 21) -> (..., 27)."""
        target = state[..., 13:15]
        return np.concatenate([ArmTask.observe(state), target, target - state[..., 6:8]], axis=-1)

    def reset(self, states: np.ndarray, copies: np.ndarray | None = None) -> np.ndarray:
        if copies is None:
            self.carried = np.zeros(self.n_copies, dtype=bool)
        self.carried[slice(None) if copies is None else copies] = False
        return super().reset(states, copies)

    @property
    def reward(self) -> np.ndarray:
        """A quarter each for: hand at the cube, cube off the table, cube over the target, cube on it and let go."""
        cube, to_cube, to_target = self.obs[:, 15:18], self.obs[:, 18:21], self.obs[:, 25:27]
        near = 1 - np.tanh(np.linalg.norm(to_cube, axis=1) / 0.1)
        up = np.clip((cube[:, 2] - self.cube_half()) / 0.02, 0, 1)
        over = 1 - np.tanh(np.maximum(np.linalg.norm(to_target, axis=1) - self.success_radius, 0) / 0.1)
        return np.where(self.success, 1.0, 0.25 * (near + (near > 0.75) * np.maximum(up, over == 1) * (1 + over)))

    def info(self) -> dict[str, np.ndarray]:
        """How far each episode came: `reached`, `lifted`, `carried` (over the target); placed is success."""
        return {name: getattr(self, name).astype(int) for name in ("reached", "lifted", "carried")}

    def _judge(self, index: np.ndarray, trace: np.ndarray) -> None:
        """The score counts milestones: reached, lifted, carried over the target, placed there and let go."""
        cube, between, height = self._judge_cube(index, trace)
        away = np.sqrt(((cube[:, :2] - trace[:, -1, 13:15]) ** 2).sum(axis=1))
        self.carried[index] |= self.lifted[index] & between & (away < self.success_radius)
        still = np.abs(trace[:, -1, 6:9] - trace[:, 0, 6:9]).max(axis=1) < 0.001
        rests = still & (np.abs(height) < 0.003) & (away < self.success_radius)
        self.success[index] |= rests & ((trace[:, -1, 5] > self.opened) | ~between)
        milestones = sum(np.asarray(m[index], dtype=float) for m in (self.reached, self.lifted, self.carried))
        self.score[index] = np.maximum(self.score[index], np.where(self.success[index], 1.0, 0.25 * milestones))
