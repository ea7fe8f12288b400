"""A session of driving a task by hand: what is recorded, kept, undone and saved. No widgets and no browser in here.

The task advances at its own control rate. Where that is too slow to look at (PushT: 10 Hz), each control step is shown
in equal parts; the hand is read at its beginning. A recorded action is the target that the hand meant, in the task's
own units; the state beside it is the one before the step, as in `ilbook.experts`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ilbook.data import files
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.tasks.base import Task
from ilbook.teleop.hands import Inputs
from ilbook.teleop.pilots import Place, pilot_for

SHOWN_HZ = 16.0  # pictures a second, at least
PATIENCE = 3.0  # s without a sign of life from the page, after which a recording ends
SLACK = 2.0  # times the steps that a policy has: people are slower, above all at first
REST = 2.0  # s without input, after which an idle session stops stepping and drawing
IDLE, WAITING, RECORDING = "idle", "waiting", "recording"
RING, FRAME = (213, 94, 0), (204, 0, 0)  # colours of the target and of the frame around a picture that is recorded


@dataclass
class Recording:
    """One episode by hand."""

    seed: int  # of the start
    steps: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # state (S,) and action (A,) of each
    outcome: str = ""  # success, failure, time, stopped, connection lost
    score: float = 0.0

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Shot:
    """What to draw now."""

    qpos: np.ndarray  # (nq,)
    target: tuple[Place, ...]  # a line from the target on, in shares of the picture
    recording: bool


class Session:
    """Drives one copy of a task by hand and keeps episodes. Every method may be called from any thread.

    States: idle (driving is practice), waiting (a fresh start; the first move begins the recording), recording. An
    episode ends with success, failure, the time limit, `stop`, or a page that is silent for `PATIENCE` seconds. What is
    kept and not saved yet is also in the file `unsaved`, in case that the kernel dies.
    """

    def __init__(self, task: Task, out: str | Path, *, seed: int = 0, clock: Callable[[], float] = time.monotonic):
        self.task, self.out = task, Path(out)
        self.unsaved = self.out / f"{task.name}-unsaved-{time.strftime('%Y%m%d-%H%M%S')}.npz"
        self.pilot = pilot_for(task)
        self.parts = math.ceil(SHOWN_HZ / task.control_hz)  # pictures in a control step
        self.period = 1.0 / (task.control_hz * self.parts)  # s between two ticks
        self.state, self.message = IDLE, "Press Record, then move."
        self.kept: list[Recording] = []
        self.woken = threading.Event()  # set by anything that a sleeping session must answer
        self._clock, self._lock = clock, threading.RLock()
        self._sim = replace(task, max_steps=math.ceil(SLACK * task.max_steps)).batch(1, threads=1)
        self._inputs = Inputs()
        self._current, self._next_seed = Recording(seed), seed
        self.hear()
        self._reset(seed)

    # -- what the page sends ------------------------------------------------------------------------------------------
    def feed(self, event: dict) -> None:
        """Take an event of the mouse or the keyboard, as ipyevents sends it."""
        with self._lock:
            self._stir()
            self._inputs.feed(event)

    def pad(self, axes: Sequence[float], pressed: Sequence[bool]) -> None:
        """Take the present axes and buttons of a gamepad."""
        with self._lock:
            if self._inputs.pad(axes, pressed):
                self._stir()

    def hear(self) -> None:
        """The page showed a sign of life, such as the receipt of a picture; up to here the episode is sure."""
        self._heard, self._sure = self._clock(), len(self._current)

    def _stir(self) -> None:
        self.hear()
        self._busy = self._heard
        self.woken.set()

    # -- commands: one that does not fit the state does nothing -------------------------------------------------------
    def record(self) -> None:
        """Put the task at a new start; the first move begins the recording."""
        with self._lock:
            self._stir()
            if self.state == IDLE:
                self._reset(self._next_seed)
                self._current, self._next_seed = Recording(self._next_seed), self._next_seed + 1
                self.state, self.message = WAITING, "Ready: the recording begins with your first move."

    def stop(self) -> None:
        """End the episode and keep what was recorded."""
        with self._lock:
            self._stir()
            if self.state != IDLE:
                self._finish("stopped")

    def discard(self) -> None:
        """End the episode and forget it."""
        with self._lock:
            self._stir()
            if self.state != IDLE:
                self.state, self.message = IDLE, "Discarded. Press Record for a new start."

    def toggle(self) -> None:
        """Record, or stop."""
        self.record() if self.state == IDLE else self.stop()

    def undo(self) -> None:
        """Forget the last episode that was kept."""
        with self._lock:
            if self.state == IDLE and self.kept:
                self.kept.pop()
                self.message = "Removed the last episode."
                self._keep_safe()

    def episodes(self) -> Episodes:
        """All kept episodes: arrays state (T, S) and action (T, A), float32; `meta` says how each one ended."""
        with self._lock:
            if not self.kept:
                raise UserError("no episode was recorded yet; press Record and drive")
            kept = list(self.kept)
        states, actions = zip(*(step for one in kept for step in one.steps), strict=True)
        meta = {
            "task": self.task.name, "source": "teleoperation", "control_hz": self.task.control_hz,
            "strengths": dict(self.task.shift), "outcome": [one.outcome for one in kept],
            "score": [round(one.score, 4) for one in kept], "seed": [one.seed for one in kept],
        }  # fmt: skip
        return Episodes(
            {"state": np.stack(states), "action": np.stack(actions)}, np.cumsum([len(one) for one in kept]), meta
        )

    def save(self, name: str) -> Path:
        """Write all kept episodes to an .npz in the folder `out`; returns the file.

        UserError while recording, without episodes, or where a file is in the way.
        """
        path = self.out / name
        if path.suffix != ".npz":
            raise UserError(f"{path.name}: episodes are saved as .npz; name it {path.stem}.npz")
        with self._lock:
            if self.state != IDLE:
                raise UserError("an episode is being recorded; stop or discard it before saving")
            episodes = self.episodes()
            if path.exists():
                raise UserError(f"{path.name} exists already; choose another name")
            files.save(path, episodes)
            self.unsaved.unlink(missing_ok=True)
            self.message = f"Saved {len(episodes)} {'episode' if len(episodes) == 1 else 'episodes'} to {path}"
            return path

    # -- time ---------------------------------------------------------------------------------------------------------
    def tick(self) -> Shot | None:
        """Advance by one `period`; what to draw, or None when nothing changed. Does not wait."""
        with self._lock:
            if self._part == 0:
                if self.state == IDLE and self._clock() - self._busy > REST:
                    self.woken.clear()
                    return None
                self._before = self._after
                self._control()
                self._after = self._sim.state[0, : self._sim.nq]
            self._part = (self._part + 1) % self.parts
            return self.shot()

    def shot(self) -> Shot:
        """What to draw now; between two control steps the positions are interpolated."""
        with self._lock:
            share = (self._part or self.parts) / self.parts
            qpos = self._before + share * (self._after - self._before)
            return Shot(qpos, self._target, self.state == RECORDING)

    @property
    def score(self) -> float:
        return float(self._sim.score[0])

    @property
    def seconds(self) -> float:  # of the episode that is being recorded
        return len(self._current) / self.task.control_hz

    def _control(self) -> None:
        now, sim = self._clock(), self._sim
        if self.state != IDLE and now - self._heard > PATIENCE:
            # The page is gone: keep what was recorded up to its last sign of life.
            del self._current.steps[self._sure :]
            self._inputs.release()
            self._finish("connection lost")
        hand = self._inputs.look()
        if hand.busy:
            self._busy = now
        state = sim.state[0]
        action = self.pilot.act(hand, state)
        self._target = self.pilot.where(action)
        if self.state == WAITING and hand.busy:
            self.state, self.message = RECORDING, "Recording."
        if self.state == RECORDING:
            self._current.steps.append((state.astype(np.float32), np.asarray(action, dtype=np.float32)))
        if self.state != WAITING and not sim.done[0]:
            sim.step(action[None])
        if self.state == RECORDING and sim.done[0]:
            self._finish("success" if sim.success[0] else "failure" if sim.failure[0] else "time")

    def _finish(self, outcome: str) -> None:
        current, self.state = self._current, IDLE
        if not current:
            self.message = "Nothing was recorded. Press Record for a new start."
            return
        current.outcome, current.score = outcome, self.score
        self.kept.append(current)
        self.message = f"Kept episode {len(self.kept)} ({outcome}, {len(current)} steps). Press Record for the next."
        self._keep_safe()

    def _keep_safe(self) -> None:
        """Write what is not saved yet; a full disk must not end the session."""
        try:
            if self.kept:
                files.save(self.unsaved, self.episodes())
            else:
                self.unsaved.unlink(missing_ok=True)
        except (UserError, OSError) as error:
            self.message += f" It is in memory only: {error}"

    def _reset(self, seed: int) -> None:
        self._sim.reset(self.task.starts([seed]))
        self.pilot.reset()
        self._inputs.release()
        self._before = self._after = self._sim.state[0, : self._sim.nq]
        self._part, self._target = 0, self.pilot.where(self._sim.command[0])
        self._busy = self._clock()


def paint(frame: np.ndarray, shot: Shot) -> np.ndarray:
    """A picture (H, H, 3) with a ring at the target, and with a red frame while it is recorded."""
    picture = Image.fromarray(frame)
    brush, size = ImageDraw.Draw(picture), len(frame)
    points, r = [(size * x, size * y) for x, y in shot.target], size / 60
    x, y = points[0]
    brush.ellipse((x - r, y - r, x + r, y + r), outline=RING, width=max(1, size // 150))
    brush.line(points, fill=RING, width=1)
    if shot.recording:
        brush.rectangle((0, 0, size - 1, size - 1), outline=FRAME, width=max(2, size // 96))
    return np.asarray(picture)
