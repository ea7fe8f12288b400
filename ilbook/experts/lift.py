"""A scripted demonstrator for Lift: grasp the cube, raise it, hold it up."""

import numpy as np

from ilbook.experts.arm import ArmExpert
from ilbook.tasks.lift import HEIGHT, HOLD, Lift

ABOVE = 0.015  # m higher than asked for


class LiftExpert(ArmExpert):
    """Demonstrates Lift."""

    task = Lift()
    demo_task = Lift(hold=HOLD + 3)  # a little longer than success takes

    def _carry(self, state):
        raised = self.grasp + np.outer(HEIGHT + ABOVE - self.height, [0, 0, 1])
        return raised, np.zeros(len(state), dtype=bool)  # it is never let go of
