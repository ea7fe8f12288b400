"""Where a camera sees a point of the world: between metres and the pixels of a picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import mujoco
import numpy as np
from PIL import Image

from ilbook.errors import UserError

PARALLEL = 1e-6  # a cosine below this is zero
SAMPLES = 2  # a side of a pixel, averaged where edges are to be smooth: a third of the speed
MANY = 1024  # pixels a side that are smooth enough without


@dataclass(frozen=True, eq=False)
class View:
    """A camera that stands still, and the square picture that it takes.

    Pixels are (column, row) from the upper left corner of the picture; the centre of the first pixel is (0.5, 0.5).
    """

    camera: str
    size: int  # pixels a side
    position: np.ndarray  # (3,) of the world
    axes: np.ndarray  # (3, 3): the picture's right, its up, and back to the camera, as rows
    flat: bool  # orthographic, else perspective
    height: float  # metres that the picture shows; for a perspective camera at one metre from it

    @classmethod
    def of(cls, model: mujoco.MjModel, camera: str, size: int) -> View:
        """The view of a camera of the model, by name."""
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if index < 0:
            raise UserError(f"the model has no camera named {camera!r}; add one to the task's xml")
        aim = max(model.cam_targetbodyid[index], 0)  # the world, where it follows no body
        if model.body_weldid[model.cam_bodyid[index]] or model.body_weldid[aim]:
            raise UserError(f"the camera {camera!r} moves with a body; pictures need one that stands still")
        data = mujoco.MjData(model)
        place(model, data)
        # The name of this field changed within MuJoCo 3. In it, a flat camera's fovy is a length in metres.
        flat = bool(getattr(model, "cam_projection", getattr(model, "cam_orthographic", None))[index])
        angle = float(model.cam_fovy[index])
        height = angle if flat else 2 * np.tan(np.deg2rad(angle) / 2)
        return cls(camera, size, data.cam_xpos[index].copy(), data.cam_xmat[index].reshape(3, 3).T.copy(), flat, height)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """How far points (..., 3) lie in front of the camera (...,), along its line of sight, metres."""
        return (self.position - points) @ self.axes[2]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3), which must lie in front of a perspective camera."""
        scale = self.size / self.height if self.flat else self.size / (self.height * self.depth(points)[..., None])
        return (points - self.position) @ (self.axes[:2] * [[1], [-1]]).T * scale + self.size / 2

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Pixels (n, 2) of points (n, 3) of the world; nan for what lies behind a perspective camera."""
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise UserError(f"points of the world must have the shape (n, 3), not {points.shape}")
        if not self.flat:
            points = np.where(self.depth(points)[:, None] > 0, points, np.nan)
        return self.project(points)

    @property
    def world_axes(self) -> tuple[int, int]:
        """Which axes of the world (0 x, 1 y, 2 z) run along the picture's width and height."""
        along = np.abs(self.axes[:2])
        if not self.flat or not np.allclose(along.max(axis=1), 1, atol=PARALLEL):
            raise UserError(
                f"the camera {self.camera!r} is {'turned' if self.flat else 'perspective'}, so that its picture has no "
                "axes in metres; draw through to_pixels, or use an orthographic camera that looks along an axis"
            )
        right, up = along.argmax(axis=1).tolist()
        return right, up

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of the picture: metres along its `world_axes`, which may run backwards."""
        (i, j), (right, up, _) = self.world_axes, self.axes
        across, upward = (np.sign(axis[k]) * self.height / 2 for axis, k in ((right, i), (up, j)))
        x, y = self.position[i], self.position[j]
        return float(x - across), float(x + across), float(y - upward), float(y + upward)


def place(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Put bodies, cameras and lights, which may follow a centre of mass, where the joint positions say."""
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


class Pictures(ABC):
    """What draws the states of one model through one camera at one size."""

    def __init__(self, model: mujoco.MjModel, size: int, camera: str, smooth: bool):
        self.model, self.size = model, size
        self.samples = SAMPLES if smooth and size <= MANY else 1
        self.view = View.of(model, camera, size)
        self.moves = model.body_weldid[model.geom_bodyid] != 0  # (G,) whether a geom belongs to what can move
        self._data = mujoco.MjData(model)

    @abstractmethod
    def frames(self, qpos: np.ndarray, moving: bool = True) -> np.ndarray:
        """Pictures (n, size, size, 3) uint8 of joint positions (n, nq); `moving=False` leaves out what can move."""

    def _place(self, positions: np.ndarray) -> None:
        """Joint positions (nq,) are what is drawn next."""
        self._data.qpos[:] = positions
        place(self.model, self._data)

    def _averaged(self, large: np.ndarray) -> np.ndarray:
        """A picture of all samples as one of pixels (size, size, 3)."""
        return np.asarray(Image.fromarray(large).reduce(self.samples))

    def _checked(self, qpos: np.ndarray) -> np.ndarray:
        """Joint positions (n, nq) as numbers that can be drawn."""
        qpos = np.asarray(qpos, dtype=np.float64)
        if qpos.ndim != 2 or qpos.shape[1] != self.model.nq:
            raise UserError(f"pictures need joint positions of shape (n, {self.model.nq}), not {qpos.shape}")
        if not (finite := np.isfinite(qpos).all(axis=1)).all():
            raise UserError(f"the joint positions in row {int(np.argmin(finite))} are not finite and cannot be drawn")
        return qpos
