"""A session of driving by hand, fed with events and a clock that only the test moves."""

import time

import numpy as np
import pytest

from ilbook.data import files
from ilbook.errors import UserError
from ilbook.page import media
from ilbook.page.live import is_live
from ilbook.tasks import arm
from ilbook.tasks.avoid import Avoid
from ilbook.tasks.pickplace import PickPlace
from ilbook.tasks.pusht import PushT, overlap
from ilbook.teleop import widgets
from ilbook.teleop.hands import Inputs
from ilbook.teleop.pilots import pilot_for
from ilbook.teleop.session import IDLE, PATIENCE, RECORDING, REST, WAITING, Session, paint

SIDE = 320.0  # of the picture on the page of these tests


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def mouse(kind: str, x: float, y: float, down: bool = True, stamp: float = 0.0) -> dict:
    """A mouse event at shares (x, y) of a picture that lies at (40, 7) on the page."""
    return {
        "type": kind, "button": 0, "buttons": int(down), "timeStamp": stamp,
        "clientX": 40 + x * SIDE, "clientY": 7 + y * SIDE,
        "boundingRectLeft": 40, "boundingRectTop": 7, "boundingRectWidth": SIDE, "boundingRectHeight": SIDE,
    }  # fmt: skip


def key(kind: str, name: str, repeat: bool = False) -> dict:
    return {"type": kind, "key": name, "repeat": repeat}


class Desk:
    """A session, its clock, and somebody at the mouse."""

    def __init__(self, out, task=PushT, **options):
        self.clock = Clock()
        self.session = Session(task() if isinstance(task, type) else task, out, clock=self.clock, **options)
        self.lens = self.session.pilot.lens

    def run(self, seconds: float, *events: dict, alive: bool = True) -> None:
        """Feed events, then let time pass; an `alive` page receives every picture."""
        for event in events:
            self.session.feed(event)
        for _ in range(round(seconds / self.session.period)):
            self.session.tick()
            if alive:
                self.session.hear()
            self.clock.now += self.session.period

    def place(self, point) -> tuple[float, float]:
        return self.seen([*point, 0.0])

    def seen(self, point) -> tuple[float, float]:
        """Where a point (3,) of the world is in the picture, as shares."""
        return tuple(self.lens.to_pixels([point])[0])

    def pusher(self) -> np.ndarray:
        return self.session._sim.state[0, :2]

    def drive(self, points) -> None:
        """Press the mouse and pass by some points, half a second each, then let go."""
        self.run(0.0, mouse("mousedown", *self.place(self.pusher())))
        for point in points:
            self.run(0.5, mouse("mousemove", *self.place(point)))
        self.run(0.0, mouse("mouseup", *self.place(points[-1]), down=False))


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


def short(desk: Desk) -> None:
    """Record a short episode and stop."""
    desk.session.record()
    here = desk.pusher()
    desk.drive([here + (0.256 - here) * share for share in (0.1, 0.2)])
    desk.session.stop()


def test_a_drag_becomes_an_episode_of_targets_in_metres(desk):
    desk.session.record()
    assert desk.session.state == WAITING
    desk.run(1.0)
    start, points = desk.pusher(), np.array([[0.1, 0.12], [0.14, 0.4], [0.3, 0.41]])
    desk.drive(points)
    desk.session.stop()
    episode = desk.session.episodes().episode(0)
    assert episode["state"].dtype == episode["action"].dtype == np.float32
    assert len(episode["action"]) == 15, "10 a second, from the first move on: the second of waiting is not in it"
    np.testing.assert_allclose(episode["action"][::5], points, atol=1e-6)
    np.testing.assert_allclose(episode["state"][0, :2], start, atol=1e-6)


def test_what_is_recorded_gives_the_same_states_when_it_is_played_back(desk):
    desk.session.record()
    desk.drive(desk.session._sim.state[0, 2:4] + np.array([[0.0, 0.0], [0.1, 0.05], [-0.1, 0.02], [0.0, -0.1]]))
    desk.session.stop()
    episode = desk.session.episodes().episode(0)
    task = PushT().batch(1)
    task.reset(PushT().starts([0]))
    for state, action in zip(episode["state"], episode["action"], strict=True):
        np.testing.assert_allclose(task.state[0], state, atol=1e-4)
        task.step(action[None].astype(np.float64))
    assert np.ptp(episode["state"][:, 2]) > 0.005, "the block was pushed"


