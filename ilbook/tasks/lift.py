"""Lift: the SO-101 arm picks a cube up; the easy half of PickPlace."""

from __future__ import annotations

import numpy as np

from ilbook.tasks.arm import ArmTask

HEIGHT = 0.05  # m above the table's
HOLD = 5  # control steps


class Lift(ArmTask):
    """Lift the cube 5 cm off the table; solved when it has been held there for half a second."""

    name = "lift"
    gym_id = "ilbook/Lift-v0"
    max_steps = 150
    hold = HOLD

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """The arm above the table, the cube anywhere within reach."""
        joints, pose = self._arm_and_cube(rng)
        return np.concatenate([joints, pose, joints])

    def reset(self, states: np.ndarray, copies: np.ndarray | None = None) -> np.ndarray:
        if copies is None:
            self._held = np.zeros(self.n_copies, dtype=int)
        self._held[slice(None) if copies is None else copies] = 0
        return super().reset(states, copies)

    @property
    def reward(self) -> np.ndarray:
        """A third for the hand at the cube, the rest for its height."""
        near = 1 - np.tanh(np.linalg.norm(self.obs[:, 18:21], axis=1) / 0.1)
        up = np.clip((self.obs[:, 17] - self.cube_half()) / HEIGHT, 0, 1)
        return np.where(self.success, 1.0, (near + 2 * (near > 0.75) * up) / 3)

    def info(self) -> dict[str, np.ndarray]:
        """How far each episode came: `reached`, `lifted` (2 cm)."""
        return {"reached": self.reached.astype(int), "lifted": self.lifted.astype(int)}

    def _judge(self, index: np.ndarray, trace: np.ndarray) -> None:
        """The score counts milestones: reached, lifted by 2 cm, held at 5 cm."""
        _, between, height = self._judge_cube(index, trace)
        high = between & (height > HEIGHT)
        self._held[index] = np.where(high, self._held[index] + (trace.shape[1] > 1), 0)
        self.success[index] |= self._held[index] >= self.hold
        milestones = self.reached[index].astype(float) + self.lifted[index]
        self.score[index] = np.maximum(self.score[index], np.where(self.success[index], 1.0, milestones / 3))
