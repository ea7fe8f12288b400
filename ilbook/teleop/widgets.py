"""Controls for notebooks, each with a static twin for the page: `teleop` drives a task by hand and records."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ipywidgets as ipw
import numpy as np
import traitlets
from ipyevents import Event

from ilbook import experts
from ilbook.data import files
from ilbook.draw.render import renderer
from ilbook.errors import UserError
from ilbook.experts.base import record
from ilbook.page import media
from ilbook.page.live import is_live
from ilbook.paths import root
from ilbook.tasks.base import Task
from ilbook.teleop.pilots import pilot_for
from ilbook.teleop.session import IDLE, RECORDING, WAITING, Session, Shot, encode, paint

SIZE = 384  # pixels of the picture, a side
UNSEEN = 6  # pictures on their way to the page; when more are, the next ones wait
PROBE = 1.0  # s after which one more is sent anyway: a page that was reloaded must have something to receive
MOUSE_EVERY = 25  # ms between two moves of the mouse that are sent
STATUS_EVERY = 0.25  # s
EVENTS = ("mousedown", "mouseup", "mouseleave", "wheel", "keydown", "keyup", "dragstart")
WORDS = {IDLE: "practice", WAITING: "ready", RECORDING: "recording"}

_sessions: dict[tuple[type[Task], Path], tuple[Session, Teleop]] = {}


class _Screen(ipw.Image):
    """A picture whose number the page sends back when it has received it."""

    number = traitlets.Int(0).tag(sync=True)


class Teleop(ipw.VBox):
    """The picture, buttons and status of a session; a thread of its own steps, draws and sends.

    Pictures are dropped, never steps, when the page cannot follow. `close` ends the thread.
    """

    def __init__(self, session: Session, size: int = SIZE, start: bool = True):
        self.session, self.size = session, size
        self._draw = renderer(session.task_type, size)
        self.sent = self.late = 0  # pictures sent, and ticks that began more than one period late
        self._sent_at: list[float] = []
        self._status_at = 0.0
        self._closing = threading.Event()
        self._build()
        self._show(session.shot())
        self._refresh()
        self._thread = threading.Thread(target=self._run, name="ilbook-teleop", daemon=True)
        if start:
            self._thread.start()

    # -- what the reader sees -----------------------------------------------------------------------------------------
    def _build(self) -> None:
        side = f"{self.size}px"
        self.screen = _Screen(format="jpeg", layout={"width": side, "height": side, "flex": "0 0 auto"})
        self._received = ipw.IntText(0)  # never shown: the page copies the number of each picture into it
        self._echo = ipw.jsdlink((self.screen, "number"), (self._received, "value"))
        self._received.observe(lambda _: self.session.hear(), "value")
        # Moves are throttled, so they need a source of their own: a press or a key must never wait or be dropped.
        self._moves = Event(source=self.screen, watched_events=["mousemove"], prevent_default_action=True)
        self._moves.wait, self._moves.throttle_or_debounce = MOUSE_EVERY, "throttle"
        self._events = Event(source=self.screen, watched_events=list(EVENTS), prevent_default_action=True)
        for source in (self._moves, self._events):
            source.on_dom_event(self._feed)
        self._pad = ipw.Controller(index=0)
        self._record = self._button("Record", "danger", lambda: self.session.command("toggle"))
        self._discard = self._button("Discard", "", lambda: self.session.command("discard"))
        self._undo = self._button("Undo last", "", lambda: self.session.command("undo"))
        self._save = self._button("Save", "primary", self._save_now)
        self._file = ipw.Text(f"{self.session.task_type.name}-by-hand.npz", layout={"width": "180px"})
        self._replace = ipw.Checkbox(False, description="Replace", indent=False, layout={"width": "auto"})
        self.status, self._note = ipw.HTML(), ipw.HTML()
        help_text = f"{self.session.pilot.help} Enter: record or stop. Backspace: discard. Z: undo."
        super().__init__([
            self.screen,
            ipw.HBox([self._record, self._discard, self._undo]),
            ipw.HBox([self._file, self._replace, self._save]),
            self.status,
            self._note,
            ipw.HTML(f"<small>{html.escape(help_text)} Keys count while the mouse is over the picture.</small>"),
        ])  # fmt: skip
        self.add_class("ilbook-teleop")

    def _button(self, words: str, style: str, action: Callable[[], None]) -> ipw.Button:
        button = ipw.Button(description=words, button_style=style, layout={"width": "auto"})
        button.on_click(lambda _: self._do(action))
        return button

    def _do(self, action: Callable[[], None]) -> None:
        action()
        self._refresh()

    def _feed(self, event: dict) -> None:
        self.session.feed(event)

    def _save_now(self) -> None:
        try:
            self.session.save(self._file.value.strip() or None, force=self._replace.value)
        except (UserError, OSError) as error:
            self.session.message = f"Not saved: {error}."

    def _refresh(self) -> None:
        """Words and buttons; only what changed is sent."""
        session = self.session
        self._record.description = "Record" if session.state == IDLE else "Stop"
        self._discard.disabled = session.state == IDLE
        self._undo.disabled = session.state != IDLE or not session.kept
        self._save.disabled = session.state != IDLE or not session.kept
        n = len(session.kept)
        parts = [f"<b>{WORDS[session.state]}</b>", f"{n} episode{'' if n == 1 else 's'}", f"score {session.score:.2f}"]
        if session.state == RECORDING:
            parts.insert(1, f"{session.seconds:.0f} s")
        if session.step_rate:
            parts.append(f"{session.step_rate:.1f} steps/s, {self.picture_rate:.0f} pictures/s")
        if self._pad.connected:
            parts.append("gamepad")
        self.status.value = " · ".join(parts)
        self._note.value = html.escape(session.message)

    @property
    def picture_rate(self) -> float:
        """Pictures sent a second, over the last twenty."""
        times = self._sent_at[-20:]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    # -- the loop -----------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """End the thread and remove the widget; a running episode is kept."""
        self._closing.set()
        self.session.woken.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        if self.session.state != IDLE:
            self.session.command("stop")
        super().close()

    def turn(self) -> bool:
        """One tick: read the gamepad, step, draw, send. False when the session sleeps."""
        if self._pad.connected:
            self.session.pad([axis.value for axis in self._pad.axes], [button.pressed for button in self._pad.buttons])
        shot = self.session.tick()
        if shot is not None and self._may_send():
            self._show(shot)
        now = time.monotonic()
        if shot is None or now - self._status_at > STATUS_EVERY:
            self._status_at = now
            self._refresh()
        return shot is not None

    def _may_send(self) -> bool:
        waiting = self.sent - self._received.value
        return waiting < UNSEEN or time.monotonic() - self._sent_at[-1] > PROBE

    def _show(self, shot: Shot) -> None:
        frame = self._draw.frames(shot.qpos[None])[0]
        data = encode(paint(frame, shot))
        self.sent += 1
        self._sent_at = [*self._sent_at[-40:], time.monotonic()]
        with self.screen.hold_sync():  # picture and number in one message
            self.screen.value, self.screen.number = data, self.sent

    def _run(self) -> None:
        due = time.monotonic()
        while not self._closing.is_set():
            try:
                awake = self.turn()
            except Exception as error:  # a thread has no reader: say it where one looks, and keep what was recorded
                self._fail(error)
                return
            if not awake:
                self.session.woken.wait(timeout=1.0)
                due = time.monotonic()
                continue
            due += self.session.period
            now = time.monotonic()
            if due < now - self.session.period:
                self.late += 1
                due = now  # time that is lost is lost: no burst of steps makes up for it
            self._closing.wait(max(0.0, due - now))

    def _fail(self, error: Exception) -> None:
        if self.session.state != IDLE:
            self.session.command("stop")
        self.session.message = f"The session stopped: {error}. Run this cell again to go on."
        self._refresh()


def teleop(
    task_type: type[Task],
    out: str | Path | None = None,
    *,
    live: bool | None = None,
    seed: int = 0,
    size: int = SIZE,
    recorded: str | Path | None = None,
) -> Teleop | media.Film | media.Picture:
    """Drive a task by hand; the last line of a cell. Episodes that were not saved wait in the folder `out`.

    In JupyterLab it is a `Teleop` widget; running the cell again goes on with the same session. Without a reader (a
    page, papermill; `live=None` finds out) it is a film of `recorded`, a file that a session saved, or of a session in
    which the scripted expert is the hand.
    """
    if not (is_live() if live is None else live):
        return film(task_type, recorded, size=min(size, 256))
    place = Path(out if out is not None else root() / "build" / "teleop").resolve()
    session, old = _sessions.get((task_type, place), (None, None))
    if old is not None:
        old.close()
    session = session or Session(task_type, place, seed=seed)
    session.hear()
    widget = Teleop(session, size)
    _sessions[task_type, place] = session, widget
    return widget


# -- the static twin ---------------------------------------------------------------------------------------------------
def film(
    task_type: type[Task], recorded: str | Path | None = None, episode: int = 0, size: int = 256
) -> media.Film | media.Picture:
    """A recorded episode as a film with the target that the hand meant; without a file the expert is the hand."""
    if recorded is None:
        who, (states, actions, outcome) = "the scripted expert in place of a hand", _by_expert(task_type)
    else:
        who, (states, actions, outcome) = "a hand", _by_hand(task_type, Path(recorded), episode)
    draw, where = renderer(task_type, size), pilot_for(task_type).where
    frames = draw.frames(states[:, : task_type.load_model().nq])
    shots = [Shot(state, where(action), True) for state, action in zip(states, actions, strict=True)]
    frames = np.stack([np.asarray(paint(frame, shot)) for frame, shot in zip(frames, shots, strict=True)])
    seconds = len(states) / task_type.control_hz
    title = (
        f"A recorded session: {who} drives {task_type.name} ({seconds:.0f} s, {outcome}). "
        "In JupyterLab, this cell opens a window in which you drive with mouse, keys or gamepad, and record."
    )
    alt = (
        f"Film of {seconds:.0f} seconds of {task_type.name}, driven by {who}. A ring marks the target that is asked "
        f"for, and the robot follows it. The red frame tells that it is being recorded. The end: {outcome}."
    )
    return media.show(frames, task_type.control_hz, title, alt, width=size)


def _by_hand(task_type: type[Task], path: Path, episode: int) -> tuple[np.ndarray, np.ndarray, str]:
    sizes = {"state": len(task_type.state_names), "action": len(task_type.action_low)}
    episodes = files.read(path, sizes)
    if not 0 <= episode < len(episodes):
        raise UserError(f"{path.name} has episodes 0 to {len(episodes) - 1}, and no episode {episode}")
    rows = episodes.episode(episode)
    outcomes = episodes.meta.get("outcome") or ["end of the recording"] * len(episodes)
    return rows["state"].astype(float), rows["action"].astype(float), str(outcomes[episode])


def _by_expert(task_type: type[Task]) -> tuple[np.ndarray, np.ndarray, str]:
    task = task_type(1)
    task.reset(task.starts([0]))
    states, actions = record(task, experts.get(task_type.name)(1))
    return states[0].astype(float), actions[0].astype(float), "success" if task.success[0] else "no success"
