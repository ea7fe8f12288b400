"""What a reader's hands do, gathered from the events of a web page: mouse, wheel, keys, gamepad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DEAD_ZONE = 0.15  # of a stick's way: worn sticks do not return to zero
NOTCH = {0: 100.0, 1: 3.0, 2: 1.0}  # what a notch of the wheel sends, by `deltaMode`: pixels, lines or pages
LEFT_BUTTON = 1  # in the bit field `buttons` of a mouse event
STEERING = {
    "arrowup": (0, 1), "arrowdown": (0, -1), "arrowleft": (-1, 0), "arrowright": (1, 0),
    "w": (0, 1), "s": (0, -1), "a": (-1, 0), "d": (1, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Hand:
    """All inputs since the last look at them."""

    drag: tuple[float, float] | None = None  # where the pressed mouse is, as shares of the picture from left and top
    wheel: float = 0.0  # notches, away from the reader is positive
    keys: frozenset[str] = frozenset()  # held, or tapped since the last look: "w", "arrowup"
    sticks: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # left x, left y, right x, right y; up and right are positive
    tapped: frozenset[str | int] = frozenset()  # keys and gamepad buttons that went down since the last look

    @property
    def busy(self) -> bool:
        """Whether any device does something."""
        return self.drag is not None or self.wheel != 0 or any(self.sticks) or bool(self.keys | self.tapped)

    @property
    def direction(self) -> np.ndarray:
        """Where arrows, WASD and the left stick point (2,): right and up, at most of length 1."""
        pointed = np.array(self.sticks[:2], dtype=float)
        for key in self.keys & STEERING.keys():
            pointed += STEERING[key]
        return pointed / max(1.0, float(np.linalg.norm(pointed)))


class Inputs:
    """Collects events of a page (the dictionaries of ipyevents) into a `Hand`; an event it does not know changes
    nothing. A mouse that left the picture lets go of everything, since the page sees no release from then on.
    """

    def __init__(self):
        self._sticks, self._buttons = (0.0, 0.0, 0.0, 0.0), frozenset()
        self._last_button = -np.inf  # time stamp of the page: throttled moves may arrive after a later release
        self.release()

    def release(self) -> None:
        """Nothing is pressed any more."""
        self._drag: tuple[float, float] | None = None
        self._touched: tuple[float, float] | None = None  # a press so short that it was over before anyone looked
        self._wheel = 0.0
        self._keys: set[str] = set()
        self._tapped: set[str | int] = set()

    def feed(self, event: dict) -> None:
        """Take one event of the mouse or of the keyboard."""
        kind, key = event.get("type") or event.get("event"), str(event.get("key") or "").lower()
        if kind in ("mousedown", "mouseup", "mousemove"):
            self._mouse(kind, event)
        elif kind == "mouseleave":
            self.release()
        elif kind == "wheel":
            self._wheel -= float(event.get("deltaY") or 0) / NOTCH.get(event.get("deltaMode"), 100.0)
        elif kind == "keydown" and key and not event.get("repeat"):
            self._keys.add(key)
            self._tapped.add(key)
        elif kind == "keyup":
            self._keys.discard(key)

    def pad(self, axes: Sequence[float], pressed: Sequence[bool]) -> bool:
        """Take the axes and buttons of a gamepad with the standard layout; returns whether it is in use."""
        axes = [float(axis) if abs(axis) > DEAD_ZONE else 0.0 for axis in [*axes, 0, 0, 0, 0][:4]]
        self._sticks = (axes[0], 0.0 - axes[1], axes[2], 0.0 - axes[3])  # a gamepad counts downwards
        held = frozenset(number for number, down in enumerate(pressed) if down)
        self._tapped |= held - self._buttons
        self._buttons = held
        return any(self._sticks) or bool(held)

    def look(self) -> Hand:
        """What the hands did since the last look."""
        keys = self._keys | {key for key in self._tapped if isinstance(key, str)}
        hand = Hand(self._drag or self._touched, self._wheel, frozenset(keys), self._sticks, frozenset(self._tapped))
        self._wheel, self._touched = 0.0, None
        self._tapped.clear()
        return hand

    def _mouse(self, kind: str, event: dict) -> None:
        width, height = event.get("boundingRectWidth"), event.get("boundingRectHeight")
        stamp, left = float(event.get("timeStamp") or 0.0), event.get("button", 0) == 0
        if not width or not height or (kind == "mousemove" and stamp < self._last_button):
            return
        x = (event["clientX"] - event["boundingRectLeft"]) / width
        y = (event["clientY"] - event["boundingRectTop"]) / height
        place = (min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0))
        if kind == "mousemove":
            # A press or release outside the picture shows only in the buttons of the next move.
            self._drag = place if int(event.get("buttons") or 0) & LEFT_BUTTON else None
            return
        self._last_button = stamp
        if left:
            self._drag = place if kind == "mousedown" else None
            self._touched = place if kind == "mousedown" else self._touched
