"""Lift: the SO-101 arm picks a cube up; the easy half of PickPlace."""

from dataclasses import dataclass

import numpy as np

from ilbook.tasks.arm import ArmTask
from ilbook.tasks.simulation import Simulation

HEIGHT = 0.05  # m above the table's
HOLD = 5  # control steps


@dataclass(frozen=True, repr=False)
class Lift(ArmTask):
    """Lift the cube 5 cm off the table; solved when it has been held there for half a second."""

    max_steps: int = 150
    hold: int = HOLD  # control steps

    name = "lift"
    gym_id = "ilbook/Lift-v0"

    def goal(self, state: np.ndarray) -> np.ndarray:
        """Where the cube should be: above where it is now, (..., 3), metres."""
        return state[..., 6:9] * [1, 1, 0] + np.array([0, 0, HEIGHT + self.cube_half()])

    def memory(self, n: int) -> dict[str, np.ndarray]:
        """Milestones of each episode, and for how many steps the cube has been held high."""
        return super().memory(n) | {"held": np.zeros(n, dtype=int)}

    def reward(self, sim: Simulation) -> np.ndarray:
        """A third for the hand at the cube, the rest for its height."""
        obs = sim.obs
        near = 1 - np.tanh(np.linalg.norm(obs[:, 18:21], axis=1) / 0.1)
        up = np.clip((obs[:, 17] - self.cube_half()) / HEIGHT, 0, 1)
        return np.where(sim.success, 1.0, (near + 2 * (near > 0.75) * up) / 3)

    def _solved(self, sim, index, trace, between, height):
        held, high = sim.memory["held"], between & (height > HEIGHT)
        held[index] = np.where(high, held[index] + (trace.shape[1] > 1), 0)
        return held[index] >= self.hold
