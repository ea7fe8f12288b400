"""Pictures of states, by OpenGL and by the plain drawing."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import matplotlib.pyplot as plt
import mujoco
import numpy as np
import pytest

from ilbook.draw import gl, render
from ilbook.draw.plain import Drawing
from ilbook.draw.render import renderer
from ilbook.draw.view import View
from ilbook.errors import UserError
from ilbook.page import viz
from ilbook.tasks.avoid import Avoid
from ilbook.tasks.insert import Insert
from ilbook.tasks.pickplace import PickPlace
from ilbook.tasks.pusht import TARGET, WORLD, PushT

BLUE, SLATE, GREEN = (31, 89, 178), (115, 128, 148), (140, 204, 148)
needs_gl = pytest.mark.skipif(gl.choose().name == "none", reason="no OpenGL here; the plain drawing is tested alone")


def states(task_type, n):
    return task_type.starts(range(n))


def positions(task_type, n):
    return states(task_type, n)[:, : task_type.load_model().nq]


def near(frame, colour):
    return (np.abs(frame.astype(int) - colour).max(axis=-1) < 25).nonzero()


def drawings(task_type, size):
    """Both ways to draw, where both exist."""
    ways = [Drawing(task_type.load_model(), size, task_type.camera)]
    return ways if gl.choose().name == "none" else [*ways, renderer(task_type, size)]


@pytest.mark.parametrize("way", range(2 if gl.choose().name != "none" else 1))
def test_things_are_where_the_state_says(way):
    drawing = drawings(PushT(), 192)[way]
    state = np.array([[0.40, 0.10, 0.10, 0.40, 0.0]])
    (frame,) = drawing.frames(state)
    left, right, _, top = drawing.view.window
    metres = (right - left) / 192
    for colour, expected in ((BLUE, (0.40, 0.10)), (SLATE, (0.10, 0.40)), (GREEN, TARGET[:2])):
        rows, columns = near(frame, colour)
        found = left + metres * (columns.mean() + 0.5), top - metres * (rows.mean() + 0.5)
        assert np.allclose(found, expected, atol=2 * metres), colour
    rows, columns = near(frame, BLUE)
    around = frame[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5, 0].astype(float)
    covered = (around.max() - around).sum() / (around.max() - BLUE[0])  # pixels; the edge counts in part
    assert covered * metres**2 == pytest.approx(np.pi * 0.015**2, rel=0.06)


def test_the_whole_workspace_shows_with_a_margin():
    left, right, bottom, top = View.of(PushT().load_model(), "top", 96).window
    assert -0.03 < left < 0 < WORLD < right < WORLD + 0.03
    assert -0.03 < bottom < 0 < WORLD < top < WORLD + 0.03


@needs_gl
@pytest.mark.parametrize("task_type", [PushT(), Avoid(), Insert(), PickPlace()])
@pytest.mark.parametrize("size", [96, 256])
def test_the_plain_drawing_is_like_opengl(task_type, size):
    """Up to the edges, which it smooths in small pictures only: a policy that looks sees the same with either."""
    plain, full = (drawing.frames(positions(task_type, 6)).astype(float) for drawing in drawings(task_type, size))
    assert np.abs(plain - full).mean() < (0.1 if size == 96 else 1.0)  # of 255
    assert np.abs(plain - np.roll(plain, 3, axis=1)).mean() > 1.5, "the bar above would not see a shift of 3 pixels"


SHAPES = """<mujoco><visual><headlight ambient=".55 .55 .55" diffuse=".45 .45 .45" specular="0 0 0"/></visual>
<worldbody><camera name="top" pos="0 0 2" projection="orthographic" fovy="1"/>
<geom type="plane" size="0 0 1" rgba=".9 .9 .9 1"/>
<geom type="capsule" fromto="-.3 -.3 .1 -.1 -.1 .2" size=".05" rgba=".8 .2 .2 1"/>
<geom type="box" pos=".2 .2 .1" euler="20 30 40" size=".1 .05 .05" rgba=".2 .2 .8 1"/>
<geom type="box" pos=".2 -.2 .5" size=".15 .15 .01" rgba="0 .6 0 .5"/>
<geom type="cylinder" pos=".2 -.2 .1" euler="90 0 0" size=".03 .1" rgba=".1 .1 .1 1"/>
<geom type="ellipsoid" pos="-.3 .35 .1" size=".1 .05 .03" rgba=".7 .3 .6 1"/>
<body pos="-.2 .1 .1"><joint type="slide"/><geom type="sphere" size=".1" rgba=".9 .6 .1 1"/></body>
</worldbody></mujoco>"""


class Shapes:
    name, camera = "shapes", "top"

    @classmethod
    def load_model(cls):
        return mujoco.MjModel.from_xml_string(SHAPES)


@needs_gl
def test_every_shape_can_be_drawn_tilted_and_half_transparent():
    plain, full = (drawing.frames(np.zeros((1, 1))).astype(float) for drawing in drawings(Shapes, 128))
    assert np.abs(plain - full).max(axis=-1).mean() < 2.0


# -- any camera ------------------------------------------------------------------------------------------------------
SCENE = """<mujoco><asset><material name="grey" rgba=".5 .55 .6 1"/>
<mesh name="wedge" vertex="0 0 0 .1 0 0 0 .1 0 .1 .1 0 0 0 .1 .1 0 .1"/></asset>
<visual><headlight ambient=".5 .5 .5" diffuse=".4 .4 .4" specular="0 0 0"/><map znear=".01" zfar="30"/></visual>
<worldbody>
<light pos="0 0 2" dir="0 0 -1" directional="true" diffuse=".2 .2 .2" specular="0 0 0"/>
<camera name="side" pos=".1 -2 .2" xyaxes="1 0 0 0 0 1" projection="orthographic" fovy="1.2"/>
<camera name="behind" pos=".1 2 .2" xyaxes="-1 0 0 0 0 1" projection="orthographic" fovy="1.2"/>
<camera name="front" pos=".9 -.6 .7" xyaxes=".6 .9 0 -.35 .23 .8" fovy="45"/>
<geom type="plane" pos="0 0 -.05" size="0 0 1" rgba=".7 .7 .75 1"/>
<geom type="box" pos="0 0 -.02" size=".4 .4 .02" rgba=".9 .85 .8 1"/>
<geom type="cylinder" pos="-.1 0 .05" size=".05 .05" material="grey"/>
<geom type="capsule" fromto="-.1 0 .1 0 .1 .35" size=".03" rgba=".9 .6 .1 1"/>
<geom type="mesh" mesh="wedge" pos="-.2 -.3 0.05" rgba=".5 .2 .6 1"/>
<site pos=".2 .2 .1" size=".05" rgba="1 0 0 1"/>
<body name="cube" pos="0 0 .03"><freejoint/><geom type="box" size=".03 .03 .03" rgba=".8 .1 .1 1"/></body>
<body name="ball" pos="0 0 .04"><freejoint/><geom type="sphere" size=".04" rgba=".1 .2 .8 1"/></body>
</worldbody></mujoco>"""
DEEP = (25, 51, 204)


class Scene:
    name, camera = "scene", "front"

    @classmethod
    def load_model(cls):
        return mujoco.MjModel.from_xml_string(SCENE)


class Side(Scene):
    name, camera = "side", "side"


def placed(cube, ball=(0.25, 0.25, 0.04)):
    return np.array([[*cube, 1, 0, 0, 0, *ball, 1, 0, 0, 0]])


def centre(frame, colour):
    """Middle (column, row) of what has this hue."""
    hue = frame / np.maximum(frame.max(axis=-1, keepdims=True), 1)
    rows, columns = (np.abs(hue - np.array(colour) / max(colour)).max(axis=-1) < 0.08).nonzero()
    return np.array([columns.mean(), rows.mean()]) + 0.5


@needs_gl
@pytest.mark.parametrize("task_type", [Scene, Side])
def test_the_plain_drawing_is_like_opengl_through_any_camera(task_type):
    qpos = np.concatenate([placed((0.2, -0.1, 0.03)), placed((-0.25, 0.2, 0.03)), placed((0.0, -0.2, 0.3))])
    plain, full = (drawing.frames(qpos).astype(float) for drawing in drawings(task_type, 128))
    off = np.abs(plain - full).max(axis=-1)
    assert off.mean() < 0.5 and (off > 40).mean() < 0.003  # of 255
    assert (np.abs(plain - np.roll(plain, 5, axis=2)).max(axis=-1) > 40).mean() > 0.03, "the bar above sees no shift"


@pytest.mark.parametrize("way", range(2 if gl.choose().name != "none" else 1))
@pytest.mark.parametrize("task_type", [Scene, Side])
def test_things_appear_where_the_camera_sees_them(way, task_type):
    drawing = drawings(task_type, 256)[way]
    for ball in ((0.25, 0.25, 0.04), (0.3, -0.2, 0.2), (0.35, 0.0, 0.1)):
        (frame,) = drawing.frames(placed((-0.3, 0.3, 0.03), ball))
        assert np.allclose(centre(frame, DEEP), drawing.view.to_pixels(np.array([ball]))[0], atol=1.0)


@pytest.mark.parametrize("way", range(2 if gl.choose().name != "none" else 1))
def test_what_is_nearer_covers_what_is_farther(way):
    drawing = drawings(Scene, 128)[way]
    sight = drawing.view.position - [0.1, -0.1, 0.1]
    near, far = (np.array([0.1, -0.1, 0.1]) + share * sight for share in (0.2, 0.0))
    column, row = drawing.view.to_pixels(near[None])[0].astype(int)
    assert drawing.frames(placed(near, far))[0, row, column].argmax() == 0, "the cube is in front of the ball"
    assert drawing.frames(placed(far, near))[0, row, column].argmax() == 2, "the ball is in front of the cube"
    for x, y in ((0.2, -0.2), (-0.3, 0.3), (0.35, 0.25)):  # parts of the table are nearer than these
        column, row = drawing.view.to_pixels(np.array([[x, y, 0.06]]))[0].astype(int)
        (frame,) = drawing.frames(placed((x, y, 0.03), (0, 0, 0.5)))
        assert (frame[row, column, 1:] < 60).all(), "the cube stands on the table"


@pytest.mark.parametrize("camera", ["side", "behind", "front"])
def test_pixels_and_points_agree(camera):
    view = View.of(Scene.load_model(), camera, 200)
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 3))
    pixels = view.to_pixels(points)
    assert pixels.min() > 0 and pixels.max() < 200 and np.ptp(pixels, axis=0).min() > 30
    across = (pixels - view.size / 2) * [1, -1] / view.size * view.height @ view.axes[:2]
    far = view.depth(points)[:, None]
    assert np.allclose(view.position + across * (1 if view.flat else far) - far * view.axes[2], points, atol=1e-9)


def test_pixels_begin_in_the_upper_left_corner():
    view = View.of(PushT().load_model(), "top", 100)
    left, right, bottom, top = view.window
    corners = np.array([[left, top, 0.0], [right, bottom, 0.3]])
    assert np.allclose(view.to_pixels(corners), [[0, 0], [100, 100]])


def test_where_a_camera_sees_nothing_there_is_no_pixel():
    front = View.of(Scene.load_model(), "front", 100)
    behind = front.position + front.axes[2]
    assert np.isnan(front.to_pixels(behind[None])).all()
    with pytest.raises(UserError, match=r"\(n, 3\)"):
        front.to_pixels(np.zeros(3))


def test_only_a_straight_flat_camera_has_a_window():
    model = Scene.load_model()
    side, behind = (View.of(model, camera, 64) for camera in ("side", "behind"))
    assert np.allclose(side.window, (-0.5, 0.7, -0.4, 0.8)) and side.world_axes == (0, 2)
    assert np.allclose(behind.window, (0.7, -0.5, -0.4, 0.8)) and behind.world_axes == (0, 2)
    for drawing in drawings(Scene, 64):
        assert drawing.frames(placed((0, 0, 0.1))).shape == (1, 64, 64, 3)
        with pytest.raises(UserError, match="'front' is perspective"):
            _ = drawing.view.window
    turned = SHAPES.replace('pos="0 0 2" projection', 'pos="0 0 2" euler="0 0 5" projection')
    with pytest.raises(UserError, match="'top' is turned"):
        _ = Drawing(mujoco.MjModel.from_xml_string(turned), 32).view.window


def test_a_scene_may_be_a_value():
    @dataclass(frozen=True)
    class Zoomed:
        fovy: int
        name, camera = "zoomed", "front"

        def load_model(self):
            return mujoco.MjModel.from_xml_string(SCENE.replace('fovy="45"', f'fovy="{self.fovy}"'))

    assert renderer(Zoomed(30), 64) is renderer(Zoomed(30), 64) is not renderer(Zoomed(40), 64)


def test_a_perturbed_task_has_its_own_pictures():
    class Near(Scene):
        @classmethod
        def load_model(cls):
            return mujoco.MjModel.from_xml_string(SCENE.replace('fovy="45"', 'fovy="30"'))

    assert renderer(Near, 64) is not renderer(Scene, 64)
    one, other = (renderer(kind, 64).frames(placed((0.2, -0.1, 0.03))).astype(float) for kind in (Scene, Near))
    assert np.abs(one - other).mean() > 5


@needs_gl
@pytest.mark.parametrize("task_type", [PushT(), Scene])
def test_nice_pictures_have_shadows_and_are_others(task_type):
    qpos = positions(PushT(), 1) if task_type == PushT() else placed((0.2, -0.1, 0.3))
    plain, nice = (renderer(task_type, 160, nice).frames(qpos)[0].astype(float).mean(axis=-1) for nice in (False, True))
    assert renderer(task_type, 160, True) is not renderer(task_type, 160)
    assert 0.003 < (nice < plain - 15).mean() < 0.2, "there are shadows"
    assert (np.abs(nice - plain) < 8).mean() > 0.7, "and all else is as bright as before"
    (empty,) = renderer(task_type, 160, True).frames(qpos, moving=False)
    assert (np.abs(empty.mean(axis=-1) - nice) > 15).mean() > 0.003


@needs_gl
def test_few_contexts_are_open_and_closed_ones_draw_again(monkeypatch):
    monkeypatch.setattr(render, "OPEN", 2)
    models = [render.Renderer(PushT().load_model(), size) for size in (16, 24, 32)]
    qpos = positions(PushT(), 2)
    expected = [drawn.frames(qpos) for drawn in models]
    assert len(render._opened) == 2
    for _ in range(2):
        assert all(np.array_equal(drawn.frames(qpos), frames) for drawn, frames in zip(models, expected, strict=True))


@pytest.mark.parametrize("way", range(2 if gl.choose().name != "none" else 1))
def test_the_empty_scene_leaves_out_what_moves(way):
    drawing = drawings(PushT(), 96)[way]
    before = drawing.frames(positions(PushT(), 1))
    (empty,) = drawing.frames(positions(PushT(), 1), moving=False)
    assert not len(near(empty, BLUE)[0]) and not len(near(empty, SLATE)[0]) and len(near(empty, GREEN)[0])
    assert np.array_equal(drawing.frames(positions(PushT(), 1)), before)


def test_any_thread_may_ask():
    expected = PushT().render(states(PushT(), 3))
    assert expected.shape == (3, 96, 96, 3) and expected.dtype == np.uint8
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(PushT().render(states(PushT(), 3)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 3 and all(np.array_equal(answer, expected) for answer in answers)
    assert renderer(PushT(), 96) is renderer(PushT(), 96)


def fastest(drawing, qpos):
    """Frames a second, the best of three: other processes share the cores."""
    drawing.frames(qpos[:2])
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        drawing.frames(qpos)
        seconds.append(time.perf_counter() - start)
    return len(qpos) / min(seconds)


@pytest.mark.parametrize("way", range(2 if gl.choose().name != "none" else 1))
def test_300_frames_a_second(way):
    drawing = drawings(PushT(), 96)[way]
    many = positions(PushT(), 100)
    assert fastest(drawing, many) >= 300


LINK = """<body pos="0 0 .08"><joint axis="{}"/><geom type="cylinder" size=".025 .025" euler="90 0 0"/>
<geom type="capsule" fromto="0 0 0 0 0 .08" size=".015"/><geom type="box" pos="0 .02 .04" size=".01 .01 .02"/>"""
LINKS = "".join(map(LINK.format, ("0 0 1", *["0 1 0"] * 3, "1 0 0", "0 0 1"))) + "</body>" * 6


@pytest.mark.parametrize("way", range(2 if gl.choose().name != "none" else 1))
def test_100_frames_a_second_of_an_arm_in_perspective(way):
    arm = SCENE.replace("</worldbody>", LINKS + "</worldbody>")

    class Arm(Scene):
        @classmethod
        def load_model(cls):
            return mujoco.MjModel.from_xml_string(arm)

    drawing = drawings(Arm, 96)[way]
    many = np.repeat(Arm.load_model().qpos0[None], 40, axis=0)
    many[:, -6:] = np.random.default_rng(0).uniform(-0.8, 0.8, (40, 6))
    assert drawing.model.ngeom > 24 and len({frame.tobytes() for frame in drawing.frames(many)}) == 40
    assert fastest(drawing, many) >= 100


# -- who uses the pictures -------------------------------------------------------------------------------------------
def test_trajectories_of_a_side_view_lie_on_the_things_in_its_picture():
    ball = np.array([0.25, 0.0, 0.5])
    state = placed((0, 0, 0.03), ball)[0]
    ax = viz.trajectories(Side(), [np.repeat(state[None], 3, axis=0)], columns=(7, 9))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (m)", "z (m)")
    left, right, bottom, top = ax.images[0].get_extent()
    drawn = renderer(Side(), viz.SCENE_SIZE)
    column, row = centre(drawn.frames(state[None, : drawn.model.nq])[0], DEEP) / viz.SCENE_SIZE
    seen = left + (right - left) * column, top - (top - bottom) * row
    plt.close(ax.figure)
    assert np.allclose(seen, ball[[0, 2]], atol=0.005)
    with pytest.raises(UserError, match="'front' is perspective"):
        viz.trajectories(Scene(), [state[None]])
    plt.close("all")


CHILD = """
import os, sys
from ilbook.tasks.pusht import PushT
task = PushT()
task.render(task.starts([0]))
if (child := os.fork()) == 0:  # as Gymnasium's AsyncVectorEnv does
    task.render(task.starts([0]))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_draws_and_the_end_of_the_process_is_quiet():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CHILD], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_opengl_the_plain_drawing_is_used():
    code = "from ilbook.tasks.pusht import PushT; from ilbook.draw.render import renderer; r = renderer(PushT(), 32);"
    code += "print(type(r).__name__, PushT().render(PushT().starts([0]), 32).shape)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ILBOOK_GL": "none"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "Drawing (1, 32, 32, 3)", done.stderr


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(UserError, match="pusht: pictures of 4 pixels"):
        renderer(PushT(), 4)
    moving = "<body><joint/><geom size='.1'/><camera name='top' pos='0 0 2'/></body>"
    for content, words in (("<geom size='.1'/>", "no camera named 'top'"), (moving, "stands still")):
        model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{content}</worldbody></mujoco>")
        with pytest.raises(UserError, match=words):
            Drawing(model, 32)
    for drawing in drawings(PushT(), 96):
        with pytest.raises(UserError, match=r"\(n, 5\)"):
            drawing.frames(np.zeros((2, 4)))
        with pytest.raises(UserError, match="finite"):
            drawing.frames(np.full((1, 5), np.nan))


