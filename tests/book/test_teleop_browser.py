"""Driving PushT by hand in a JupyterLab that runs: mouse, keys, gamepad, undo, and a page that goes away."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ilbook.data import files
from ilbook.tasks import arm
from ilbook.tasks.pickplace import PickPlace
from ilbook.tasks.pusht import PushT
from ilbook.teleop.pilots import pilot_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
CELL = """from ilbook import tasks
from ilbook.teleop.widgets import teleop
teleop(tasks.get(TASK), OUT, seed=SEED)"""
SCREEN = ".ilbook-teleop img"
PATIENCE_MS = 60_000  # for the slowest start on a busy machine
# A gamepad that the test moves: Chromium without a head has none.
GAMEPAD = """
window.pad = {axes: [0, 0, 0, 0], down: []};
const button = i => ({pressed: window.pad.down.includes(i), value: window.pad.down.includes(i) ? 1 : 0});
navigator.getGamepads = () => [{id: "test pad", index: 0, mapping: "standard", connected: true,
    timestamp: 1, axes: window.pad.axes, buttons: [...Array(17).keys()].map(button)}];
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab without a password on a free port of this machine; gives its address and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder, "IdentityProvider.token": "", "ServerApp.open_browser": False,
        "ServerApp.allow_root": True, "LabApp.expose_app_in_browser": True, "LabApp.news_url": "",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }  # fmt: skip
    private = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("ILBOOK_")},
        **private, "ILBOOK_THREADS": "1", "ILBOOK_ROOT": str(ROOT), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "ws"),
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(port) or server.poll() is not None, 60, "JupyterLab to start")
            assert server.poll() is None, (folder / "lab.log").read_text()
            yield address, folder
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition, seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.1)


class Driver:
    """A notebook with the widget, open in a browser."""

    def __init__(self, browser, lab, name: str, seed: int = 0, task_type=PushT):
        self.browser, (self.address, folder) = browser, lab
        self.name, self.out = name, folder / f"out-{name}"
        source = CELL.replace("OUT", repr(str(self.out))).replace("SEED", str(seed))
        source = source.replace("TASK", repr(task_type.name))
        cell = {"id": "cell-1", "cell_type": "code", "source": source, "metadata": {}, "outputs": []}
        kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        content = {"cells": [cell | {"execution_count": None}], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (folder / f"{name}.ipynb").write_text(json.dumps(content))
        self.task_type, self.lens = task_type, pilot_for(task_type()).lens
        self.start = task_type().starts([seed])[0]
        self.open()

    def open(self) -> None:
        """Open the page, run its cell, wait for the first picture."""
        self.page = self.browser.new_page(viewport={"width": 1200, "height": 1000})
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.add_init_script(GAMEPAD)
        self.page.goto(f"{self.address}/lab/tree/{self.name}.ipynb?reset")
        # Lab has the notebook, and the notebook has its kernel.
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=PATIENCE_MS,
        )
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_selector(SCREEN, timeout=PATIENCE_MS)
        self.page.wait_for_function(f"document.querySelector('{SCREEN}').naturalWidth > 100", timeout=PATIENCE_MS)
        self.says("practice")

    def says(self, words: str) -> None:
        self.page.wait_for_function(
            "words => document.querySelector('.ilbook-teleop')?.innerText.includes(words)", arg=words, timeout=60_000
        )

    def press(self, words: str) -> None:
        self.page.get_by_role("button", name=words, exact=True).click()

    def place(self, point) -> tuple[float, float]:
        """A point of the world, (2,) on the table or (3,), in pixels of the page."""
        box = self.page.locator(SCREEN).bounding_box()
        x, y = self.lens.to_pixels([[*point, 0.0][:3]])[0]
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def record(self) -> None:
        self.press("Record")
        self.says("ready")

    def drag(self, points, step_ms: int = 40) -> None:
        """Along points (n, 2 or 3), one every `step_ms`; the button stays down."""
        mouse = self.page.mouse
        mouse.move(*self.place(points[0]))
        mouse.down()
        for point in points:
            mouse.move(*self.place(point))
            self.page.wait_for_timeout(step_ms)

    def count_pictures(self) -> None:
        self.page.evaluate(
            """screen => { window.pictures = []; new MutationObserver(() => window.pictures.push(performance.now()))
                .observe(document.querySelector(screen), {attributes: true, attributeFilter: ["src"]}); }""",
            SCREEN,
        )

    def picture_rate(self) -> float:
        """Pictures a second that arrived in the page since `count_pictures`."""
        times = np.array(self.page.evaluate("window.pictures"))
        rate, gaps = (len(times) - 1) / (times[-1] - times[0]) * 1e3, np.diff(times)
        print(f"{self.task_type.name}: {rate:.1f} pictures/s in the page (n = {len(times)}), gaps: median "
              f"{np.median(gaps):.0f} ms, 95 % under {np.quantile(gaps, 0.95):.0f} ms")  # fmt: skip
        return rate

    def save(self):
        self.press("Save")
        self.says("Saved")
        sizes = {"state": len(self.task_type.state_names), "action": len(self.task_type.action_low)}
        return files.read(self.out / f"{self.task_type.name}-by-hand.npz", sizes)

    def close(self) -> None:
        assert self.errors == []
        self.page.close()


