"""A scripted demonstrator for Lift: grasp the cube, raise it, hold it up."""

from __future__ import annotations

import numpy as np

from ilbook.experts.arm import APPROACH, GRASP, MOVE, SHUT, ArmExpert
from ilbook.tasks.lift import HEIGHT, HOLD, Lift

ABOVE = 0.015  # m higher than asked for


class LiftExpert(ArmExpert):
    """Demonstrates Lift."""

    task = Lift()
    demo_task = Lift(hold=HOLD + 3)  # a little longer than success takes

    def _decide(self, state: np.ndarray) -> np.ndarray:
        goal, roll, width, closes = self._approach()
        moves = self.held
        closes &= ~moves
        raised = self.grasp + np.outer(HEIGHT + ABOVE - self.height, [0, 0, 1])
        goal = np.where(moves[:, None], raised, np.where(closes[:, None], self.hand, goal))
        roll = np.where(moves | closes, self.command[:, 4], roll)
        width = np.where(moves | closes, SHUT, width)
        return self._go(goal, roll, width, np.select([moves, closes], [MOVE, GRASP], APPROACH))