def test_pictures_come_at_least_fifteen_times_a_second_between_slower_control_steps(desk):
    assert 1 / desk.session.period >= 15 and desk.session.parts == 2
    desk.session.record()
    desk.session.feed(mouse("mousedown", *desk.place([0.4, 0.4])))
    shown = []
    for _ in range(8):
        shown.append(desk.session.tick().qpos[:2])
        desk.clock.now += desk.session.period
    moves = np.linalg.norm(np.diff(shown, axis=0), axis=1)
    assert (moves > 0.005).all(), "every picture shows something new"
    assert len(desk.session._current) == 4


def test_keys_drive_at_the_speed_of_the_task_and_stop_when_they_are_up(desk):
    desk.session.record()
    start = desk.pusher().copy()
    toward = "ArrowRight" if start[0] < 0.256 else "a"
    desk.run(0.5, key("keydown", toward))
    way = abs(desk.pusher()[0] - start[0])
    assert 0.5 * 0.25 * 0.5 < way < 0.25 * 0.5
    desk.run(0.5, key("keyup", toward))
    stopped = desk.pusher().copy()
    desk.run(0.5)
    np.testing.assert_allclose(desk.pusher(), stopped, atol=1e-3)
    desk.session.stop()
    assert len(desk.session.kept) == 1


def test_a_tap_between_two_looks_still_counts_once():
    inputs = Inputs()
    inputs.feed(key("keydown", "w"))
    inputs.feed(key("keyup", "w"))
    assert inputs.look().direction[1] == 1
    assert not inputs.look().busy
    inputs.feed(mouse("mousedown", 0.2, 0.3))
    inputs.feed(mouse("mouseup", 0.2, 0.3, down=False))
    assert inputs.look().drag == pytest.approx((0.2, 0.3))
    assert inputs.look().drag is None


def test_a_release_that_the_page_never_saw_is_noticed():
    inputs = Inputs()
    inputs.feed(mouse("mousedown", 0.2, 0.3))
    inputs.feed(key("keydown", "w"))
    inputs.feed({"type": "mouseleave"})
    assert not inputs.look().busy, "the mouse left the picture"
    inputs.feed(mouse("mousemove", 0.5, 0.5, down=True))
    assert inputs.look().drag == (0.5, 0.5), "it came back with its button still down"
    inputs.feed(mouse("mousemove", 0.6, 0.5, down=False))
    assert inputs.look().drag is None, "it was released outside"


def test_a_throttled_move_that_arrives_after_the_release_does_not_drag():
    inputs = Inputs()
    inputs.feed(mouse("mousedown", 0.1, 0.1, stamp=10))
    inputs.feed(mouse("mouseup", 0.3, 0.3, down=False, stamp=50))
    inputs.feed(mouse("mousemove", 0.25, 0.25, down=True, stamp=40))
    inputs.look()
    assert inputs.look().drag is None


def test_events_of_no_meaning_change_nothing():
    inputs = Inputs()
    for event in ({}, {"type": "mousedown"}, {"type": "keydown"}, {"type": "wheel"}, {"type": "dragstart"}, {"x": 1}):
        inputs.feed(event)
    assert inputs.look().drag is None and not inputs.look().direction.any()


def test_a_gamepad_drives(desk):
    desk.session.record()
    start = desk.pusher().copy()
    way = 1.0 if start[1] < 0.256 else -1.0
    desk.session.pad([0.05, -way, 0, 0], [False] * 16)
    desk.run(0.5)
    moved = desk.pusher() - start
    assert moved[1] * way > 0.05 and abs(moved[0]) < 1e-3, "up on the stick is up in the picture; 0.05 is no direction"
    inputs = Inputs()
    assert inputs.pad([0, 0, 0, 0], [True]) and inputs.look().tapped == {0}
    assert inputs.pad([0, 0, 0, 0], [True]) and not inputs.look().tapped, "a button that is held counts once"


