"""PickPlace: the SO-101 arm puts a cube onto a disc somewhere else on the table."""

from dataclasses import dataclass

import numpy as np

from ilbook.tasks.arm import OPENED, ArmTask, on_ring
from ilbook.tasks.simulation import Simulation

RADIUS = 0.03  # m, of the target
APART = 0.08  # m, at least, between cube and target at the start


@dataclass(frozen=True, repr=False)
class PickPlace(ArmTask):
    """Put the cube on the green disc and let go; solved when its centre lies within the disc and the jaws are open."""

    max_steps: int = 200
    success_radius: float = RADIUS  # m
    opened: float = OPENED  # rad, of the gripper that has let go

    name = "pickplace"
    gym_id = "ilbook/PickPlace-v0"
    state_names = (*ArmTask.state_names[:13], "target x", "target y", *ArmTask.state_names[13:])
    milestones = (*ArmTask.milestones, "carried")  # over the target
    obs_names = (*ArmTask.obs_names, "target x", "target y", "cube to target x", "cube to target y")

    def start(self, rng: np.random.Generator) -> np.ndarray:
        """As in every task of the arm, with the target away from the cube."""
        state = super().start(rng)
        while np.linalg.norm((target := on_ring(rng)) - state[6:8]) < APART:
            pass
        return np.insert(state, 13, target)

    @staticmethod
    def observe(state: np.ndarray) -> np.ndarray:
        """What every task of the arm shows, then where the target is: (..., 21) -> (..., 27)."""
        target = state[..., 13:15]
        return np.concatenate([ArmTask.observe(state), target, target - state[..., 6:8]], axis=-1)

    def goal(self, state: np.ndarray) -> np.ndarray:
        """Where the cube should lie: (..., 2), metres."""
        return state[..., 13:15]

    def reward(self, sim: Simulation) -> np.ndarray:
        """A quarter each for: hand at the cube, cube off the table, cube over the target, cube on it and let go."""
        obs = sim.obs
        cube, to_cube, to_target = obs[:, 15:18], obs[:, 18:21], obs[:, 25:27]
        near = 1 - np.tanh(np.linalg.norm(to_cube, axis=1) / 0.1)
        up = np.clip((cube[:, 2] - self.cube_half()) / 0.02, 0, 1)
        over = 1 - np.tanh(np.maximum(np.linalg.norm(to_target, axis=1) - self.success_radius, 0) / 0.1)
        return np.where(sim.success, 1.0, 0.25 * (near + (near > 0.75) * np.maximum(up, over == 1) * (1 + over)))

    def _solved(self, sim, index, trace, between, height):
        away = np.sqrt(((trace[:, -1, 6:8] - trace[:, -1, 13:15]) ** 2).sum(axis=1))
        sim.memory["carried"][index] |= sim.memory["lifted"][index] & between & (away < self.success_radius)
        still = np.abs(trace[:, -1, 6:9] - trace[:, 0, 6:9]).max(axis=1) < 0.001
        rests = still & (np.abs(height) < 0.003) & (away < self.success_radius)
        return rests & ((trace[:, -1, 5] > self.opened) | ~between)
