"""A scripted Insert demonstrator: over the hole, upright, down; where the peg sticks, off the rim or a small search.

Nearly everything follows from the present state, so that it can be imitated and can begin anywhere.
"""

from typing import ClassVar

import numpy as np

from ilbook.experts.base import Expert, Style
from ilbook.tasks.insert import FULL, Insert, to_hand, to_tip

STEP = 1.0 / Insert.control_hz  # s
SPEED, ENTER, DOWN = 0.20, 0.09, 0.10  # m/s: above the board; past the rim; down the hole
EASE = 0.6  # of the way that is left, at most, in one step
HOVER = 0.0035  # m above the mouth, where the peg is aligned
RISE = 1.0  # m of height per m of misalignment: the cone in which the tip comes to the mouth
ALIGNED, MISSES = 0.0006, 0.0010  # m: nearer the middle of the hole, the peg goes down; farther, it comes up again
SLIDE, TOUCH = 0.004, 0.001  # m: no farther from the hole, a peg on the board slides over, pressed as little as that
LEAN = 0.04  # m per rad: what leaning counts as misalignment
INSIDE = 0.001  # m of depth at which the walls guide the peg
GOAL = FULL + 0.003  # m, depth of the last command
STUCK = 0.0085  # m between command and peg along z: more than the lag of a free descent
PATIENCE = 5  # steps that a peg sticks before it is lifted
SEARCH, PERIOD = 0.0008, 6  # m and steps: the lateral search of a peg that sticks
VIA = np.array([0.016, 0.014])  # m from the mouth: where the ways from the left and the right pass
ARRIVED = 0.004  # m from such a place
LEFT, RIGHT = 1, 2  # values of `Style.mode`; 0 is straight


class InsertExpert(Expert):
    """Demonstrates Insert: straight, or by way of the left or the right; a detour is another such place."""

    task = Insert()
    demo_task = Insert(full_depth=FULL + 0.0015)  # past what counts, so that a clone's small errors still succeed
    human = Style(noise=0.10)
    n_modes = 3
    knock_size = 0.006
    # Without a plan; the place to pass first, from the mouth (nan: none); whether it goes down, ever did, and slides
    # over the board; steps that it sticks, and for which it is still lifted.
    mind: ClassVar[dict[str, object]] = {
        "_fresh": True, "_via": (np.nan, np.nan), "_down": False, "_began": False, "_touching": False,
        "_stuck": 0, "_lift": 0,
    }  # fmt: skip

    def _enter(self, copies: np.ndarray) -> None:
        """A new phase of these copies: rest a while, or go a way that nobody needs."""
        for i in copies if self.style.pause or self.style.detour else ():
            self._pause(i)
            if self._generators[i].random() < self.style.detour:
                self._via[i] = self._generators[i].uniform([-0.03, 0.012], [0.03, 0.03])

    def _act(self, state: np.ndarray) -> np.ndarray:
        hand, hole, command = state[:, :3], state[:, 3:6], state[:, 6:]
        at, to = to_tip(hand, hole), to_tip(command, hole)  # (N, 3) where the tip is, and where it is sent
        fresh = np.flatnonzero(self._fresh)
        self._fresh[fresh] = False
        if self.style.mode in (LEFT, RIGHT):
            far = fresh[(np.abs(at[fresh, 0]) > 0.005) & (at[fresh, 1] > 0.005)]  # else it is there already
            self._via[far] = VIA * [-1 if self.style.mode == LEFT else 1, 1]
        self._enter(fresh)
        depth, held = -at[:, 1], at[:, 1] - to[:, 1]
        aside, lean = (np.maximum(np.abs(at[:, k]), np.abs(to[:, k])) for k in (0, 2))
        amiss, inside = aside + LEAN * lean, depth > INSIDE
        # Forget places that were passed, count the steps that pegs stick, lift those that stick too long.
        self._via[np.linalg.norm(at[:, :2] - self._via, axis=1) < ARRIVED] = np.nan
        self._lift = np.maximum(self._lift - 1, 0)
        sticks = (self._touching | (held > STUCK) & (at[:, 1] < TOUCH)) & (self._lift == 0)
        self._stuck = np.where(sticks, self._stuck + 1, 0)
        over = self._stuck > PATIENCE
        self._lift[over], self._stuck[over] = np.where(inside[over], 3, 4), 0
        # Once on its way down, a peg is brought up again only from a place where it would miss the hole.
        fits = amiss < np.where(self._down | (self._stuck > 0), MISSES, ALIGNED)
        via = ~np.isnan(self._via[:, 0])
        self._down = down = (inside | fits) & (self._lift == 0) & ~via
        self._enter(np.flatnonzero(down & ~self._began))
        self._began |= down

        goal = np.zeros_like(at)
        touching = self._touching = ~down & (depth > -TOUCH) & (amiss < SLIDE) & (self._lift == 0)
        goal[:, 1] = np.where(down, -GOAL, np.where(touching, at[:, 1] - TOUCH, HOVER + RISE * np.minimum(amiss, 0.01)))
        # A peg that sticks is pressed no harder, and searched a little to both sides.
        searching = down & (self._stuck > 0)
        goal[searching, 1] = np.maximum(goal[searching, 1], at[searching, 1] - STUCK)
        goal[searching, 0] = SEARCH * np.sin(2 * np.pi * self._stuck[searching] / PERIOD)
        lifted = (self._lift > 0) & inside  # jammed in the hole: a little up, then down again
        goal[lifted, 1] = at[lifted, 1] + 0.004
        goal[via, :2] = self._via[via]

        move = goal - to
        left = np.linalg.norm(move * Insert.weight, axis=1)
        speed = self.style.speed * np.where(inside, DOWN, np.where(down | touching, ENTER, SPEED)) * STEP
        length = np.minimum(speed, np.where(down, left, EASE * left + 0.0002))
        move *= (length / np.maximum(left, 1e-9)).clip(max=1.0)[:, None]
        return to_hand(to + move, hole)