def test_success_failure_and_time_end_an_episode(tmp_path):
    class Near(PushT):
        def start(self, rng):
            state = super().start(rng)
            state[2:5] = (0.2272, 0.28, -np.pi / 4)
            state[[0, 5]], state[[1, 6]] = 0.2272, 0.4
            return state

    desk = Desk(tmp_path / "a", Near(success_overlap=0.4, max_steps=6))
    assert overlap(desk.session._sim.state[:, 2:5])[0] < 0.4
    desk.session.record()
    desk.drive([(0.2272, 0.25), (0.2272, 0.25)])
    assert (desk.session.kept[0].outcome, desk.session.state) == ("success", IDLE)
    desk.session.record()
    desk.drive([(0.4, 0.4)] * 4)
    assert (desk.session.kept[1].outcome, len(desk.session.kept[1])) == ("time", 12)

    desk = Desk(tmp_path / "b", Avoid)
    desk.session.record()
    desk.run(10.0, key("keydown", "ArrowUp"))
    assert [one.outcome for one in desk.session.kept] == ["failure"]


def test_every_recording_has_a_new_start_and_a_discarded_one_is_not_kept(desk):
    starts = []
    for command in ("stop", "discard", "stop"):
        desk.session.record()
        starts.append(desk.session._sim.state[0].copy())
        desk.drive([(0.25, 0.25)])
        getattr(desk.session, command)()
    assert len({tuple(start) for start in starts}) == 3
    assert [one.seed for one in desk.session.kept] == [0, 2]
    np.testing.assert_array_equal(starts[2], PushT().starts([2])[0])


def test_nothing_is_kept_of_an_episode_without_a_move(desk):
    desk.session.record()
    desk.run(1.0)
    desk.session.stop()
    assert desk.session.kept == [] and "Nothing was recorded" in desk.session.message


def test_undo_removes_the_last_episode_here_and_in_the_file_of_unsaved_ones(desk):
    short(desk)
    short(desk)
    assert len(files.read(desk.session.unsaved)) == 2
    desk.session.undo()
    assert [one.seed for one in desk.session.kept] == [0]
    assert len(files.read(desk.session.unsaved)) == 1
    desk.session.undo()
    assert not desk.session.unsaved.exists()


def test_saving_writes_all_episodes_at_once_and_never_over_another_file(desk, tmp_path):
    short(desk)
    short(desk)
    path = desk.session.save("mine.npz")
    assert path == tmp_path / "mine.npz"
    read = files.read(path, {"state": 7, "action": 2})
    assert read.meta["outcome"] == ["stopped", "stopped"] and read.meta["control_hz"] == PushT.control_hz
    assert not desk.session.unsaved.exists(), "what is saved is in one place"
    before = path.read_bytes()
    short(desk)
    with pytest.raises(UserError, match=r"mine.npz exists already; choose another name"):
        desk.session.save("mine.npz")
    assert path.read_bytes() == before
    assert len(files.read(desk.session.save("more.npz"))) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.npz", "more.npz"]


def test_commands_at_the_wrong_time_change_nothing(desk):
    session = desk.session
    with pytest.raises(UserError, match="no episode was recorded yet"):
        session.save("a.npz")
    for command in (session.stop, session.discard, session.undo):
        command()
        assert session.state == IDLE and session.kept == []
    session.record()
    desk.run(0.5, key("keydown", "w"))
    for command in (session.record, session.undo):
        command()
        assert session.state == RECORDING and len(session._current) == 5
    with pytest.raises(UserError, match="stop or discard it before saving"):
        session.save("a.npz")
    session.stop()
    with pytest.raises(UserError, match=r"name it a.npz"):
        session.save("a.zarr")


def test_a_page_that_falls_silent_keeps_what_was_recorded_before(desk):
    session = desk.session
    session.record()
    desk.run(1.0, mouse("mousedown", *desk.place([0.25, 0.25])))
    desk.run(PATIENCE + 1, alive=False)
    assert session.state == IDLE and session.kept[0].outcome == "connection lost"
    assert 10 <= len(session.kept[0]) <= 11, "the silent seconds are not part of the episode"
    assert len(files.read(session.unsaved)) == 1


