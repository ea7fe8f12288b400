"""From hands to actions: one pilot per kind of task turns mouse, keys and sticks into targets."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from ilbook.draw.view import PARALLEL, View
from ilbook.errors import UserError
from ilbook.tasks import arm
from ilbook.tasks.base import Task
from ilbook.teleop.hands import Hand

Place = tuple[float, float]  # in a picture, as shares from its left and top edge


class Pilot(ABC):
    """Drives one copy of a task, from the start of an episode on. Whoever lets go stops: without input the target is
    the present command.
    """

    help: str  # how to drive, for the page

    def __init__(self, task: Task):
        self.task, self.step = task, 1.0 / task.control_hz  # s
        self.lens = View.of(task.load_model(), task.camera, 1)  # its pixels are shares of the picture

    @abstractmethod
    def act(self, hand: Hand, state: np.ndarray) -> np.ndarray:
        """The target (A,) that the hand means, for the next control step from `state` (S,)."""

    @abstractmethod
    def points(self, action: np.ndarray) -> np.ndarray:
        """Where a target (A,) is in the world (n, 3), metres: a line to draw, from the target on."""

    def reset(self) -> None:  # noqa: B027
        """An episode starts."""

    def where(self, action: np.ndarray) -> tuple[Place, ...]:
        """The same in the picture."""
        return tuple((float(x), float(y)) for x, y in self.lens.to_pixels(self.points(action)))

    def under(self, place: Place | None, height: float) -> np.ndarray | None:
        """What is seen at a place of the plane z = `height` (2,), metres; None where the camera looks past it."""
        if place is None:
            return None
        lens = self.lens
        aside, ahead = (np.array(place) - 0.5) * [1, -1] * lens.height @ lens.axes[:2], -lens.axes[2]
        start, ray = (lens.position + aside, ahead) if lens.flat else (lens.position, aside + ahead)
        far = (height - start[2]) / ray[2] if abs(ray[2]) > PARALLEL else np.nan
        seen = np.isfinite(far) and (lens.flat or far > 0)
        return (start + far * ray)[:2] if seen else None

    def _allowed(self, target: np.ndarray) -> np.ndarray:
        return np.clip(target, self.task.action_low, self.task.action_high)


class PlanarPilot(Pilot):
    """Drives an end-effector in the plane that the camera looks down on; actions are its target x, y in metres.

    A drag puts the target under the mouse, however far that is: the task limits the speed, as for any action.
    """

    help = "Drag in the picture with the mouse, or hold the arrow keys or WASD, or use the left stick."

    def act(self, hand: Hand, state: np.ndarray) -> np.ndarray:
        point = self.under(hand.drag, 0.0)
        way = self.task.max_speed * self.step * hand.direction
        return self._allowed(state[-2:] + way if point is None else point)

    def points(self, action: np.ndarray) -> np.ndarray:
        return np.array([[*action, 0.0]])


class ArmPilot(Pilot):
    """Drives the place between the jaws of the SO-101; actions are the joint targets that bring it there.

    A press of the mouse calls it to that place at its present height, a drag moves it level, and the wheel or keys set
    the height: straight up or down, although the camera looks aslant. Near the table the gripper points down; higher up
    it leans as the arm needs.
    """

    help = (
        "Drag in the picture to move level over the table; wheel: height; Space: close or open the jaws. "
        "Keys: arrows or WASD level, Q and E up and down, R and F turn the wrist. "
        "Gamepad: left stick level, right stick height and wrist, A jaws."
    )
    speed, climb, turn = 0.15, 0.10, 1.5  # m/s, m/s, rad/s of keys and sticks
    notch = 0.01  # m of height for a notch of the wheel
    lowest, highest = 0.012, 0.20  # m of the place between the jaws: at 1 cm the jaws meet the table
    nearest, farthest = 0.08, 0.30  # m from the pan axis: nearer the arm would fold onto itself
    opened, shut = 0.5, 0.0  # rad of the jaws; shut is narrower than the cube, so it is held with full force
    jaw_step = 0.12  # rad in a control step: a jaw that snaps shut knocks the cube over

    def __init__(self, task: Task):
        super().__init__(task)
        flat = self.lens.axes[:2, :2]  # right and up in the picture, on the table
        self.directions = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        self.reset()

    def reset(self) -> None:
        self._jaws: float | None = None  # where they were told to go; None: nobody told them yet
        self._drag: Place | None = None  # where the mouse was, and what it called for (2,), metres
        self._goal = np.zeros(2)

    def act(self, hand: Hand, state: np.ndarray) -> np.ndarray:
        command = state[-6:].copy()
        if hand.tapped & {" ", 0}:
            now = command[5] if self._jaws is None else self._jaws
            self._jaws = self.shut if now > (self.opened + self.shut) / 2 else self.opened
        target = command.copy()
        if self._jaws is not None:
            target[5] += np.clip(self._jaws - command[5], -self.jaw_step, self.jaw_step)
        keys, step = hand.keys, self.step
        turned = self.turn * step * (("r" in keys) - ("f" in keys) + hand.sticks[2])  # rad
        climbed = self.climb * step * (("q" in keys) - ("e" in keys) + hand.sticks[3]) + self.notch * hand.wheel  # m
        level = self.speed * step * hand.direction @ self.directions  # (2,) m
        if hand.drag is None:
            self._drag = None
            if not (turned or climbed or level.any()):
                return target
        place = arm.forward(command)[0]
        place[2] = np.clip(place[2] + climbed, self.lowest, self.highest)
        offset = self._called(hand.drag, place) + level - arm.PAN[:2]
        far = max(float(np.linalg.norm(offset)), 1e-9)
        place[:2] = arm.PAN[:2] + offset * np.clip(far, self.nearest, self.farthest) / far
        target[:5] = arm.solve_ik(place, arm.natural_pitch(place[2]), command[4] + turned)[0]
        return self._allowed(target)

    def points(self, action: np.ndarray) -> np.ndarray:
        place = arm.forward(action)[0]
        return np.stack([place, place * [1, 1, 0]])

    def _called(self, drag: Place | None, place: np.ndarray) -> np.ndarray:
        """What the mouse calls for (2,) when the grasp is at `place` (3,); the grasp itself without a mouse."""
        now, before = self.under(drag, place[2]), self.under(self._drag, place[2])
        if now is None:
            return place[:2]
        self._goal = now if before is None else self._goal + now - before
        self._drag = drag
        return self._goal


def pilot_for(task: Task) -> Pilot:
    """The pilot that fits the actions of a task; UserError where no hand device fits."""
    if isinstance(task, arm.ArmTask):
        return ArmPilot(task)
    if len(task.action_low) == 2:
        return PlanarPilot(task)
    lacking = f"{task.name} has {len(task.action_low)} actions and nobody wrote a pilot that drives them by hand"
    raise UserError(f"{lacking}; add one to ilbook/teleop/pilots.py")
