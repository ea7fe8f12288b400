"""Pictures of states: OpenGL where it works, the plain drawing where it does not."""

from __future__ import annotations

import atexit
import functools
import math
import os
import queue
import signal
import threading
import time
import warnings
from concurrent.futures import Future, wait
from contextlib import suppress

import mujoco
import numpy as np

from ilbook.draw import gl
from ilbook.draw.plain import Drawing
from ilbook.draw.view import Pictures
from ilbook.errors import UserError

OPEN = 8  # contexts at a time: each takes 11 MB and more, and opens anew in 20 ms
SHADOW = 1024  # pixels a side of the map of shadows in nice pictures; 2048 would halve the speed
FORK_PATIENCE = 5.0  # s for what takes a millisecond
PATIENCE = 30.0  # s without a picture; the slowest scene known, 322,000 triangles, takes 1 s for one
HANGS = (
    "OpenGL does not answer: another renderer of this process, such as a glfw window, has failed or holds it; "
    "restart the kernel and let ilbook draw first, or set ILBOOK_GL=none to draw without OpenGL"
)
LAMP = 0.6  # share of the camera's light that comes from the side in nice pictures


class Renderer(Pictures):
    """Draws a model through OpenGL; may be called from any thread. `nice` pictures are for videos, not for policies."""

    def __init__(self, model: mujoco.MjModel, size: int, camera: str = "top", nice: bool = False):
        super().__init__(model, size, camera, smooth=True)
        self.nice, self.camera, self.process = nice, camera, os.getpid()
        self._large = np.empty((self.samples * size, self.samples * size, 3), np.uint8)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0  # sites are marks for the program
        self._renderer: mujoco.Renderer | None = None
        visual = model.vis
        visual.global_.offwidth = visual.global_.offheight = self.samples * size
        visual.quality.shadowsize = visual.quality.offsamples = 0  # either makes a software driver many times slower
        if nice:
            visual.quality.shadowsize = SHADOW  # but no offsamples: they halve the speed, and `samples` smooths already
            visual.quality.numslices, visual.quality.numstacks, visual.quality.numquads = 64, 32, 4
            # Shadows are as fine as the map is small: it covers no more than the picture shows.
            ahead = max(self.view.depth(model.stat.center), 0.0)
            self._middle = self.view.position - ahead * self.view.axes[2]
            seen = self.view.height * (1.0 if self.view.flat else ahead)
            visual.map.shadowclip = min(visual.map.shadowclip, seen / model.stat.extent)

    def frames(self, qpos: np.ndarray, moving: bool = True) -> np.ndarray:
        return _in_gl_thread(self._frames, self._checked(qpos), moving)

    def _open(self) -> None:
        """Have a context; too many of them cost the oldest one."""
        if self._renderer:
            return
        while len(_opened) >= OPEN:
            _opened.pop(0)._close()
        side = self.samples * self.size
        if _hangs():
            raise UserError(HANGS)
        try:
            self._renderer = mujoco.Renderer(self.model, side, side, max_geom=1000)
        except Exception as error:
            what = f"{gl.choose().name.upper()} drew a test frame, but now fails: {error}"
            raise UserError(f"{what}; set ILBOOK_GL=none to draw without OpenGL") from error
        _opened.append(self)
        # Now that mujoco has opened a context, so that it runs before mujoco's own: handlers run last in, first out.
        atexit.unregister(_close_all)
        atexit.register(_close_all)

    def _close(self) -> None:
        self._renderer.render(out=self._large)  # makes its context the current one, which closing takes for granted
        self._renderer.close()
        self._renderer = None

    def _frames(self, qpos: np.ndarray, moving: bool) -> np.ndarray:
        self._open()
        out = np.empty((len(qpos), self.size, self.size, 3), np.uint8)
        opacity = self.model.geom_rgba[:, 3].copy()
        if not moving:
            self.model.geom_rgba[self.moves, 3] = 0
        for row, positions in zip(out, qpos, strict=True):
            self._place(positions)
            self._renderer.update_scene(self._data, self.camera, self._option)
            if self.nice:
                self._light(self._renderer.scene)
            self._renderer.render(out=self._large)
            row[:] = self._averaged(self._large)
            _heard[0] = time.monotonic()
        self.model.geom_rgba[:, 3] = opacity
        return out

    def _light(self, scene: mujoco.MjvScene) -> None:
        """Aim the lights at the middle of the picture; where there is none, one shines from its upper left, with a part
        of the camera's own light, which casts no shadow: what faces the camera stays as bright.
        """
        if not self.model.nlight:
            head, lamp = scene.lights[0], scene.lights[1]
            towards = np.array([-0.4, 0.5, 1.0]) / np.linalg.norm([-0.4, 0.5, 1.0])
            part = LAMP * np.array(head.diffuse)
            head.diffuse = head.diffuse - part
            lamp.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
            lamp.diffuse, lamp.ambient, lamp.specular = part / towards[2], np.zeros(3), np.zeros(3)
            lamp.dir = -towards @ self.view.axes
            lamp.attenuation, lamp.exponent, lamp.cutoff = np.array([1.0, 0.0, 0.0]), 0.0, 180.0
            lamp.headlight, lamp.castshadow, lamp.texid = 0, 1, -1
            scene.nlight = 2
        for lamp in scene.lights[: scene.nlight]:
            if lamp.type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL and not lamp.headlight:
                # Where such a light stands changes only what its shadow map covers.
                lamp.pos = self._middle - self.model.stat.extent * np.array(lamp.dir)