def test_two_sessions_do_not_share_the_file_of_unsaved_episodes(tmp_path):
    first = Desk(tmp_path)
    short(first)
    time.sleep(1.1)
    second = Desk(tmp_path, PushT().shifted(friction=1.0))
    short(second)
    assert second.session.episodes().meta["strengths"] == {"friction": 1.0}
    assert len(files.read(first.session.unsaved)) == len(files.read(second.session.unsaved)) == 1


def test_a_full_disk_does_not_end_the_session(desk, monkeypatch):
    def full(path, episodes):
        raise UserError("cannot write: the disk is full")

    monkeypatch.setattr(files, "save", full)
    short(desk)
    assert len(desk.session.kept) == 1 and "in memory only" in desk.session.message


def test_an_idle_session_sleeps_and_an_event_wakes_it(desk):
    desk.run(REST + 0.5)
    assert desk.session.tick() is None and not desk.session.woken.is_set()
    desk.session.feed(mouse("mousemove", 0.5, 0.5, down=False))
    assert desk.session.woken.is_set() and desk.session.tick() is not None


def test_a_picture_shows_where_the_target_is(desk):
    plain = np.full((96, 96, 3), 200, np.uint8)
    desk.session.record()
    desk.run(0.1, mouse("mousedown", 0.25, 0.75))
    shot = desk.session.shot()
    assert shot.target[0] == pytest.approx((0.25, 0.75), abs=1e-6) and shot.recording
    drawn = paint(plain, shot)
    rows, columns = np.nonzero((drawn[4:-4, 4:-4] != 200).any(axis=2))
    assert (columns.mean() + 4.5) / 96 == pytest.approx(0.25, abs=0.01)
    assert (rows.mean() + 4.5) / 96 == pytest.approx(0.75, abs=0.01)
    assert (drawn[0] != 200).any(), "a frame around what is recorded"


def test_the_lens_of_the_top_camera_agrees_with_the_picture():
    task = PushT()
    state = task.starts([0])
    state[0, :2] = (0.1, 0.4)
    size = 192
    frame = task.render(state, size)[0].astype(int)
    blue = (frame[..., 2] - frame[..., 0]) > 80
    rows, columns = np.nonzero(blue)
    pilot = pilot_for(PushT())
    ((x, y),) = pilot.where(np.array([0.1, 0.4]))
    assert (columns.mean() + 0.5) / size == pytest.approx(x, abs=0.01)
    assert (rows.mean() + 0.5) / size == pytest.approx(y, abs=0.01)
    np.testing.assert_allclose(pilot.under((x, y), 0.0), [0.1, 0.4], atol=1e-9)


def test_what_is_under_a_place_is_seen_there():
    pilot = pilot_for(PickPlace())
    for point in np.random.default_rng(0).uniform([0.1, -0.1, 0.0], [0.3, 0.1, 0.1], (20, 3)):
        (place,) = pilot.lens.to_pixels(point[None])
        np.testing.assert_allclose(pilot.under(tuple(place), point[2]), point[:2], atol=1e-9)
    assert pilot.under((0.5, 0.5), 9.0) is None, "a plane above the camera"
    assert pilot.under(None, 0.0) is None


class Workbench(Desk):
    """The same for the arm."""

    def grasp(self) -> np.ndarray:
        return arm.forward(self.session._sim.state[0, :6])[0]


@pytest.fixture
def bench(tmp_path) -> Workbench:
    return Workbench(tmp_path, PickPlace)