@pytest.fixture
def drive(browser, lab, request):
    """A function that opens a driver; its kernel ends with the test."""
    opened = []

    def start(**options) -> Driver:
        opened.append(Driver(browser, lab, request.node.name.removeprefix("test_")[:40], **options))
        return opened[-1]

    yield start
    for driver in opened:
        if driver.page.is_closed():
            driver.page = browser.new_page()
            driver.page.goto(f"{driver.address}/lab?reset")
            driver.page.wait_for_function("window.jupyterapp?.serviceManager", timeout=PATIENCE_MS)
        driver.page.evaluate("window.jupyterapp.serviceManager.sessions.shutdownAll()")
        driver.page.close()


def circle(start: np.ndarray, n: int) -> np.ndarray:
    """A way (n, 2) from the start round a circle of 8 cm towards the middle, at less than the task's speed."""
    centre = start + 0.08 * (0.256 - start) / np.linalg.norm(0.256 - start)
    offset, angle = start - centre, np.linspace(0, 2 * np.pi, n)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(n, 2, 2)
    return centre + turn @ offset


def test_a_drag_in_the_browser_is_on_disk_as_an_episode(drive):
    driver = drive(seed=3)
    driver.record()
    driver.count_pictures()
    way = circle(driver.start[:2], 100)
    began = time.monotonic()
    driver.drag(way, step_ms=45)
    took = time.monotonic() - began
    driver.says("recording")
    rate = driver.picture_rate()
    driver.page.mouse.up()
    driver.press("Stop")
    driver.says("Kept episode 1")
    episodes = driver.save()
    assert rate >= 15
    assert len(episodes) == 1 and episodes.meta["outcome"] == ["stopped"]
    actions, states = episodes["action"], episodes["state"]
    np.testing.assert_allclose(states[0, [0, 1, 5, 6]], driver.start[[0, 1, 5, 6]], atol=1e-4)
    moving = actions[: int(10 * took)]
    # A pixel of the page is 1.4 mm wide, and the way lies 5 mm between two of its points.
    apart = np.linalg.norm(moving[:, None] - way[None], axis=-1)
    assert apart.min(axis=1).max() < 0.004, "every recorded target lies on the way of the mouse"
    nearest = apart.argmin(axis=1)
    assert (np.diff(nearest) >= 0).mean() > 0.95 and np.ptp(nearest) > 90, "in its order, from end to end"
    assert len(moving) >= 8 * took, f"{len(moving)} steps in {took:.1f} s, at 10 Hz"
    behind = np.linalg.norm(states[1 : len(moving), :2] - moving[:-1], axis=1)
    assert np.median(behind) < 0.02, "the pusher follows"
    driver.close()


def test_the_arm_is_driven_with_mouse_and_keys_in_the_browser(drive):
    driver = drive(task_type=PickPlace)
    grasp = arm.forward(driver.start[:6])[0]
    way = grasp + np.stack([0 * (t := np.linspace(0, 1, 60)), 0.10 * np.sin(2 * np.pi * t), 0 * t], axis=1)
    driver.record()
    driver.count_pictures()
    driver.drag(way)
    driver.says("recording")
    rate = driver.picture_rate()
    driver.page.mouse.up()
    driver.page.keyboard.down("e")
    driver.page.wait_for_timeout(600)
    driver.page.keyboard.up("e")
    driver.page.keyboard.press("Space")
    driver.page.wait_for_timeout(1500)
    driver.press("Stop")
    driver.says("Kept episode 1")
    assert rate >= 15
    episodes = driver.save()
    asked = arm.forward(episodes["action"])[0]
    assert asked[:, 1].max() - grasp[1] > 0.08 and asked[:, 1].min() - grasp[1] < -0.08
    assert asked[-1, 2] < grasp[2] - 0.03, "E lowered the hand"
    assert episodes["action"][-1, 5] < 0.02 < episodes["action"][0, 5], "Space closed the jaws"
    driver.close()