def renderer(scene, size: int, nice: bool = False) -> Pictures:
    """What draws a scene at `size` x `size` pixels, the same object for the same question.

    A scene, such as a task, is hashable and has a name, a camera of its model, and `load_model`, new at each call.
    """
    if not 8 <= size <= 2048:
        raise UserError(f"{scene.name}: pictures of {size} pixels a side cannot be drawn; choose 8 to 2048")
    return _renderer(scene, size, bool(nice), os.getpid())


@functools.cache
def _renderer(scene, size: int, nice: bool, process: int) -> Pictures:
    lost = _lost()
    if lost:
        warnings.warn("OpenGL does not survive a fork: this process uses the plain drawing", stacklevel=3)
    kind = Drawing if lost or gl.choose().name == "none" else Renderer
    return kind(scene.load_model(), size, scene.camera, nice)


# -- one thread owns every OpenGL context, because a context belongs to the thread that made it ------------------------
_opened: list[Renderer] = []  # those with a context, the oldest first; only that thread changes it
_heard = [math.inf]  # when that thread last began a task or ended a picture; inf while it has nothing to do
_starting = threading.Lock()


def _in_gl_thread(task, *arguments):
    """The result of `task`, called in the thread of the contexts. UserError if that thread hangs."""
    if _lost():
        raise UserError("OpenGL does not survive a fork; start this process with the method 'spawn'")
    with _starting:
        todo, answer = _todo(os.getpid()), Future()
    todo.put((answer, task, arguments))
    while not wait([answer], 1.0).done:
        if time.monotonic() - _heard[0] > PATIENCE:
            raise UserError(HANGS)
    return answer.result()


@functools.cache
def _hangs() -> bool:
    """Whether a renderer that failed before, without a context, has left mujoco waiting for itself: for ever, and with
    Python's lock in its hands, so that no other thread could tell. A forked child tries. Called before all contexts.
    """
    if not hasattr(os, "fork"):
        return False
    with warnings.catch_warnings(action="ignore"):  # a fork beside threads: this child takes nothing of theirs
        child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it, whoever has Python's lock
            signal.setitimer(signal.ITIMER_REAL, FORK_PATIENCE)
            mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100)  # fails at once, or never
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGALRM


@functools.cache
def _todo(process: int) -> queue.SimpleQueue:
    """What the thread of the contexts, a daemon because exit handlers need it, is to do: (answer, task, arguments)."""
    todo = queue.SimpleQueue()

    def work() -> None:
        while True:
            answer, task, arguments = todo.get()
            _heard[0] = time.monotonic()
            try:
                answer.set_result(task(*arguments))
            except BaseException as error:  # the caller's to handle
                answer.set_exception(error)
            _heard[0] = math.inf

    threading.Thread(target=work, daemon=True).start()
    return todo


def _lost() -> bool:
    """Whether this is a forked child of a process with contexts: it has the memory, but not the thread."""
    return any(one.process != os.getpid() for one in _opened)


def _close_all() -> None:
    """Free the contexts in their thread, when the process ends."""
    with suppress(UserError):  # a thread that hangs frees nothing
        if not _lost():
            _in_gl_thread(lambda: [one._close() for one in _opened])