def test_the_mouse_moves_the_gripper_level_and_the_wheel_changes_its_height(bench):
    bench.session.record()
    goal = bench.grasp() + np.array([0.02, 0.06, 0.0])
    bench.run(1.5, mouse("mousedown", *bench.seen(goal)))
    np.testing.assert_allclose(bench.grasp(), goal, atol=0.006)
    for _ in range(4):
        bench.run(0.2, {"type": "wheel", "deltaY": 100.0, "deltaMode": 0})
    bench.run(0.5)
    np.testing.assert_allclose(bench.grasp(), goal - [0, 0, 0.04], atol=0.006)
    x, y = bench.seen(goal)
    bench.run(0.1, mouse("mousemove", x, y))
    bench.run(0.5, mouse("mouseup", x, y, down=False))
    np.testing.assert_allclose(bench.grasp(), goal - [0, 0, 0.04], atol=0.006)
    bench.session.stop()
    episode = bench.session.episodes().episode(0)
    assert episode["action"].shape[1] == 6 and (episode["action"] >= arm.LOW - 1e-6).all()


def test_keys_move_the_gripper_as_the_picture_shows_it(bench):
    for name, change in [("ArrowUp", (0, -1)), ("d", (1, 0))]:
        before = np.array(bench.seen(bench.grasp()))
        bench.run(0.5, key("keydown", name))
        bench.run(0.3, key("keyup", name))
        moved = np.array(bench.seen(bench.grasp())) - before
        assert moved @ change > 0.05 and abs(moved @ np.array(change)[::-1]) < 0.03, name


def test_space_closes_and_opens_the_jaws_once_a_press(bench):
    def width() -> float:
        return bench.session._sim.command[0, 5]

    assert width() > 0.4
    bench.run(1.0, key("keydown", " "), key("keydown", " ", repeat=True), key("keyup", " "))
    assert width() == pytest.approx(0.0, abs=1e-6)
    bench.run(1.0, key("keydown", " "), key("keyup", " "))
    assert width() == pytest.approx(0.5, abs=1e-6)


def test_whoever_lets_go_of_the_arm_stops_it(bench):
    bench.run(0.3, key("keydown", "w"))
    bench.run(0.5, key("keyup", "w"))
    before = bench.session._sim.command.copy()
    bench.run(1.0)
    np.testing.assert_array_equal(bench.session._sim.command, before)


def test_a_mouse_out_of_reach_leaves_the_arm_within_its_limits(bench):
    bench.run(0.0, mouse("mousedown", 0.5, 0.5))
    for x, y in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]:
        bench.run(1.0, mouse("mousemove", x, y))
        command = bench.session._sim.command[0]
        assert np.isfinite(command).all() and (command >= arm.LOW).all() and (command <= arm.HIGH).all()
        assert bench.grasp()[2] > 0.0


def test_a_hand_can_solve_pick_and_place(bench):
    """With the mouse for the way, the wheel for the height, a key for the jaws, and eyes that know the state."""
    session = bench.session
    session.record()
    sim = session._sim

    def glide(point, seconds=1.5):
        place = bench.seen([*point, bench.grasp()[2]])
        bench.run(0.0, mouse("mouseup", *place, down=False))
        bench.run(0.1)
        bench.run(seconds, mouse("mousedown", *place))

    def sink(height):
        for _ in range(40):
            off = arm.forward(sim.command[0])[0][2] - height
            if abs(off) < 0.003 or session.state == IDLE:
                break
            bench.run(0.1, {"type": "wheel", "deltaY": np.clip(off, -0.01, 0.01) / 0.01 * 100, "deltaMode": 0})

    cube, target = sim.state[0, 6:8].copy(), sim.state[0, 13:15].copy()
    bench.run(0.0, mouse("mousedown", *bench.seen([*cube, bench.grasp()[2]])))
    glide(cube)
    w, _, _, z = sim.state[0, 9:13]
    wanted = 2 * np.arctan2(z, w)
    for _ in range(60):
        opening = arm.forward(sim.command[0])[1][:2, 2]
        off = (wanted - np.arctan2(opening[1], opening[0]) + np.pi / 4) % (np.pi / 2) - np.pi / 4
        if abs(off) < 0.03:
            break
        way = "r" if off > 0 else "f"
        bench.run(0.05, key("keydown", way), key("keyup", way))
    glide(cube, 0.5)
    sink(0.016)
    glide(cube, 0.5)
    bench.run(1.0, key("keydown", " "), key("keyup", " "))
    sink(0.06)
    glide(target, 2.5)
    sink(0.018)
    bench.run(1.0, key("keydown", " "), key("keyup", " "))
    assert [one.outcome for one in session.kept] == ["success"], (session.message, session.score)


