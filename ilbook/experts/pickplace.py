"""A scripted demonstrator for PickPlace: grasp the cube, carry it over the disc, set it down, let go."""

import numpy as np

from ilbook.experts.arm import OPEN, ArmExpert
from ilbook.tasks.arm import OPENED
from ilbook.tasks.pickplace import PickPlace

CARRY = 0.045  # m above the table, the cube on its way
ON = 0.012  # m from the target's centre is near enough to let go
AWAY = 0.09  # m, height of the hand in the end


class PickPlaceExpert(ArmExpert):
    """Demonstrates PickPlace."""

    task = PickPlace()
    demo_task = PickPlace(success_radius=0.02, opened=OPEN - 0.02)  # well inside the disc, the hand wide open

    def _carry(self, state):
        to_target = state[:, 13:15] - self.cube[:, :2]
        away = np.linalg.norm(to_target, axis=1)
        placed = (np.abs(self.height) < 0.003) & (away < ON)
        # Carry high, come down where the target is.
        fly = CARRY * np.clip((away - 0.008) / 0.04, 0, 1) - 0.001
        goal = np.column_stack([self.grasp[:, :2] + to_target, self.grasp[:, 2] + fly - self.height])
        goal[placed] = self.hand[placed]
        goal[placed & (self.joints[:, 5] > OPENED), 2] = AWAY
        return goal, placed
