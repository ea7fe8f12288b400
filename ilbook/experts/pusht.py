"""A scripted PushT demonstrator: find the largest part of the error, walk round to the contact that mends it, push.

Under viscous friction a push along the inward normal of a face moves and turns the block along one known twist (Lynch
and Mason 1996 treat the general case). Ten contacts are enough; simple rules make the demonstrator easy to imitate.
"""

import itertools
from typing import ClassVar

import numpy as np

from ilbook.experts.base import Expert, Style
from ilbook.tasks.pusht import OUTLINE, PUSHER_RADIUS, TARGET, WORLD, PushT, distance_to_block, to_block, to_world

STEP = 1.0 / PushT.control_hz  # s
GYRATION = 0.0439  # m, radius of gyration of the T: turning by 1 rad costs as much friction work as moving this far
CLEARANCE = 0.012  # m, between pusher and block while walking around it
INNER = (2, 7)  # corners of the outline that point inwards
ASKED = 2  # a detour that has not begun
DONE = 0.0015  # m of push: what is missing is small enough

# Contacts in the block's frame: point (m), outward normal. Two rows each: the second also turns the other way.
BELOW, ABOVE, END = OUTLINE[2, 1], OUTLINE[4, 1], OUTLINE[0, 1]
CONTACTS = np.array([
    [+0.050, BELOW, 0, -1], [-0.050, BELOW, 0, -1],  # turn left, right, by pushing up from below the bar
    [-0.050, ABOVE, 0, +1], [+0.050, ABOVE, 0, +1],  # turn left, right, by pushing down from above
    [-0.015, -0.045, -1, 0], [-0.060, 0.0257, -1, 0],  # move right, turning left, right
    [+0.060, 0.0257, +1, 0], [+0.015, -0.045, +1, 0],  # move left, turning left, right
    [0.0, END, 0, -1], [0.0, ABOVE, 0, +1],  # move up, down
])  # fmt: skip
POINTS, NORMALS = CONTACTS[:, :2], CONTACTS[:, 2:]
ARMS = POINTS[:, 1] * NORMALS[:, 0] - POINTS[:, 0] * NORMALS[:, 1]  # m, lever arm of the inward push
SHARE = 1.0 / (1.0 + (ARMS / GYRATION) ** 2)  # of a push that moves the centre; the rest turns the block
# Twist per metre of push in the block's frame, the angle times the radius of gyration: (C, 3).
TWISTS = np.column_stack([-NORMALS * SHARE[:, None], ARMS / GYRATION * SHARE])


def _ring(distance: float, spacing: float) -> np.ndarray:
    """Points (L, 2) once around the block, anticlockwise, `distance` away from it."""
    points = []
    for k, corner in enumerate(OUTLINE):
        before, after = corner - OUTLINE[k - 1], OUTLINE[(k + 1) % 8] - corner
        first, last = (np.arctan2(-edge[0], edge[1]) for edge in (before, after))  # outward normals as angles
        if k in INNER:
            points.append(corner + distance * np.array([[np.cos(first) + np.cos(last), np.sin(first) + np.sin(last)]]))
        else:
            turn = np.linspace(first, first + (last - first) % (2 * np.pi), 8)
            points.append(corner + distance * np.column_stack([np.cos(turn), np.sin(turn)]))
    loop = np.concatenate([*points, points[0][:1]])
    travelled = np.insert(np.cumsum(np.linalg.norm(np.diff(loop, axis=0), axis=1)), 0, 0)
    at = np.arange(0, travelled[-1], spacing)
    return np.column_stack([np.interp(at, travelled, axis) for axis in loop.T])


RING = _ring(PUSHER_RADIUS + CLEARANCE, spacing=0.005)  # where the pusher walks, in the block's frame
FRONTS = POINTS + NORMALS * (PUSHER_RADIUS + CLEARANCE)  # where it stands before a push
AHEAD = ((FRONTS[:, None] - RING) ** 2).sum(axis=-1).argmin(axis=1)  # the point of the ring nearest to each front


def missing(pose: np.ndarray) -> np.ndarray:
    """Move (m) and turn (m, angle times radius of gyration) to the target in the block's frame: (3,) -> (3,)."""
    angle = (TARGET[2] - pose[2] + np.pi) % (2 * np.pi) - np.pi
    return np.array([*to_block(TARGET[None, :2], pose)[0], GYRATION * angle])


SPEED, PUSH_SPEED = 0.22, 0.13  # m/s, while walking; at most while pushing
# Of a turn against a move, when the demonstrator decides what to mend first. A turn spoils later moves: mend it early.
TURN_WEIGHTS = (1.3, 4.0, 0.4)  # by mode: the larger error, turns first, moves first