HUNG = """import time, mujoco, numpy
from ilbook.draw import render
from ilbook.tasks.pusht import PushT
from ilbook.errors import UserError
{before}
for _ in range(2):
    began = time.monotonic()
    try:
        PushT().render(numpy.zeros((1, 7)))
    except UserError as error:
        print(time.monotonic() - began < {limit}, error)
"""
THEIRS = """try:  # without a context: mujoco then waits for itself, whenever it is asked again
    mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100)
except mujoco.FatalError:
    pass
render.FORK_PATIENCE = 2.0"""
STUCK = """import threading
render.PATIENCE = 2.0
answer = render._todo(__import__("os").getpid())
answer.put((render.Future(), threading.Event().wait, ()))
time.sleep(0.1)"""


@pytest.mark.skipif(gl.choose().name == "none", reason="OpenGL does not work here")
@pytest.mark.parametrize(
    ("before", "backend", "words"),
    [
        (THEIRS, "", "OpenGL does not answer"),
        (THEIRS, "glx", "OpenGL does not answer"),
        (THEIRS, "egl", "EGL drew a test frame, but now fails"),
        (STUCK, "", "OpenGL does not answer"),
    ],
)
def test_what_never_answers_ends_with_a_sentence(before, backend, words):
    """In a process of its own, which must end too."""
    code = HUNG.format(before=before, limit=30)
    environment = os.environ | {"MUJOCO_GL": backend, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.count(f"True {words}") == 2, done.stdout + done.stderr


def test_drawing_needs_no_semaphores():
    """Containers with a read-only /dev/shm have none."""
    code = """import _multiprocessing
def none(*_): raise OSError(30, "Read-only file system")
_multiprocessing.SemLock = none
import numpy; from ilbook.tasks.pusht import PushT
print(PushT().render(numpy.zeros((1, 7))).shape)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.startswith("(1, "), done.stderr
