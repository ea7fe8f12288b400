"""From hands to actions: one pilot per kind of task turns mouse, keys and sticks into targets."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ilbook.draw.view import View
from ilbook.errors import UserError
from ilbook.tasks import arm
from ilbook.tasks.base import Task
from ilbook.teleop.hands import Hand

Place = tuple[float, float]  # in a picture, as shares from its left and top edge


class Pilot(Protocol):
    """Drives one copy of a task. Whoever lets go stops: without input the target is the present command."""

    help: str  # how to drive, for the page

    def reset(self, state: np.ndarray) -> None:
        """An episode starts at `state` (S,)."""

    def act(self, hand: Hand, state: np.ndarray) -> np.ndarray:
        """The target (A,) that the hand means, for the next control step."""

    def where(self, action: np.ndarray) -> tuple[Place, ...]:
        """A line to draw for a target (A,), from the target on; empty where it has no place in the picture."""


class Lens:
    """The camera of a task as geometry: from places in its picture to the world and back."""

    def __init__(self, task_type: type[Task]):
        self.view = View.of(task_type.load_model(), task_type.camera, 1)

    def to_plane(self, place: Place, height: float) -> np.ndarray | None:
        """The point (3,) at z = `height` metres that is seen at `place`; None where the camera looks past the plane."""
        view = self.view
        aside = view.height * np.array([place[0] - 0.5, 0.5 - place[1]]) @ view.axes[:2]
        start, ray = (view.position + aside, -view.axes[2]) if view.flat else (view.position, aside - view.axes[2])
        way = (height - start[2]) / ray[2] if ray[2] else -1.0
        return start + way * ray if way > 0 else None

    def to_picture(self, point: np.ndarray) -> Place:
        """Where a point (3,) is seen."""
        x, y = self.view.project(np.asarray(point, dtype=float))
        return float(x), float(y)

    @property
    def directions(self) -> np.ndarray:
        """Right and up in the picture as directions on the table (2, 2), of length 1."""
        flat = self.view.axes[:2, :2]
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)


class PlanarPilot:
    """Drives an end-effector in the plane that the camera looks down on; actions are its target x, y in metres.

    A drag puts the target under the mouse, however far that is: the task limits the speed, as for any action.
    """

    help = "Drag in the picture with the mouse, or hold the arrow keys or WASD (Shift: slowly), or use the left stick."

    def __init__(self, task_type: type[Task]):
        self.task_type, self.lens = task_type, Lens(task_type)
        self.reach = task_type.max_speed / task_type.control_hz  # m that the command can move in one step

    def reset(self, state: np.ndarray) -> None:
        """There is nothing to forget."""

    def act(self, hand: Hand, state: np.ndarray) -> np.ndarray:
        command = state[-2:]
        point = None if hand.drag is None else self.lens.to_plane(hand.drag, 0.0)
        target = command + self.reach * hand.direction if point is None else point[:2]
        return np.clip(target, self.task_type.action_low, self.task_type.action_high)

    def where(self, action: np.ndarray) -> tuple[Place, ...]:
        return (self.lens.to_picture([*action, 0.0]),)


class ArmPilot:
    """Drives the place between the jaws of the SO-101; actions are the joint targets that bring it there.

    A press of the mouse calls it to that place at its present height, a drag moves it level, and the wheel or keys set
    the height: straight up or down, although the camera looks aslant. Near the table the gripper points down; higher up
    it leans as the arm needs.
    """

    help = (
        "Drag in the picture to move level over the table; wheel: height; Space: close or open the jaws. "
        "Keys: arrows or WASD level, Q and E up and down, R and F turn the wrist (Shift: slowly). "
        "Gamepad: left stick level, right stick height and wrist, A jaws."
    )
    speed, climb, turn = 0.15, 0.10, 1.5  # m/s, m/s, rad/s of keys and sticks
    notch = 0.01  # m of height for a notch of the wheel
    lowest, highest = 0.012, 0.20  # m of the place between the jaws: at 1 cm the jaws meet the table
    nearest, farthest = 0.08, 0.30  # m from the pan axis: nearer the arm would fold onto itself
    opened, shut = 0.5, 0.0  # rad of the jaws; shut is narrower than the cube, so it is held with full force
    jaw_step = 0.12  # rad in a control step: a jaw that snaps shut knocks the cube over

    def __init__(self, task_type: type[Task]):
        self.task_type, self.lens = task_type, Lens(task_type)
        self.step = 1.0 / task_type.control_hz  # s
        self.reset(None)

    def reset(self, state: np.ndarray | None) -> None:
        self._jaws: float | None = None  # where they were told to go; None: nobody told them yet
        self._drag: Place | None = None  # where the mouse was, and what it called for (2,), metres
        self._goal = np.zeros(2)

    def act(self, hand: Hand, state: np.ndarray) -> np.ndarray:
        command = state[-6:].copy()
        if " " in hand.tapped or 0 in hand.clicked:
            now = command[5] if self._jaws is None else self._jaws
            self._jaws = self.shut if now > (self.opened + self.shut) / 2 else self.opened
        target = command.copy()
        if self._jaws is not None:
            target[5] += np.clip(self._jaws - command[5], -self.jaw_step, self.jaw_step)
        turned, climbed, level = self._moves(hand)
        if hand.drag is None:
            self._drag = None
        if hand.drag is None and not (turned or climbed or level.any()):
            return target
        place = arm.forward(command)[0]
        place[2] = np.clip(place[2] + climbed, self.lowest, self.highest)
        place[:2] = _ringed(self._under(hand.drag, place) + level, self.nearest, self.farthest)
        target[:5] = arm.solve_ik(place, arm.natural_pitch(place[2]), command[4] + turned)[0]
        return np.clip(target, self.task_type.action_low, self.task_type.action_high)

    def where(self, action: np.ndarray) -> tuple[Place, ...]:
        place = arm.forward(action)[0]
        return self.lens.to_picture(place), self.lens.to_picture(place * [1, 1, 0])

    def _under(self, drag: Place | None, place: np.ndarray) -> np.ndarray:
        """What the mouse calls for (2,) when the grasp is at `place` (3,); the grasp itself without a mouse."""
        if drag is None or (now := self.lens.to_plane(drag, place[2])) is None:
            return place[:2]
        before = None if self._drag is None else self.lens.to_plane(self._drag, place[2])
        self._goal = now[:2] if before is None else self._goal + (now - before)[:2]
        self._drag = drag
        return self._goal

    def _moves(self, hand: Hand) -> tuple[float, float, np.ndarray]:
        """What keys, wheel and sticks ask for in one step: a turn (rad), a climb (m) and a way on the table (2,), m."""
        keys = hand.keys
        turn = ("r" in keys) - ("f" in keys) + hand.sticks[2]
        climb = ("q" in keys) - ("e" in keys) + hand.sticks[3]
        along = self.speed * self.step * hand.direction @ self.lens.directions
        climbed = self.climb * self.step * hand.pace * climb + self.notch * hand.wheel
        return float(self.turn * self.step * hand.pace * turn), float(climbed), along


def _ringed(point: np.ndarray, nearest: float, farthest: float) -> np.ndarray:
    """The point (2,) moved along its bearing into what the arm can reach."""
    offset = point - arm.PAN[:2]
    far = max(float(np.linalg.norm(offset)), 1e-9)
    return arm.PAN[:2] + offset * np.clip(far, nearest, farthest) / far


def pilot_for(task_type: type[Task]) -> Pilot:
    """The pilot that fits the actions of a task; UserError where no hand device fits."""
    if issubclass(task_type, arm.ArmTask):
        return ArmPilot(task_type)
    if len(task_type.action_low) == 2:
        return PlanarPilot(task_type)
    raise UserError(
        f"{task_type.name} has {len(task_type.action_low)} actions and nobody wrote a pilot that drives them by hand; "
        "give Session(..., pilot=...) one of your own"
    )