class PushTExpert(Expert):
    """Demonstrates PushT. Its modes differ in what is mended first; a detour is the long way round the block."""

    task = PushT()
    demo_task = PushT(success_overlap=0.93)  # a little past what counts, so that a clone's small errors still succeed
    human = Style(noise=0.25, knock=0.005, pause=0.5)  # the published human data rest 0.4 s at a time
    n_modes = len(TURN_WEIGHTS)
    # The contact (-1: to be chosen), which entry of `missing` its push mends, the way round (1, -1, ASKED, or 0: none).
    mind: ClassVar[dict[str, object]] = {"_contact": -1, "_part": 0, "_detour": 0}

    def _act(self, state: np.ndarray) -> np.ndarray:
        target = state[:, 5:].copy()
        for i in np.flatnonzero(self._alive):
            target[i] = self._act_one(i, state[i, :2], state[i, 2:5], state[i, 5:])
        return target

    def _act_one(self, i: int, pusher: np.ndarray, pose: np.ndarray, command: np.ndarray) -> np.ndarray:
        if self._contact[i] < 0 or self._push_left(i, pose) < DONE:
            before = self._contact[i]
            self._contact[i], self._part[i] = self._choose(pose)
            if before not in (-1, self._contact[i]):
                self._pause(i)
            detour = self.style.detour > 0 and self._generators[i].random() < self.style.detour
            self._detour[i] = ASKED if detour else 0
        if self._wait[i] > 0:
            return command
        c, local = self._contact[i], to_block(pusher[None], pose)[0]
        point, normal = POINTS[c], NORMALS[c]
        height, aside = (local - point) @ normal - PUSHER_RADIUS, (local - point) @ np.array([-normal[1], normal[0]])
        if abs(aside) < 0.006 and -0.006 < height < CLEARANCE + 0.006:
            # In front of the contact: close in gently, then press on, slower as the block gets near its place.
            advance = np.clip(0.7 * self._push_left(i, pose), 0.004, self.style.speed * PUSH_SPEED * STEP)
            goal = point + normal * (PUSHER_RADIUS - (advance if height < 0.004 else 0.002))
        else:
            goal = self._way(i, local, c, pose)
        move = goal - local
        move *= min(1.0, self.style.speed * SPEED * STEP / max(np.linalg.norm(move), 1e-9))
        return to_world((local + move)[None], pose)[0]

    def _push_left(self, i: int, pose: np.ndarray) -> float:
        """Metres of push at the present contact until the part of the error that it mends is gone."""
        part = self._part[i]
        return float(missing(pose)[part] / TWISTS[self._contact[i], part])

    def _choose(self, pose: np.ndarray) -> tuple[int, int]:
        """The contact to push at, and the part of the error that it mends: the largest one that can be reached."""
        x, y, turn = error = missing(pose)
        right = int(turn <= 0)  # which of a pair of contacts turns the way that is missing
        choices = {  # of two contacts that mend a part, the one whose side effect also helps comes first
            0: [4 + right, 5 - right] if x > 0 else [6 + right, 7 - right],
            1: [8] if y > 0 else [9],
            2: [right, 2 + right] if y > 0 else [2 + right, right],
        }
        order = np.argsort(-np.abs(error) * np.array([1.0, 1.0, TURN_WEIGHTS[self.style.mode or 0]]))
        reachable, ways = _on_table(FRONTS, pose), [(c, part) for part in order.tolist() for c in choices[part]]
        # Where nothing can be reached, the episode will run out of time.
        return next((way for way in ways if reachable[way[0]]), (choices[0][0], 0))

    def _way(self, i: int, local: np.ndarray, c: int, pose: np.ndarray) -> np.ndarray:
        """Where to walk next, in the block's frame: straight to the contact's front if free, else around the ring."""
        if not self._detour[i] and _free(local, FRONTS[c]):
            return FRONTS[c]
        n, here = len(RING), ((RING - local) ** 2).sum(axis=1).argmin()
        steps = np.array([(AHEAD[c] - here) % n, (here - AHEAD[c]) % n])  # anticlockwise, clockwise
        off = ~_on_table(RING, pose)
        blocked = [off[(here + np.arange(s + 1) * way) % n].any() for s, way in zip(steps, (1, -1), strict=True)]
        way = (1, -1)[int((steps + 10 * n * np.array(blocked)).argmin())]
        if self._detour[i] == ASKED:  # the way round that nobody needs, where the table has room for it
            self._detour[i] = -way
        if self._detour[i] == way or any(blocked):
            self._detour[i] = 0  # the rest of the long way is the short one
        way = self._detour[i] or way
        far = np.linalg.norm(local - RING[here]) > 0.02 and _free(local, RING[here])
        ahead = RING[(here + way * np.arange(2, 30, 2)) % n]
        seen = list(itertools.takewhile(lambda point: _free(local, point), ahead))
        return [RING[here] if far else ahead[0], *seen][-1]  # the farthest point of the ring in sight


def _on_table(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Which points (n, 2) of the block's frame the pusher can reach: (n,)."""
    world = to_world(points, pose)
    return ((world > 0.003) & (world < WORLD - 0.003)).all(axis=-1)


def _free(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the straight way from a to b (block's frame) keeps off the block."""
    points = a + (b - a) * np.linspace(0.1, 1, 12)[:, None]
    return bool((distance_to_block(points, np.zeros((12, 3))) > PUSHER_RADIUS + 0.5 * CLEARANCE).all())
