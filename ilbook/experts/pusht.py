"""A scripted PushT demonstrator: find the largest part of the error, walk round to the contact that mends it, push.

Under viscous friction a push along the inward normal of a face moves and turns the block along one known twist (Lynch
and Mason 1996 treat the general case). Ten contacts are enough; simple rules make the demonstrator easy to imitate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.experts.record import record
from ilbook.tasks.pusht import OUTLINE, PUSHER_RADIUS, TARGET, WORLD, PushT, distance_to_block, to_block, to_world

STEP = 1.0 / PushT.control_hz  # s
GYRATION = 0.0439  # m, radius of gyration of the T: turning by 1 rad costs as much friction work as moving this far
CLEARANCE = 0.012  # m, between pusher and block while walking around it
INNER = (2, 7)  # corners of the outline that point inwards
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
    travelled = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(loop, axis=0), axis=1))])
    at = np.arange(0, travelled[-1], spacing)
    return np.column_stack([np.interp(at, travelled, loop[:, i]) for i in range(2)])


RING = _ring(PUSHER_RADIUS + CLEARANCE, spacing=0.005)  # where the pusher walks, in the block's frame
FRONTS = POINTS + NORMALS * (PUSHER_RADIUS + CLEARANCE)  # where it stands before a push
AHEAD = ((FRONTS[:, None] - RING) ** 2).sum(axis=-1).argmin(axis=1)  # the point of the ring nearest to each front


def missing(pose: np.ndarray) -> np.ndarray:
    """Move (m) and turn (m, angle times radius of gyration) to the target in the block's frame: (3,) -> (3,)."""
    angle = (TARGET[2] - pose[2] + np.pi) % (2 * np.pi) - np.pi
    return np.array([*to_block(TARGET[None, :2], pose)[0], GYRATION * angle])


@dataclass(frozen=True)
class Style:
    """How a demonstrator moves; all chance comes from the seeds given to the expert."""

    speed: float = 0.22  # m/s while walking
    push_speed: float = 0.13  # m/s at most while pushing
    pause: float = 0.5  # s of thought before each new push, mean; the published human data rest 0.4 s at a time
    slip: float = 0.25  # of the distance moved: standard deviation of the executed error
    slip_memory: float = 0.8  # of the error that is left in the next step
    knock: float = 0.005  # chance per step that the hand is pushed aside for some steps


STEADY = Style(pause=0.0, slip=0.0, knock=0.0)


