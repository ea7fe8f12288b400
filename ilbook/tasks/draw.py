"""Pictures of a model from above without OpenGL: every geom is its flat outline, the highest drawn last."""

from __future__ import annotations

import functools

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from ilbook.errors import UserError

CAMERA = "top"
GROUPS_SHOWN = 3  # MuJoCo's renderer shows the geom groups 0, 1 and 2
TURN = np.linspace(0, 2 * np.pi, 48, endpoint=False)
RING = np.stack([np.cos(TURN), np.sin(TURN)], axis=1)  # (48, 2)
ROUND = {mujoco.mjtGeom.mjGEOM_SPHERE: 2 / 3, mujoco.mjtGeom.mjGEOM_CAPSULE: np.pi / 4}  # mean slope towards the camera
FAR = 1e3  # m, half the side of a plane that the model calls infinite


def window(model: mujoco.MjModel) -> tuple[float, float, float, float]:
    """What the top camera sees: (left, right, bottom, top) in metres of the world. It must look straight down."""
    camera = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, CAMERA)
    if camera < 0:
        raise UserError(f"the model has no camera named {CAMERA!r}; add an orthographic one that looks down")
    upright = np.allclose(np.abs(model.cam_quat[camera]), [1, 0, 0, 0], atol=1e-6)
    # The name of this field changed within MuJoCo 3.
    flat = getattr(model, "cam_projection", getattr(model, "cam_orthographic", None))
    if not upright or not flat[camera]:
        raise UserError(f"the camera {CAMERA!r} must be orthographic and look straight down; correct the task's xml")
    half = model.cam_fovy[camera] / 2  # an orthographic camera keeps its height in metres there
    x, y = model.cam_pos[camera, :2]
    return x - half, x + half, y - half, y + half


def moving_geoms(model: mujoco.MjModel) -> np.ndarray:
    """Which geoms (G,) belong to bodies that can move."""
    return model.body_weldid[model.geom_bodyid] != 0


def checked(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Joint positions (n, nq) as numbers that can be drawn."""
    qpos = np.asarray(qpos, dtype=np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != model.nq:
        raise UserError(f"pictures need joint positions of shape (n, {model.nq}), not {qpos.shape}")
    if not (finite := np.isfinite(qpos).all(axis=1)).all():
        raise UserError(f"the joint positions in row {int(np.argmin(finite))} are not finite and cannot be drawn")
    return qpos


class Drawing:
    """Draws the states of one model at one size; heights decide what covers what, light comes from the camera."""

    def __init__(self, model: mujoco.MjModel, size: int):
        self.model, self.size = model, size
        self.window = window(model)
        self.moves = moving_geoms(model)
        self._data = mujoco.MjData(model)
        self._scale = 4 if size <= 192 else 2  # samples a side of a pixel, averaged: smooth edges
        self._shown = np.flatnonzero((model.geom_group < GROUPS_SHOWN) & (model.geom_rgba[:, 3] > 0))
        self._shapes = {geom: _shape(model, geom) for geom in self._shown}
        self._colours = {geom: _colour(model, geom) for geom in self._shown}
        self._background = functools.lru_cache(maxsize=16)(self._draw_background)

    def frames(self, qpos: np.ndarray, moving: bool = True) -> np.ndarray:
        """Pictures (n, size, size, 3) uint8 of joint positions (n, nq); `moving=False` leaves out what can move."""
        qpos = checked(self.model, qpos)
        out = np.empty((len(qpos), self.size, self.size, 3), np.uint8)
        for row, positions in zip(out, qpos, strict=True):
            self._data.qpos[:] = positions
            mujoco.mj_kinematics(self.model, self._data)
            row[:] = np.asarray(self._draw(moving).reduce(self._scale))
        return out

    def _draw(self, moving: bool) -> Image.Image:
        shapes = [(*self._outline(geom), geom) for geom in self._shown if moving or not self.moves[geom]]
        shapes.sort(key=lambda shape: shape[0])
        still = next((i for i, shape in enumerate(shapes) if self.moves[shape[2]]), len(shapes))
        picture = self._background(tuple(geom for _, _, geom in shapes[:still])).copy()
        brush = ImageDraw.Draw(picture, "RGBA")  # this mode blends what is half transparent
        for _, points, geom in shapes[still:]:
            brush.polygon(self._pixels(points), fill=self._colours[geom])
        return picture

    def _draw_background(self, geoms: tuple[int, ...]) -> Image.Image:
        side = self.size * self._scale
        picture = Image.new("RGB", (side, side))
        brush = ImageDraw.Draw(picture, "RGBA")
        for geom in geoms:
            brush.polygon(self._pixels(self._outline(geom)[1]), fill=self._colours[geom])
        return picture

    def _outline(self, geom: int) -> tuple[float, np.ndarray]:
        """Height of the top and points (P, 2) whose convex hull is the outline from above, metres of the world."""
        points, radius = self._shapes[geom]
        placed = points @ self._data.geom_xmat[geom].reshape(3, 3).T + self._data.geom_xpos[geom]
        flat = placed[:, :2]
        if radius:
            flat = (flat[:, None] + radius * RING).reshape(-1, 2)
        return float(placed[:, 2].max()) + radius, flat

    def _pixels(self, points: np.ndarray) -> list[tuple[float, float]]:
        left, right, _, top = self.window
        scale = self.size * self._scale / (right - left)
        return _hull([((x - left) * scale, (top - y) * scale) for x, y in points.tolist()])


def _shape(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, float]:
    """A geom as points (P, 3) of its own frame, and a radius by which their hull is thickened."""
    kinds = mujoco.mjtGeom
    kind, (a, b, c) = int(model.geom_type[geom]), model.geom_size[geom]
    if kind == kinds.mjGEOM_BOX:
        return np.array([a, b, c]) * (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1), 0.0
    if kind == kinds.mjGEOM_PLANE:
        return np.array([a or FAR, b or FAR, 0]) * (np.indices((2, 2, 1)).reshape(3, 4).T * 2 - 1), 0.0
    if kind == kinds.mjGEOM_CYLINDER:
        return np.concatenate([np.insert(a * RING, 2, height, axis=1) for height in (-b, b)]), 0.0
    if kind == kinds.mjGEOM_CAPSULE:
        return np.array([[0, 0, -b], [0, 0, b]]), a
    if kind == kinds.mjGEOM_SPHERE:
        return np.zeros((1, 3)), a
    name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or geom
    raise UserError(
        f"geom {name} is no box, plane, cylinder, capsule or sphere, and nothing else can be drawn without OpenGL; "
        "see `ilbook doctor` for how to get it"
    )


def _colour(model: mujoco.MjModel, geom: int) -> tuple[int, ...]:
    """What the camera's own light makes of the geom's colour: the mean over a round top."""
    light = model.vis.headlight
    slope = ROUND.get(int(model.geom_type[geom]), 1.0)
    rgb = model.geom_rgba[geom, :3] * np.minimum(1.0, light.ambient + light.diffuse * slope)
    return tuple(round(255 * float(part)) for part in (*rgb, model.geom_rgba[geom, 3]))


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the convex hull, once around (Andrew 1979)."""
    points = sorted(set(points))
    sides = []
    for ordered in (points, points[::-1]):
        side: list[tuple[float, float]] = []
        for x, y in ordered:
            while len(side) > 1:
                (ax, ay), (bx, by) = side[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                side.pop()
            side.append((x, y))
        sides += side[:-1]
    return sides
