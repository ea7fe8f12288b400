"""A session of driving a task by hand: what is recorded, kept, undone and saved. No widgets and no browser in here.

The task advances at its own control rate, so that recordings mix with any other data of the task. Pictures and input
need at least 15 a second: where the task is slower (PushT: 10 Hz), each control step is shown in equal parts, and the
hand is read once a control step, at its beginning. A recorded action is the target that the hand meant, in the task's
own units; the state beside it is the one before the step, as in `ilbook.experts`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ilbook.data import files
from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.tasks.base import Task
from ilbook.teleop.hands import COMMAND_BUTTONS, COMMAND_KEYS, Inputs
from ilbook.teleop.pilots import Place, pilot_for

SHOWN_HZ = 16.0  # pictures a second, at least
PATIENCE = 3.0  # s without a sign of life from the page, after which a recording ends
SLACK = 2.0  # times the steps that a policy has: people are slower, above all at first
LET_GO = 0.5  # s without a sign of life, after which the hand counts as lifted
REST = 2.0  # s without input, after which an idle session stops stepping and drawing
IDLE, WAITING, RECORDING = "idle", "waiting", "recording"
BUSY = "An episode is being recorded; stop or discard it first."
RING, FRAME = (213, 94, 0), (204, 0, 0)  # colours of the target and of the frame around a picture that is recorded


@dataclass
class Recording:
    """One episode by hand; `states` and `actions` hold a row for each control step."""

    seed: int  # of the start
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    devices: set[str] = field(default_factory=set)
    outcome: str = ""  # success, failure, time, stopped, connection lost
    score: float = 0.0

    def __len__(self) -> int:
        return len(self.actions)

    def __str__(self) -> str:
        return f"{self.outcome}, {len(self)} steps"


@dataclass(frozen=True)
class Shot:
    """What to draw now."""

    qpos: np.ndarray  # (nq,)
    target: tuple[Place, ...]  # a line from the target on, in shares of the picture
    recording: bool


class Session:
    """Drives one copy of a task by hand and keeps episodes. Every method may be called from any thread.

    States: idle (driving is practice), waiting (a fresh start; the first move begins the recording), recording. An
    episode ends with success, failure, the time limit or `stop`; each one kept is also in `recovery`, a file in the
    folder `out`, until it is saved. A session that finds such a file takes its episodes over. A hand has `slack` times
    the steps of a policy; a page that is silent for `PATIENCE` seconds ends the episode, which is kept.
    """

    def __init__(
        self,
        task: Task | type[Task],
        out: str | Path,
        *,
        seed: int = 0,
        slack: float = SLACK,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.task = task = task() if isinstance(task, type) else task
        self.out = Path(out)
        shifts = "".join(f"-{name}{strength:g}" for name, strength in task.shift)
        self.recovery = self.out / f"{task.name}{shifts}-unsaved.npz"
        self.pilot = pilot_for(task)
        self.parts = math.ceil(SHOWN_HZ / task.control_hz)  # pictures in a control step
        self.period = 1.0 / (task.control_hz * self.parts)  # s between two ticks
        self.state = IDLE
        self.message = "Press Record, then move."
        self.kept: list[Recording] = []
        self.woken = threading.Event()  # set by anything that a sleeping session must answer
        self._clock, self._lock = clock, threading.RLock()
        self._sim = replace(task, max_steps=math.ceil(slack * task.max_steps)).batch(1, threads=1)
        self._inputs = Inputs()
        self._current: Recording | None = None
        self._sure = 0  # steps of it until the page was last heard
        self._step_times: deque[float] = deque(maxlen=2 * math.ceil(task.control_hz) + 1)
        self._heard = self._busy = clock()
        self._recover()
        self._next_seed = max([seed - 1, *(one.seed for one in self.kept)]) + 1
        self._reset(self._next_seed)

    # -- what the page sends ------------------------------------------------------------------------------------------
    def feed(self, event: dict) -> None:
        """Take an event of the mouse or the keyboard, as ipyevents sends it. Enter: record or stop; Backspace: discard;
        Z: undo.
        """
        with self._lock:
            self._stir()
            self._inputs.feed(event, self._clock())
            command = COMMAND_KEYS.get(str(event.get("key") or "").lower())
            if command and event.get("type") == "keydown" and not event.get("repeat"):
                self.command(command)

    def pad(self, axes: Sequence[float], pressed: Sequence[bool]) -> None:
        """Take the present axes and buttons of a gamepad. Start: record or stop; Back: discard."""
        with self._lock:
            new = self._inputs.pad(axes, pressed)
            if self._inputs.pad_in_use:
                self._stir()
            for number in new & COMMAND_BUTTONS.keys():
                self.command(COMMAND_BUTTONS[number])

    def hear(self) -> None:
        """The page showed a sign of life, such as the receipt of a picture."""
        self._heard, self._sure = self._clock(), len(self._current or ())

    def command(self, name: str) -> None:
        """Run record, stop, discard, undo or toggle (record or stop); what is wrong with it becomes the message."""
        with self._lock:
            self._stir()
            if name == "toggle":
                name = {IDLE: "record", WAITING: "discard", RECORDING: "stop"}[self.state]
            {"record": self._start, "stop": self._stop, "discard": self._discard, "undo": self._undo}[name]()

    def _stir(self) -> None:
        self.hear()
        self._busy = self._heard
        self.woken.set()

    # -- commands -----------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        """Put the task at a new start; the first move begins the recording."""
        if self.state != IDLE:
            self.message = BUSY
            return
        self._reset(self._next_seed)
        self._current = Recording(self._next_seed)
        self._next_seed += 1
        self.state, self.message = WAITING, "Ready: the recording begins with your first move."

    def _stop(self) -> None:
        """End the episode and keep what was recorded."""
        if self.state == IDLE:
            self.message = "Nothing is being recorded; press Record first."
        else:
            self._finish("stopped")

    def _discard(self) -> None:
        """End the episode and forget it."""
        if self.state == IDLE:
            self.message = "There is no running episode to discard; Undo removes the last one that was kept."
        else:
            self._current, self.state, self.message = None, IDLE, "Discarded. Press Record for a new start."

    def _undo(self) -> None:
        """Forget the last episode that was kept."""
        if self.state != IDLE:
            self.message = BUSY
        elif not self.kept:
            self.message = "There is no recorded episode to remove."
        else:
            self.message = f"Removed the last episode ({self.kept.pop()})."
            self._keep_safe()

    def episodes(self) -> Episodes:
        """All kept episodes: arrays state (T, S) and action (T, A), float32; `meta` says how each one ended."""
        with self._lock:
            if not self.kept:
                raise UserError("no episode was recorded yet; press Record and drive")
            kept = list(self.kept)
        arrays = {
            "state": np.stack([row for one in kept for row in one.states]),
            "action": np.stack([row for one in kept for row in one.actions]),
        }
        meta = {
            "task": self.task.name,
            "source": "teleoperation",
            "control_hz": self.task.control_hz,
            "strengths": dict(self.task.shift),
            "outcome": [one.outcome for one in kept],
            "score": [round(one.score, 4) for one in kept],
            "seed": [one.seed for one in kept],
            "devices": [sorted(one.devices) for one in kept],
        }
        return Episodes(arrays, np.cumsum([len(one) for one in kept]), meta)

    def save(self, path: str | Path | None = None, force: bool = False) -> tuple[Path, int]:
        """Write all kept episodes to an .npz; returns the file and how many. A plain name lands in the folder `out`.

        UserError while recording, without episodes, or where a file is in the way and `force` is not given.
        """
        path = self.out / (path or f"{self.task.name}-by-hand.npz")
        if path.suffix != ".npz":
            raise UserError(f"{path.name}: episodes are saved as .npz; name it {path.stem}.npz")
        with self._lock:
            if self.state != IDLE:
                raise UserError("an episode is being recorded; stop or discard it before saving")
            episodes = self.episodes()
            if path.exists() and not force:
                raise UserError(f"{path.name} exists already; choose another name, or tick Replace (force=True)")
            files.save(path, episodes)
            self.recovery.unlink(missing_ok=True)
            self.message = f"Saved {len(episodes)} {'episode' if len(episodes) == 1 else 'episodes'} to {path}"
            return path, len(episodes)

    # -- time ---------------------------------------------------------------------------------------------------------
    def tick(self) -> Shot | None:
        """Advance by one `period`; what to draw, or None when nothing changed. Does not wait."""
        with self._lock:
            if self._part == 0:
                if self.state == IDLE and self._clock() - self._busy > REST:
                    self._step_times.clear()
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
    def step_rate(self) -> float:
        """Control steps a second over the last two seconds; 0 at rest."""
        with self._lock:
            return rate(self._step_times)

    @property
    def seconds(self) -> float:
        """Length of the episode that is being recorded."""
        return len(self._current or ()) / self.task.control_hz

    def _control(self) -> None:
        now, sim = self._clock(), self._sim
        if self.state != IDLE and now - self._heard > PATIENCE:
            # The page is gone: keep what was recorded up to its last sign of life.
            del self._current.states[self._sure :], self._current.actions[self._sure :]
            self._finish("connection lost")
        if now - self._heard > LET_GO:
            self._inputs.release()
        hand = self._inputs.look(now)
        if hand.devices:
            self._busy = now
        state = sim.state[0]
        action = self.pilot.act(hand, state)
        self._target = self.pilot.where(action)
        if self.state == WAITING and hand.devices:
            self.state, self.message = RECORDING, "Recording."
        if self.state == RECORDING:
            self._current.states.append(state.astype(np.float32))
            self._current.actions.append(np.asarray(action, dtype=np.float32))
            self._current.devices |= hand.devices
        if self.state != WAITING and not sim.done[0]:
            sim.step(action[None])
            self._step_times.append(now)
        if self.state == RECORDING and sim.done[0]:
            self._finish("success" if sim.success[0] else "failure" if sim.failure[0] else "time")

    def _finish(self, outcome: str) -> None:
        current, self._current, self.state = self._current, None, IDLE
        if not current:
            self.message = "Nothing was recorded. Press Record for a new start."
            return
        current.outcome, current.score = outcome, self.score
        self.kept.append(current)
        self.message = f"Kept episode {len(self.kept)} ({current}). Press Record for the next."
        self._keep_safe()

    def _reset(self, seed: int) -> None:
        self._sim.reset(self.task.starts([seed]))
        self.pilot.reset()
        self._inputs.release()
        self._before = self._after = self._sim.state[0, : self._sim.nq]
        self._part, self._target = 0, self.pilot.where(self._sim.command[0])
        self._busy = self._clock()

    # -- unsaved episodes ---------------------------------------------------------------------------------------------
    def _keep_safe(self) -> None:
        """Write what is not saved yet; a full disk must not end the session."""
        try:
            if self.kept:
                files.save(self.recovery, self.episodes())
            else:
                self.recovery.unlink(missing_ok=True)
        except (UserError, OSError) as error:
            self.message += f" It is in memory only: {error}"

    def _recover(self) -> None:
        if not self.recovery.exists():
            return
        sizes = {"state": len(self.task.state_names), "action": len(self.task.action_low)}
        try:
            old = files.read(self.recovery, sizes)
            listed = [old.meta[key] for key in ("seed", "outcome", "score", "devices")]
            for episode, seed, outcome, score, devices in zip(old, *listed, strict=True):
                rows = list(episode["state"]), list(episode["action"])
                self.kept.append(Recording(int(seed), *rows, set(devices), str(outcome), float(score)))
        except (UserError, KeyError, TypeError, ValueError):
            self.kept.clear()
            aside = self.recovery.with_suffix(".damaged")
            self.recovery.replace(aside)
            self.message = f"The unsaved episodes of an earlier session cannot be read; they are in {aside.name} now."
            return
        self.message = f"{len(self.kept)} unsaved of an earlier session taken over. Press Record to go on."


def rate(times: Sequence[float]) -> float:
    """Events a second."""
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0


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
