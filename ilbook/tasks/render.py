"""Pictures of states: OpenGL where it works, the plain drawing of `ilbook.tasks.draw` where it does not."""

from __future__ import annotations

import atexit
import functools
import os
import queue
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, TypeVar

import mujoco
import numpy as np
from PIL import Image

from ilbook import gl
from ilbook.errors import UserError
from ilbook.tasks.draw import CAMERA, Drawing, checked, moving_geoms, window

if TYPE_CHECKING:
    from ilbook.tasks.base import Task

T = TypeVar("T")
SAMPLES = 2  # a side of a pixel, averaged: smooth edges for a third of the speed


class Pictures(Protocol):
    """What draws the states of one model at one size."""

    window: tuple[float, float, float, float]  # left, right, bottom, top of the picture, metres

    def frames(self, qpos: np.ndarray, moving: bool = True) -> np.ndarray: ...


class Renderer:
    """Draws a model through its top camera, without shadows; may be called from any thread."""

    def __init__(self, model: mujoco.MjModel, size: int):
        self.model, self.size = model, size
        self.window = window(model)
        self._moves = moving_geoms(model)
        self._data = mujoco.MjData(model)
        self._large = np.empty((SAMPLES * size, SAMPLES * size, 3), np.uint8)
        _in_gl_thread(self._open)

    def frames(self, qpos: np.ndarray, moving: bool = True) -> np.ndarray:
        """Pictures (n, size, size, 3) uint8 of joint positions (n, nq); `moving=False` leaves out what can move."""
        qpos = checked(self.model, qpos)
        return _in_gl_thread(lambda: self._frames(qpos, moving))

    def _open(self) -> None:
        visual = self.model.vis
        visual.global_.offwidth = visual.global_.offheight = SAMPLES * self.size
        visual.quality.shadowsize = visual.quality.offsamples = 0  # either makes a software driver many times slower
        try:
            self._renderer = mujoco.Renderer(self.model, SAMPLES * self.size, SAMPLES * self.size, max_geom=1000)
        except Exception as error:
            raise UserError(
                f"{gl.choose().name.upper()} drew a test frame, but now fails: {error}; "
                "set ILBOOK_GL=none to draw without OpenGL"
            ) from error
        atexit.register(_close, self._renderer)  # before mujoco's own: handlers run last in, first out

    def _frames(self, qpos: np.ndarray, moving: bool) -> np.ndarray:
        out = np.empty((len(qpos), self.size, self.size, 3), np.uint8)
        opacity = self.model.geom_rgba[:, 3].copy()
        if not moving:
            self.model.geom_rgba[self._moves, 3] = 0
        for row, positions in zip(out, qpos, strict=True):
            self._data.qpos[:] = positions
            mujoco.mj_kinematics(self.model, self._data)
            mujoco.mj_camlight(self.model, self._data)
            self._renderer.update_scene(self._data, camera=CAMERA)
            self._renderer.render(out=self._large)
            row[:] = np.asarray(Image.fromarray(self._large).reduce(SAMPLES))
        self.model.geom_rgba[:, 3] = opacity
        return out


def renderer(task_type: type[Task], size: int) -> Pictures:
    """What draws this task at `size` x `size` pixels; the same object for the same question."""
    if not 8 <= size <= 2048:
        raise UserError(f"{task_type.name}: pictures of {size} pixels a side cannot be drawn; choose 8 to 2048")
    return _renderer(task_type, size)


@functools.cache
def _renderer(task_type: type[Task], size: int) -> Pictures:
    model = task_type.load_model()
    if _orphaned:
        warnings.warn("OpenGL does not survive a fork: this process uses the plain drawing", stacklevel=3)
    return Drawing(model, size) if _orphaned or gl.choose().name == "none" else Renderer(model, size)


# -- one thread owns every OpenGL context, because a context belongs to the thread that made it ------------------------
_jobs: queue.SimpleQueue | None = None
_starting = threading.Lock()
_orphaned = False  # whether this is a forked child of a process with contexts: it has the memory, but not the thread


def _in_gl_thread(task: Callable[[], T]) -> T:
    """The result of `task`, called in the thread of the contexts."""
    global _jobs
    if _orphaned:
        raise UserError("OpenGL does not survive a fork; start this process with the method 'spawn'")
    with _starting:
        if _jobs is None:
            _jobs = queue.SimpleQueue()
            # A daemon is still there when exit handlers run, and never keeps the process alive.
            threading.Thread(target=_work, args=(_jobs,), name="ilbook-gl", daemon=True).start()
    future: Future[T] = Future()
    _jobs.put((future, task))
    return future.result()


def _work(jobs: queue.SimpleQueue) -> None:
    while True:
        future, task = jobs.get()
        try:
            future.set_result(task())
        except BaseException as error:  # whatever it is, it belongs to the caller
            future.set_exception(error)


def _close(rendering: mujoco.Renderer) -> None:
    """Free a context in its thread, when the process ends."""
    if not _orphaned:
        _in_gl_thread(rendering.close)


def _after_fork() -> None:
    global _orphaned
    _orphaned = _jobs is not None
    _renderer.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