class PushTExpert:
    """Demonstrates PushT in N copies; `act` maps states (N, 7) to target positions of the pusher (N, 2).

    Every choice of copy i comes from `seeds[i]`. Before a target is executed, `slip` moves it by an error in proportion
    to the distance moved (Harris and Wolpert 1998) and by rare knocks; recording the clean target makes the data hold
    recoveries, as in DART (Laskey et al. 2017).
    """

    def __init__(self, n_copies: int, style: Style = STEADY, seeds: Sequence[Sequence[int]] | None = None):
        self.style = style
        self.seeds = [(i,) for i in range(n_copies)] if seeds is None else list(seeds)
        if len(self.seeds) != n_copies:
            raise UserError(f"a PushT expert for {n_copies} copies needs as many seeds, not {len(self.seeds)}")
        self.reset()

    def reset(self) -> None:
        n = len(self.seeds)
        self._rngs = [np.random.default_rng(seed) for seed in self.seeds]
        self._contact = np.full(n, -1)  # -1: to be chosen
        self._part = np.zeros(n, dtype=int)  # which entry of `missing` the present push mends
        self._wait = np.zeros(n, dtype=int)  # steps that the demonstrator still thinks
        self._moved = np.zeros(n)  # m, length of the last clean move
        self._error = np.zeros((n, 2))
        self._knock, self._knock_left = np.zeros((n, 2)), np.zeros(n, dtype=int)

    def act(self, state: np.ndarray) -> np.ndarray:
        action = np.stack([self._act(i, s[:2], s[2:5], s[5:]) for i, s in enumerate(state)])
        self._moved = np.linalg.norm(action - state[:, 5:], axis=1)
        return action

    def slip(self, action: np.ndarray) -> np.ndarray:
        """What the hand does instead of `action` (N, 2)."""
        style = self.style
        fresh = np.stack([rng.standard_normal(5) for rng in self._rngs])
        self._error = style.slip_memory * self._error + np.sqrt(1 - style.slip_memory**2) * fresh[:, :2]
        chance = np.stack([rng.random(2) for rng in self._rngs])
        hit = (chance[:, 0] < style.knock) & (self._knock_left == 0)
        self._knock_left = np.where(hit, 3 + (4 * chance[:, 1]).astype(int), np.maximum(self._knock_left - 1, 0))
        self._knock[hit] = 0.012 * fresh[hit, 2:4] / np.linalg.norm(fresh[hit, 2:4], axis=1, keepdims=True)
        return action + style.slip * self._moved[:, None] * self._error + self._knock * (self._knock_left > 0)[:, None]

    def _act(self, i: int, pusher: np.ndarray, pose: np.ndarray, command: np.ndarray) -> np.ndarray:
        if self._contact[i] < 0 or self._push_left(i, pose) < DONE:
            before = self._contact[i]
            self._contact[i], self._part[i] = self._choose(pose)
            if before not in (-1, self._contact[i]):
                self._wait[i] = self._rngs[i].poisson(self.style.pause / STEP)
        if self._wait[i] > 0:
            self._wait[i] -= 1
            return command
        c, local = self._contact[i], to_block(pusher[None], pose)[0]
        point, normal = POINTS[c], NORMALS[c]
        height, aside = (local - point) @ normal - PUSHER_RADIUS, (local - point) @ np.array([-normal[1], normal[0]])
        if abs(aside) < 0.006 and -0.006 < height < CLEARANCE + 0.006:
            # In front of the contact: close in gently, then press on, slower as the block gets near its place.
            advance = np.clip(0.7 * self._push_left(i, pose), 0.004, self.style.push_speed * STEP)
            goal = point + normal * (PUSHER_RADIUS - (advance if height < 0.004 else 0.002))
        else:
            goal = self._way(local, c, pose)
        move = goal - local
        move *= min(1.0, self.style.speed * STEP / max(np.linalg.norm(move), 1e-9))
        return to_world((local + move)[None], pose)[0]

    def _push_left(self, i: int, pose: np.ndarray) -> float:
        """Metres of push at the present contact until the part of the error that it mends is gone."""
        part = self._part[i]
        return float(missing(pose)[part] / TWISTS[self._contact[i], part])

    @staticmethod
    def _choose(pose: np.ndarray) -> tuple[int, int]:
        """The contact to push at, and the part of the error that it mends: the largest one that can be reached.

        Of the two contacts that mend a part, the one whose side effect also helps comes first.
        """
        x, y, turn = error = missing(pose)
        right = int(turn <= 0)  # which of a pair of contacts turns the way that is missing
        choices = {
            0: [4 + right, 5 - right] if x > 0 else [6 + right, 7 - right],
            1: [8] if y > 0 else [9],
            2: [right, 2 + right] if y > 0 else [2 + right, right],
        }
        reachable = _on_table(FRONTS, pose)
        for part in np.argsort(-np.abs(error) * np.array([1.0, 1.0, 1.3])):  # a turn spoils later moves: mend it early
            for contact in choices[int(part)]:
                if reachable[contact]:
                    return contact, int(part)
        return choices[0][0], 0  # nothing can be reached: the episode will run out of time

    def _way(self, local: np.ndarray, c: int, pose: np.ndarray) -> np.ndarray:
        """Where to walk next, in the block's frame: straight to the contact's front if free, else around the ring."""
        if _free(local, FRONTS[c]):
            return FRONTS[c]
        n, here = len(RING), ((RING - local) ** 2).sum(axis=1).argmin()
        steps = np.array([(AHEAD[c] - here) % n, (here - AHEAD[c]) % n])  # anticlockwise, clockwise
        off = ~_on_table(RING, pose)
        blocked = [off[(here + np.arange(s + 1) * way) % n].any() for s, way in zip(steps, (1, -1), strict=True)]
        way = (1, -1)[int((steps + 10 * n * np.array(blocked)).argmin())]
        far = np.linalg.norm(local - RING[here]) > 0.02 and _free(local, RING[here])
        best = RING[here] if far else RING[(here + way * 2) % n]
        for k in range(2, 30, 2):  # the farthest point of the ring in sight
            candidate = RING[(here + way * k) % n]
            if not _free(local, candidate):
                break
            best = candidate
        return best


def _on_table(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Which points (n, 2) of the block's frame the pusher can reach: (n,)."""
    world = to_world(points, pose)
    return ((world > 0.003) & (world < WORLD - 0.003)).all(axis=-1)


def _free(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the straight way from a to b (block's frame) keeps off the block."""
    points = a + (b - a) * np.linspace(0.1, 1, 12)[:, None]
    return bool((distance_to_block(points, np.zeros((12, 3))) > PUSHER_RADIUS + 0.5 * CLEARANCE).all())


class _Precise(PushT):
    """Demonstrations go on a little past the 90 % that count, so that a clone's small errors still succeed."""

    success_overlap = 0.93


def demonstrate(n: int, seed: int, style: Style | None = None) -> Episodes:
    """`n` successful demonstrations: arrays state (T, 7) and action (T, 2), float32. Actions are the clean targets.

    Starts whose demonstration fails are passed over; `meta["tried"]` tells how many starts were needed.
    """
    if n < 1:
        raise UserError(f"{n} demonstrations asked for; ask for at least 1")
    states, actions, tried = [], [], 0
    while len(states) < n:
        count = n - len(states)
        for episode in _attempt([(seed, tried + i) for i in range(count)], style or Style()):
            if episode is not None:
                states.append(episode[0])
                actions.append(episode[1])
        tried += count
    ends = np.cumsum([len(a) for a in actions])
    return Episodes({"state": np.concatenate(states), "action": np.concatenate(actions)}, ends, {"tried": tried})


def _attempt(seeds: list[tuple[int, int]], style: Style) -> list:
    """One attempt per seed: its states (T, 7) and actions (T, 2), or None where the time ran out."""
    task = _Precise(len(seeds))
    task.reset(np.stack([task.start(np.random.default_rng([*seed, 1])) for seed in seeds]))
    expert = PushTExpert(len(seeds), style, seeds)
    states, actions = record(task, expert)
    return [(states[i, :t], actions[i, :t]) if task.success[i] else None for i, t in enumerate(task.length)]
