"""What a reader's hands do, gathered from the events of a web page: mouse, wheel, keys, gamepad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REPEAT_LOST = 0.6  # s; a held key repeats some 30 times a second: silent for this long, its release was lost
DEAD_ZONE = 0.15  # of a stick's way: worn sticks do not return to zero
NOTCH = {0: 100.0, 1: 3.0, 2: 1.0}  # what a notch of the wheel sends, by `deltaMode`: pixels, lines or pages
LEFT_BUTTON = 1  # in the bit field `buttons` of a mouse event
STEERING = {
    "arrowup": (0, 1), "arrowdown": (0, -1), "arrowleft": (-1, 0), "arrowright": (1, 0),
    "w": (0, 1), "s": (0, -1), "a": (-1, 0), "d": (1, 0),
}  # fmt: skip
# What keys and buttons (of a gamepad with the standard layout: start, back) command instead of driving.
COMMAND_KEYS = {"enter": "toggle", "backspace": "discard", "z": "undo"}
COMMAND_BUTTONS = {9: "toggle", 8: "discard"}
SLOW, SLOW_SHARE = "shift", 0.3  # with this key held, keys and sticks move slowly


@dataclass(frozen=True)
class Hand:
    """All inputs since the last look at them."""

    drag: tuple[float, float] | None = None  # where the pressed mouse is, as shares of the picture from left and top
    wheel: float = 0.0  # notches, away from the reader is positive
    keys: frozenset[str] = frozenset()  # held, or tapped since the last look: "w", "arrowup", "shift"
    tapped: frozenset[str] = frozenset()  # went down since the last look
    sticks: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # left x, left y, right x, right y; up and right are positive
    buttons: frozenset[int] = frozenset()  # of the gamepad, held or clicked; none that commands
    clicked: frozenset[int] = frozenset()  # of the gamepad, went down since the last look

    @property
    def devices(self) -> frozenset[str]:
        """Which devices do something."""
        used = {
            "mouse": self.drag is not None or self.wheel != 0,
            "keyboard": bool(self.keys - {SLOW}),
            "gamepad": any(self.sticks) or bool(self.buttons),
        }
        return frozenset(device for device, busy in used.items() if busy)

    @property
    def direction(self) -> np.ndarray:
        """Where arrows, WASD and the left stick point (2,): right and up, at most of length 1, 0.3 with Shift."""
        pointed = np.array(self.sticks[:2], dtype=float)
        for key in self.keys & STEERING.keys():
            pointed += STEERING[key]
        pointed /= max(1.0, float(np.linalg.norm(pointed)))
        return pointed * self.pace

    @property
    def pace(self) -> float:
        """1, or less while the key for slow motion is held."""
        return SLOW_SHARE if SLOW in self.keys else 1.0


class Inputs:
    """Collects events of a page (the dictionaries of ipyevents) into a `Hand`; an event it does not know changes
    nothing. Releases that the page never saw are noticed: a mouse that left the picture lets go of everything, a
    repeating key that falls silent is up.
    """

    def __init__(self):
        self._sticks, self._buttons = (0.0, 0.0, 0.0, 0.0), frozenset()
        self._clicked: set[int] = set()
        self._last_button = -np.inf  # time stamp of the page: throttled moves may arrive after a later release
        self.release()

    def release(self) -> None:
        """Nothing is pressed any more."""
        self._drag: tuple[float, float] | None = None
        self._touched: tuple[float, float] | None = None  # a press so short that it was over before anyone looked
        self._wheel = 0.0
        self._keys: set[str] = set()
        self._tapped: set[str] = set()
        self._repeats: tuple[str, float] | None = None  # the key that repeats, and when it last did

    def feed(self, event: dict, now: float) -> None:
        """Take one event of the mouse or of the keyboard; `now` in seconds."""
        kind = event.get("type") or event.get("event")
        if kind in ("mousedown", "mouseup", "mousemove"):
            self._mouse(kind, event)
        elif kind == "mouseleave":
            self.release()
        elif kind == "wheel":
            self._wheel -= float(event.get("deltaY") or 0) / NOTCH.get(event.get("deltaMode"), 100.0)
        elif kind in ("keydown", "keyup"):
            self._key(kind, str(event.get("key") or "").lower(), bool(event.get("repeat")), now)

    def pad(self, axes: Sequence[float], pressed: Sequence[bool]) -> frozenset[int]:
        """Take the axes and buttons of a gamepad with the standard layout; returns the buttons that just went down."""
        axes = [float(axis) if abs(axis) > DEAD_ZONE else 0.0 for axis in [*axes, 0, 0, 0, 0][:4]]
        self._sticks = (axes[0], 0.0 - axes[1], axes[2], 0.0 - axes[3])  # a gamepad counts downwards
        held = frozenset(number for number, down in enumerate(pressed) if down)
        new, self._buttons = held - self._buttons, held
        self._clicked |= new - COMMAND_BUTTONS.keys()
        return new

    @property
    def pad_in_use(self) -> bool:
        """Whether a stick is off its centre or a button down."""
        return any(self._sticks) or bool(self._buttons)

    def look(self, now: float) -> Hand:
        """What the hands did since the last look."""
        if self._repeats and now - self._repeats[1] > REPEAT_LOST:
            self._keys.clear()  # the page lost its focus, so no other release came through either
            self._repeats = None
        drag = self._drag or self._touched
        keys = frozenset(self._keys | self._tapped)
        tapped, clicked = frozenset(self._tapped), frozenset(self._clicked)
        buttons = (self._buttons | clicked) - COMMAND_BUTTONS.keys()
        hand = Hand(drag, self._wheel, keys, tapped, self._sticks, buttons, clicked)
        self._wheel, self._touched = 0.0, None
        self._tapped.clear()
        self._clicked.clear()
        return hand

    def _mouse(self, kind: str, event: dict) -> None:
        width, height = event.get("boundingRectWidth"), event.get("boundingRectHeight")
        if not width or not height:
            return
        stamp = float(event.get("timeStamp") or 0.0)
        if kind == "mousemove" and stamp < self._last_button:
            return
        x = (event["clientX"] - event["boundingRectLeft"]) / width
        y = (event["clientY"] - event["boundingRectTop"]) / height
        place = (min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0))
        if kind != "mousemove":
            self._last_button = stamp
        if kind == "mousedown" and event.get("button", 0) == 0:
            self._drag = self._touched = place
        elif kind == "mouseup" and event.get("button", 0) == 0:
            self._drag = None
        elif kind == "mousemove":
            # A press or release outside the picture shows only in the buttons of the next move.
            self._drag = place if int(event.get("buttons") or 0) & LEFT_BUTTON else None

    def _key(self, kind: str, key: str, repeat: bool, now: float) -> None:
        if kind == "keyup":
            self._keys.discard(key)
            if self._repeats and self._repeats[0] == key:
                self._repeats = None
            return
        if key in COMMAND_KEYS:
            return
        self._keys.add(key)
        if repeat:
            self._repeats = (key, now)
        else:
            self._tapped.add(key)
            self._repeats = None  # only the key pressed last repeats; one that has not yet may be held in silence
