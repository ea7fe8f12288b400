"""Pictures of a model without OpenGL: MuJoCo's own rays find what each pixel shows; there are no shadows."""

from __future__ import annotations

import threading

import mujoco
import numpy as np

from ilbook.draw.view import PARALLEL, Pictures

GROUPS_SHOWN = 3  # MuJoCo's renderer shows the geom groups 0, 1 and 2
PLANE = int(mujoco.mjtGeom.mjGEOM_PLANE)
HIDDEN = 5  # the group of all geoms but the one that the rays look for
ONLY = np.array([1, 0, 0, 0, 0, 0], np.uint8)  # that one is put into group 0
PLAIN = [0.5, 0.5, 0.5, 1.0]  # MuJoCo takes this colour of a geom for none, and then asks its material
FAR = 1e4  # m from a flat camera to the point where its rays, which should be parallel, begin: 0.1 mm off at most
SMALL = 192  # pixels a side up to which smooth edges cost little
CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T * 2.0 - 1  # (8, 3) of a cube


class Drawing(Pictures):
    """Draws the states of one model at one size; `nice` smooths the edges of large pictures too."""

    def __init__(self, model: mujoco.MjModel, size: int, camera: str = "top", nice: bool = False):
        super().__init__(model, size, camera, smooth=nice or size <= SMALL)
        view, side = self.view, self.samples * size
        across = ((np.arange(side) + 0.5) / side - 0.5) * view.height
        back = FAR * view.axes[2] if view.flat else view.axes[2]
        self._eye = view.position + back if view.flat else view.position
        self._rays = across[:, None] * view.axes[0] - across[:, None, None] * view.axes[1] - back  # (side, side, 3)
        self._place(model.qpos0)
        colourless = (model.geom_matid >= 0) & np.isclose(model.geom_rgba, PLAIN).all(axis=1)
        self._rgba = model.geom_rgba.copy()
        self._rgba[colourless] = model.mat_rgba[model.geom_matid[colourless]]
        shown, solid = (model.geom_group < GROUPS_SHOWN) & (self._rgba[:, 3] > 0), self._rgba[:, 3] == 1
        if view.flat:  # it sees no plane that it looks along, but its rays are not quite parallel
            slope = np.abs(self._data.geom_xmat.reshape(-1, 3, 3)[:, :, 2] @ view.axes[2])
            shown &= (model.geom_type != PLANE) | (slope > PARALLEL)
        # What light passes through comes last, because what is behind must be there already.
        self._later = [np.flatnonzero(shown & self.moves & solid), np.flatnonzero(shown & ~solid)]
        model.geom_group[:] = HIDDEN
        # The bounding volumes of bodies hold only what can collide, and rays would miss the rest.
        model.body_bvhadr[:] = -1
        self._empty = np.zeros((side, side, 3), np.uint8)
        far = model.vis.map.zfar * model.stat.extent  # m, where the picture ends as in OpenGL
        self._behind = np.full((side, side), 1 + far / FAR if view.flat else far)  # in lengths of the rays
        self._add(np.flatnonzero(shown & ~self.moves & solid), self._empty, self._behind)
        self._drawing = threading.Lock()

    def frames(self, qpos: np.ndarray, moving: bool = True) -> np.ndarray:
        qpos = self._checked(qpos)
        out = np.empty((len(qpos), self.size, self.size, 3), np.uint8)
        with self._drawing:
            for row, positions in zip(out, qpos, strict=True):
                self._place(positions)
                picture, depth = self._empty.copy(), self._behind.copy()
                for geoms in self._later:
                    self._add(geoms if moving else geoms[~self.moves[geoms]], picture, depth)
                row[:] = self._averaged(picture)
        return out

    def _add(self, geoms: np.ndarray, picture: np.ndarray, depth: np.ndarray) -> None:
        """Draw geoms into a picture (side, side, 3), where they are nearer than what it shows (side, side)."""
        if not len(geoms):
            return
        which, normals = np.full(depth.shape, -1), np.empty(self._rays.shape)
        for geom, box in zip(geoms.tolist(), self._boxes(geoms), strict=True):
            rays = self._rays[box]
            if not (n := rays.size // 3):
                continue
            met, far, normal = np.empty(n, np.int32), np.empty(n), np.empty(3 * n)
            self.model.geom_group[geom] = 0
            mujoco.mj_multiRay(
                self.model, self._data, self._eye, rays.ravel(), ONLY, True, -1, met, far, normal, n, mujoco.mjMAXVAL
            )
            self.model.geom_group[geom] = HIDDEN
            far = np.where(met < 0, np.inf, far).reshape(rays.shape[:2])
            nearer = far < depth[box]
            depth[box][nearer], which[box][nearer] = far[nearer], geom
            normals[box][nearer] = normal.reshape(rays.shape)[nearer]
        new = which >= 0
        bright = self._light(normals[new], self._eye + depth[new][:, None] * self._rays[new])
        rgb, opacity = np.split(self._rgba[which[new]], [3], axis=1)
        through = (1 - opacity) ** 2  # light passes the front and the back
        picture[new] = np.rint(255 * np.minimum(1.0, rgb * bright) * (1 - through) + picture[new] * through)

    def _boxes(self, geoms: np.ndarray) -> list[tuple[slice, slice]]:
        """The rows and columns of rays that can meet each geom."""
        model, view, side = self.model, self.view, len(self._rays)
        middle, half = model.geom_aabb[geoms].reshape(len(geoms), 2, 1, 3).swapaxes(0, 1)
        turn, place = self._data.geom_xmat[geoms].reshape(-1, 3, 3), self._data.geom_xpos[geoms]
        corners = (middle + half * CORNERS) @ turn.transpose(0, 2, 1) + place[:, None]  # (geoms, 8, 3)
        all_around = model.geom_type[geoms] == PLANE
        if not view.flat:  # what reaches behind the camera has no outline
            all_around |= (view.depth(corners) <= 0).any(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            places = view.project(corners) * self.samples
        low, high = places.min(axis=1), places.max(axis=1) + 1
        low[all_around], high[all_around] = 0, side
        ends = np.clip(np.stack([low, high], axis=1), 0, side).astype(int)  # (geoms, 2, 2): column and row
        return [(slice(top, bottom), slice(left, right)) for (left, top), (right, bottom) in ends.tolist()]

    def _light(self, normals: np.ndarray, places: np.ndarray) -> np.ndarray:
        """What the camera's light and the lights of the model make of surfaces (n, 3), as a share of their colour."""
        model, head = self.model, self.model.vis.headlight
        bright = bool(head.active) * (head.ambient + head.diffuse * np.abs(normals @ self.view.axes[2])[:, None])
        for light in np.flatnonzero(model.light_active):
            if model.light_type[light] == int(mujoco.mjtLightType.mjLIGHT_DIRECTIONAL):
                towards = -self._data.light_xdir[light][None]
            else:
                towards = self._data.light_xpos[light] - places
            slope = (normals * towards).sum(axis=1, keepdims=True) / np.linalg.norm(towards, axis=1, keepdims=True)
            bright = bright + model.light_ambient[light] + model.light_diffuse[light] * np.maximum(0.0, slope)
        return bright
