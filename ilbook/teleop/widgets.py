"""Controls for notebooks, each with a static twin for the page: `teleop` drives a task by hand and records."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ipywidgets as ipw
import mediapy
import numpy as np
import traitlets
from ipyevents import Event

from ilbook import experts
from ilbook.draw.render import renderer
from ilbook.errors import UserError
from ilbook.page import media
from ilbook.page.live import is_live
from ilbook.paths import build
from ilbook.rollout.record import record
from ilbook.tasks.base import Task
from ilbook.teleop.pilots import pilot_for
from ilbook.teleop.session import IDLE, RECORDING, WAITING, Session, Shot, paint

SIZE = 384  # pixels of the picture, a side
FILM_SIZE = 256  # of the film on the page
UNSEEN = 6  # pictures on their way to the page; when more are, the next ones wait
PROBE = 1.0  # s after which one more is sent anyway: a page that was reloaded must have something to receive
MOUSE_EVERY = 25  # ms between two moves of the mouse that are sent
STATUS_EVERY = 4  # pictures
JPEG_QUALITY = 80  # 7 kB for a picture of 384 x 384: at 20 a second a seventh of what Jupyter lets through
EVENTS = ("mousedown", "mouseup", "mouseleave", "wheel", "keydown", "keyup", "dragstart")
WORDS = {IDLE: "practice", WAITING: "ready", RECORDING: "recording"}

_open: dict[tuple[Task, Path], Teleop] = {}  # the last of each task and folder


class _Screen(ipw.Image):
    """A picture whose number the page sends back when it has received it."""

    number = traitlets.Int(0).tag(sync=True)


class Teleop(ipw.VBox):
    """The picture, buttons and status of a session; a thread of its own steps, draws and sends.

    Pictures are dropped, never steps, when the page cannot follow. `close` ends the thread.
    """

    def __init__(self, session: Session, start: bool = True):
        self.session, self.sent = session, 0  # pictures
        self._draw = renderer(session.task, SIZE)
        self._sent_at = 0.0
        self._closing = threading.Event()
        self._build(session)
        self._show(session.shot())
        self._refresh()
        self._thread = threading.Thread(target=self._run, name="ilbook-teleop", daemon=True)
        if start:
            self._thread.start()

    # -- what the reader sees -----------------------------------------------------------------------------------------
    def _build(self, session: Session) -> None:
        side = f"{SIZE}px"
        self.screen = _Screen(format="jpeg", layout={"width": side, "height": side, "flex": "0 0 auto"})
        self._received = ipw.IntText(0)  # never shown: the page copies the number of each picture into it
        self._echo = ipw.jsdlink((self.screen, "number"), (self._received, "value"))
        self._received.observe(lambda _: session.hear(), "value")
        # Moves are throttled, so they need a source of their own: a press or a key must never wait or be dropped.
        self._moves = Event(source=self.screen, watched_events=["mousemove"], prevent_default_action=True)
        self._moves.wait, self._moves.throttle_or_debounce = MOUSE_EVERY, "throttle"
        self._events = Event(source=self.screen, watched_events=list(EVENTS), prevent_default_action=True)
        for source in (self._moves, self._events):
            source.on_dom_event(session.feed)
        self._pad = ipw.Controller(index=0)
        self._record = self._button("Record", "danger", session.toggle)
        self._discard = self._button("Discard", "", session.discard)
        self._undo = self._button("Undo last", "", session.undo)
        self._save = self._button("Save", "primary", self._save_now)
        self._file = ipw.Text(f"{session.task.name}-by-hand.npz", layout={"width": "180px"})
        self.status, self._note = ipw.HTML(), ipw.HTML()
        super().__init__([
            self.screen,
            ipw.HBox([self._record, self._discard, self._undo]),
            ipw.HBox([self._file, self._save]),
            self.status,
            self._note,
            ipw.HTML(f"<small>{session.pilot.help} Keys count while the mouse is over the picture.</small>"),
        ])  # fmt: skip
        self.add_class("ilbook-teleop")

    def _button(self, words: str, style: str, action: Callable[[], None]) -> ipw.Button:
        button = ipw.Button(description=words, button_style=style, layout={"width": "auto"})
        button.on_click(lambda _: (action(), self._refresh()))
        return button

    def _save_now(self) -> None:
        try:
            self.session.save(self._file.value.strip())
        except (UserError, OSError) as error:
            self.session.message = f"Not saved: {error}."

    def _refresh(self) -> None:
        """Words and buttons; only what changed is sent."""
        session, n = self.session, len(self.session.kept)
        self._record.description = "Record" if session.state == IDLE else "Stop"
        self._discard.disabled = session.state == IDLE
        self._undo.disabled = self._save.disabled = session.state != IDLE or not n
        parts = [f"<b>{WORDS[session.state]}</b>", f"{n} episode{'' if n == 1 else 's'}", f"score {session.score:.2f}"]
        if session.state == RECORDING:
            parts.insert(1, f"{session.seconds:.0f} s")
        if self._pad.connected:
            parts.append("gamepad")
        self.status.value = " · ".join(parts)
        self._note.value = html.escape(session.message)

    # -- the loop -----------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """End the thread and remove the widget; a running episode is kept."""
        self._closing.set()
        self.session.woken.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self.session.stop()
        super().close()

    def turn(self) -> bool:
        """One tick: read the gamepad, step, draw, send. False when the session sleeps."""
        if self._pad.connected:
            self.session.pad([axis.value for axis in self._pad.axes], [button.pressed for button in self._pad.buttons])
        shot, now = self.session.tick(), time.monotonic()
        if shot is not None and (self.sent - self._received.value < UNSEEN or now - self._sent_at > PROBE):
            self._show(shot)
        if shot is None or self.sent % STATUS_EVERY == 0:
            self._refresh()
        return shot is not None

    def _show(self, shot: Shot) -> None:
        picture = paint(self._draw.frames(shot.qpos[None])[0], shot)
        data = mediapy.compress_image(picture, fmt="jpeg", quality=JPEG_QUALITY)
        self.sent, self._sent_at = self.sent + 1, time.monotonic()
        with self.screen.hold_sync():  # picture and number in one message
            self.screen.value, self.screen.number = data, self.sent

    def _run(self) -> None:
        due = time.monotonic()
        while not self._closing.is_set():
            try:
                awake = self.turn()
            except Exception as error:  # a thread has no reader: say it where one looks, and keep what was recorded
                self.session.stop()
                self.session.message = f"The session stopped: {error}. Run this cell again to go on."
                self._refresh()
                return
            if not awake:
                self.session.woken.wait(timeout=1.0)
            # Time that is lost is lost: no burst of steps makes up for it.
            due = max(due + self.session.period, time.monotonic())
            self._closing.wait(due - time.monotonic())


def teleop(
    task: Task | type[Task], out: str | Path | None = None, *, live: bool | None = None, seed: int = 0
) -> Teleop | media.Film | media.Picture:
    """Drive a task by hand; the last line of a cell. Episodes that were not saved wait in the folder `out`.

    In JupyterLab it is a `Teleop` widget; running the cell again goes on with the same session. Without a reader (a
    page, papermill; `live=None` finds out) it is a film of a session in which the scripted expert is the hand.
    """
    task = task() if isinstance(task, type) else task
    if not (is_live() if live is None else live):
        return film(task)
    place = Path(out if out is not None else build() / "teleop").resolve()
    if (old := _open.get((task, place))) is not None:
        old.close()
    session = Session(task, place, seed=seed) if old is None else old.session
    session.hear()
    _open[task, place] = Teleop(session)
    return _open[task, place]


# -- the static twin ---------------------------------------------------------------------------------------------------
def film(task: Task) -> media.Film | media.Picture:
    """An episode of the scripted expert as a film with the targets that it asks for, in place of a hand's."""
    episodes = record(task, experts.get(task.name)(), [0])
    states, actions = (episodes.episode(0)[name].astype(float) for name in ("state", "action"))
    where = pilot_for(task).where
    shots = [Shot(state, where(action), True) for state, action in zip(states, actions, strict=True)]
    frames = task.render(states, FILM_SIZE)
    frames = np.stack([paint(frame, shot) for frame, shot in zip(frames, shots, strict=True)])
    end, who = "success" if episodes.meta["success"][0] else "no success", "the scripted expert in place of a hand"
    seconds = len(states) / task.control_hz
    title = (
        f"A recorded session: {who} drives {task.name} ({seconds:.0f} s, {end}). "
        "In JupyterLab, this cell opens a window in which you drive with mouse, keys or gamepad, and record."
    )
    alt = (
        f"Film of {seconds:.0f} seconds of {task.name}, driven by {who}. A ring marks the target that is asked "
        f"for, and the robot follows it. The red frame tells that it is being recorded. The end: {end}."
    )
    return media.show(frames, task.control_hz, title, alt, width=FILM_SIZE)