def test_a_task_that_no_hand_fits_is_refused():
    class Odd(PushT):
        action_low = np.zeros(5)

    with pytest.raises(UserError, match="has 5 actions and nobody wrote a pilot"):
        pilot_for(Odd())


# -- the widget, without a browser -------------------------------------------------------------------------------------
@pytest.fixture
def no_reader(monkeypatch):
    for name in ("ILBOOK_OUT", "JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_reader_the_cell_shows_a_film_with_a_description(no_reader):
    assert not is_live()
    shown = widgets.teleop(PushT)
    assert isinstance(shown, media.Film) and "scripted expert" in shown.title and "success" in shown.title
    assert "ring marks the target" in shown.alt
    page = shown._repr_html_()
    assert "<script" not in page and "http" not in page


@pytest.mark.parametrize(
    ("variables", "content", "live"),
    [
        ({}, {"allow_stdin": True}, False),
        ({"JPY_SESSION_NAME": "a.ipynb"}, {"allow_stdin": True}, True),
        ({"JPY_SESSION_NAME": "a.ipynb"}, {"allow_stdin": False}, False),
        ({"JPY_SESSION_NAME": "a.ipynb"}, {"comm_id": "of a button"}, True),
    ],
)
def test_a_reader_is_noticed_by_who_started_and_who_asks_the_kernel(no_reader, monkeypatch, variables, content, live):
    from types import SimpleNamespace

    import IPython

    kernel = SimpleNamespace(get_parent=lambda: {"content": content})
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=kernel))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_live() is live


@pytest.fixture
def widget(tmp_path):
    shown = widgets.teleop(PushT, tmp_path, live=True)
    yield shown
    widgets._open[PushT(), tmp_path].close()


def test_running_the_cell_again_goes_on_with_the_same_session(widget, tmp_path):
    widget.session.record()
    widget.session.feed(key("keydown", "w"))
    until(lambda: len(widget.session._current) >= 3)
    again = widgets.teleop(PushT, tmp_path, live=True)
    assert again.session is widget.session and not widget._thread.is_alive()
    assert len(again.session.kept) == 1, "what was being recorded is kept"
    assert again._thread.is_alive()


def test_a_page_that_receives_nothing_is_not_flooded(widget):
    began = time.monotonic()
    for _ in range(4):
        widget.session.feed(mouse("mousemove", 0.5, 0.5, down=False))
        time.sleep(0.15)
    assert widget.sent <= widgets.UNSEEN + (time.monotonic() - began) / widgets.PROBE + 1
    widget._received.value = widget.sent
    before = widget.sent
    until(lambda: widget.sent > before + 2)


def test_the_file_is_saved_with_the_button_and_not_twice(widget, tmp_path):
    widget.session.record()
    widget.session.feed(key("keydown", "w"))
    until(lambda: len(widget.session._current) >= 2)
    widget._record.click()
    assert widget._record.description == "Record" and not widget._save.disabled
    widget._save.click()
    assert len(files.read(tmp_path / "pusht-by-hand.npz")) == 1
    widget._save.click()
    assert "exists already" in widget._note.value
    widget._file.value = "other.npz"
    widget._save.click()
    assert "Saved 1 episode" in widget._note.value
    widget._file.value = "<b>.csv"
    widget._save.click()
    assert "&lt;b&gt;.npz" in widget._note.value, "what a reader types is shown, not run"


def test_a_fault_in_the_loop_is_shown_and_keeps_the_episode(widget, monkeypatch):
    widget.session.record()
    widget.session.feed(key("keydown", "w"))
    until(lambda: len(widget.session._current) >= 2)

    def broken(*_):
        raise RuntimeError("no more colours")

    monkeypatch.setattr(widget, "_show", broken)
    widget._received.value = widget.sent
    until(lambda: not widget._thread.is_alive())
    assert "no more colours" in widget._note.value and len(widget.session.kept) == 1


def until(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