def test_the_answer_to_a_press_of_the_mouse_is_seen_at_once(drive, presses=6):
    """From the press in the page to the next picture in the page; the session sleeps before, so it is the answer."""
    driver = drive()
    driver.page.evaluate(
        """screen => {
            const image = document.querySelector(screen);
            window.answers = []; window.pressed = null; window.last = performance.now();
            image.addEventListener("mousedown", () => { window.pressed = performance.now(); }, true);
            new MutationObserver(() => {
                window.last = performance.now();
                if (window.pressed) { window.answers.push(window.last - window.pressed); window.pressed = null; }
            }).observe(image, {attributes: true, attributeFilter: ["src"]});
        }""",
        SCREEN,
    )
    driver.page.mouse.move(*driver.place([0.2, 0.3]))
    for press in range(presses):
        driver.page.wait_for_function("performance.now() - window.last > 1500", timeout=60_000)  # it sleeps
        driver.page.mouse.down()
        driver.page.wait_for_function(f"window.answers.length === {press + 1}", timeout=60_000)
        driver.page.mouse.up()
    answers = np.array(driver.page.evaluate("window.answers"))
    print(f"press to picture: median {np.median(answers):.0f} ms, slowest {answers.max():.0f} ms, n = {presses}")
    # The loop's own share has its bar in tests/bench; this one has the way through Jupyter and the browser on top.
    assert np.median(answers) < 150
    driver.close()


def test_keys_drive_and_undo_removes_the_last_episode(drive):
    driver = drive()
    for keys in (["ArrowRight", "w"], ["a"]):
        driver.record()
        driver.page.mouse.move(*driver.place([0.256, 0.256]))
        for key in keys:
            driver.page.keyboard.down(key)
        driver.says("recording")
        driver.page.wait_for_timeout(600)
        for key in keys:
            driver.page.keyboard.up(key)
        driver.press("Stop")
        driver.says("practice")
    driver.says("2 episodes")
    assert driver.page.locator(".jp-Cell").count() == 1, "Lab's own shortcuts did not see the keys"
    driver.press("Undo last")
    driver.says("1 episode ·")
    episodes = driver.save()
    assert len(episodes) == 1
    moved = episodes["state"][-1, :2] - driver.start[:2]
    assert moved[0] > 0.03 and abs(moved[0] - moved[1]) < 0.03, "right and up, as the first two keys say"
    before = (driver.out / "pusht-by-hand.npz").read_bytes()
    driver.press("Save")
    driver.says("exists already")
    assert (driver.out / "pusht-by-hand.npz").read_bytes() == before
    driver.close()


def test_a_gamepad_drives(drive):
    driver = drive()
    driver.says("gamepad")
    driver.record()
    driver.page.evaluate("window.pad.axes = [0, -1, 0, 0]")
    driver.says("recording")
    driver.page.wait_for_timeout(600)
    driver.page.evaluate("window.pad.axes = [0, 0, 0, 0]")
    driver.press("Stop")
    driver.says("Kept episode 1")
    episodes = driver.save()
    moved = episodes["state"][-1, :2] - driver.start[:2]
    assert moved[1] > 0.05 and abs(moved[0]) < 0.01
    driver.close()


def test_a_page_that_closes_while_recording_loses_nothing(drive):
    driver = drive()
    way = circle(driver.start[:2], 40)
    driver.record()
    driver.drag(way)
    driver.says("recording")
    assert not list(driver.out.glob("*"))
    driver.close()  # with the button down, in the middle of a recording
    wait_for(lambda: list(driver.out.glob("pusht-unsaved-*.npz")), 15, "the file of unsaved episodes")
    (unsaved,) = driver.out.glob("*")
    kept = files.read(unsaved, {"state": 7, "action": 2})
    assert kept.meta["outcome"] == ["connection lost"]
    assert len(kept["action"]) >= 10
    assert np.linalg.norm(kept["action"][:, None] - way[None], axis=-1).min(axis=1).max() < 0.004
    driver.open()  # a new page on the same kernel, the cell runs again: the same session goes on
    driver.says("1 episode ·")
    driver.start = PushT().starts([1])[0]
    driver.record()
    driver.drag(circle(driver.start[:2], 20))
    driver.page.mouse.up()
    driver.press("Stop")
    driver.says("2 episodes")
    assert driver.save().meta["seed"] == [0, 1]
    assert not unsaved.exists()
    driver.close()
