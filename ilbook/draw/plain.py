"""Pictures of a model without OpenGL: every geom is a few flat polygons, the farthest drawn first."""

from __future__ import annotations

import functools

import mujoco
import numpy as np
from PIL import Image, ImageDraw

from ilbook.draw.view import PARALLEL, Pictures
from ilbook.errors import UserError

GROUPS_SHOWN = 3  # MuJoCo's renderer shows the geom groups 0, 1 and 2
PLAIN = [0.5, 0.5, 0.5, 1.0]  # MuJoCo takes this colour of a geom for none, and then asks its material
TURN = np.linspace(0, 2 * np.pi, 48, endpoint=False)
RING = np.stack([np.cos(TURN), np.sin(TURN)], axis=1)  # (48, 2)
ROUND = {"sphere": 2 / 3, "capsule": np.pi / 4, "cylinder": np.pi / 4, "mesh": 2 / 3}  # mean slope towards the camera
FAR = 1e3  # m, half the side of a plane that the model calls infinite
NEAR = 0.01  # m in front of a perspective camera, where what is nearer is cut off
SLACK = 2e-3  # m by which things that touch may reach into each other and still count as apart
MESH_POINTS = 300  # of the outline of a mesh
CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T * 2.0 - 1  # (8, 3) of a cube
FACES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])  # -x x -y y -z z

Polygon = tuple[list[tuple[float, float]], tuple[int, ...]]  # corners in the large picture, colour


class Drawing(Pictures):
    """Draws the states of one model at one size, without shadows; `nice` only smooths the edges of large pictures."""

    def __init__(self, model: mujoco.MjModel, size: int, camera: str = "top", nice: bool = False):
        super().__init__(model, size, camera)
        self._scale = 4 if nice or size <= 192 else 2  # samples a side of a pixel, averaged: smooth edges
        self._shown = np.flatnonzero((model.geom_group < GROUPS_SHOWN) & (model.geom_rgba[:, 3] > 0))
        self._solids = {geom: Solid(model, geom) for geom in self._shown.tolist()}
        self._half, self._ring, self._ball = (
            np.array([getattr(solid, part) for solid in self._solids.values()]) for part in ("half", "ring", "ball")
        )
        mujoco.mj_kinematics(model, self._data)
        mujoco.mj_comPos(model, self._data)
        mujoco.mj_camlight(model, self._data)
        self._lights = _lights(model, self._data)
        self._still = {geom: self._polygons(geom) for geom in self._shown.tolist() if not self.moves[geom]}
        self._background = functools.lru_cache(maxsize=16)(self._draw_background)

    def frames(self, qpos: np.ndarray, moving: bool = True) -> np.ndarray:
        """Pictures (n, size, size, 3) uint8 of joint positions (n, nq); `moving=False` leaves out what can move."""
        qpos = self._checked(qpos)
        out = np.empty((len(qpos), self.size, self.size, 3), np.uint8)
        for row, positions in zip(out, qpos, strict=True):
            self._data.qpos[:] = positions
            mujoco.mj_kinematics(self.model, self._data)
            row[:] = np.asarray(self._draw(moving).reduce(self._scale))
        return out

    def _draw(self, moving: bool) -> Image.Image:
        geoms = [geom for geom in self._order() if moving or not self.moves[geom]]
        still = next((i for i, geom in enumerate(geoms) if self.moves[geom]), len(geoms))
        picture = self._background(tuple(geoms[:still])).copy()
        self._paint(picture, geoms[still:])
        return picture

    def _draw_background(self, geoms: tuple[int, ...]) -> Image.Image:
        side = self.size * self._scale
        picture = Image.new("RGB", (side, side))
        self._paint(picture, geoms)
        return picture

    def _paint(self, picture: Image.Image, geoms: list[int] | tuple[int, ...]) -> None:
        brush = ImageDraw.Draw(picture, "RGBA")  # this mode blends what is half transparent
        for geom in geoms:
            for corners, colour in self._still[geom] if geom in self._still else self._polygons(geom):
                brush.polygon(corners, fill=colour)

    # -- what covers what ---------------------------------------------------------------------------------------------
    def _order(self) -> list[int]:
        """The geoms from the farthest to the nearest.

        Where a plane parts two geoms, the one on the camera's side is nearer, which is right for a small thing on a
        large table too. The planes tried are those across the axes of the geoms. Else the nearest points decide.
        """
        turn, view = self._data.geom_xmat[self._shown].reshape(-1, 3, 3), self.view
        centre = self._data.geom_xpos[self._shown] + self._offsets(turn)
        away = np.concatenate([turn.transpose(0, 2, 1).reshape(-1, 3), view.axes[2:]])  # (D, 3)
        slope = np.abs(np.einsum("di,gij->dgj", away, turn))
        reach = (slope * self._half).sum(axis=-1) + self._ball
        reach += self._ring * np.sqrt(np.maximum(0, 1 - slope[..., 2] ** 2))
        middle = away @ centre.T
        low, high = middle - reach, middle + reach  # (D, G)
        if view.flat:
            facing = away @ view.axes[2]
            eye = np.where(np.abs(facing) < PARALLEL, np.nan, np.copysign(np.inf, facing))[:, None]
        else:
            eye = (away @ view.position)[:, None]
        apart = high[:, :, None] <= low[:, None, :] + SLACK  # (D, i, j): j lies beyond i
        under = (apart & (eye > high)[:, :, None]).any(axis=0) | (apart & (eye < low)[:, None, :]).any(axis=0).T
        first = np.argsort(high[-1], kind="stable")
        under = (under & ~under.T)[np.ix_(first, first)]  # both ways: neither covers the other
        if not np.tril(under).any():
            return self._shown[first].tolist()
        waiting, order = under.sum(axis=0), []
        for _ in first:
            order.append(int(waiting.argmin()))  # the farthest of those with nothing left under them
            waiting -= under[order[-1]]
            waiting[order[-1]] = len(self.moves) ** 2
        return self._shown[first[order]].tolist()

    def _offsets(self, turn: np.ndarray) -> np.ndarray:
        """From the origins of the geoms to their middles (G, 3); only meshes lie beside their origins."""
        return np.einsum("gij,gj->gi", turn, np.array([solid.middle for solid in self._solids.values()]))

    # -- polygons -----------------------------------------------------------------------------------------------------
    def _polygons(self, geom: int) -> list[Polygon]:
        solid, turn, place = self._solids[geom], self._data.geom_xmat[geom].reshape(3, 3), self._data.geom_xpos[geom]
        points = solid.points @ turn.T + place
        out = []
        if solid.slope:
            across = self._sight(place) @ turn[:, 2] if solid.ring else 0.0
            side = max(0.0, 1 - across**2) ** 0.5
            if side > 1e-3:  # else one looks straight at the end of a cylinder
                out.append((self._outline(points, solid.ball), self._colour(solid, place, None, solid.slope * side)))
        for corners, normal in solid.faces:
            normal, corners = turn @ normal, points[corners]
            if normal @ self._sight(corners.mean(axis=0)) > PARALLEL:
                colour = self._colour(solid, place, normal, abs(float(normal @ self.view.axes[2])))
                out.append((self._face(corners), colour))
        return [(corners, colour) for corners, colour in out if len(corners) > 2]

    def _sight(self, point: np.ndarray) -> np.ndarray:
        """The direction (3,) from a point to the camera."""
        if self.view.flat:
            return self.view.axes[2]
        away = self.view.position - point
        return away / np.linalg.norm(away)

    def _face(self, corners: np.ndarray) -> list[tuple[float, float]]:
        """A convex polygon (P, 3), cut off just in front of a perspective camera."""
        depth = self.view.depth(corners) - NEAR
        if not self.view.flat and depth.min() < 0:
            kept = []
            for i in range(len(corners)):
                if depth[i - 1] * depth[i] < 0:
                    share = depth[i - 1] / (depth[i - 1] - depth[i])
                    kept.append(corners[i - 1] + share * (corners[i] - corners[i - 1]))
                if depth[i] >= 0:
                    kept.append(corners[i])
            corners = np.array(kept).reshape(-1, 3)
        return self._pixels(corners)

    def _outline(self, points: np.ndarray, radius: float) -> list[tuple[float, float]]:
        """The convex hull in the picture of points (P, 3), each thickened to a sphere."""
        if radius:
            # A camera sees a sphere as a circle that lies a little nearer than the middle and is a little smaller.
            away = self.view.position - points
            square = np.minimum(1, radius**2 / (away**2).sum(axis=1)) * (not self.view.flat)
            middle, radii = points + square[:, None] * away, radius * np.sqrt(1 - square)
            points = np.concatenate([m + r * self._circle(p) for m, r, p in zip(middle, radii, points, strict=True)])
        if not self.view.flat:
            points = points[self.view.depth(points) > NEAR]
        return _hull(self._pixels(points))

    def _circle(self, point: np.ndarray) -> np.ndarray:
        """A unit circle (48, 3) across the line from a point to the camera."""
        if self.view.flat:
            return RING @ self.view.axes[:2]
        sight = self._sight(point)
        one = np.cross(self.view.axes[1], sight)
        one /= np.linalg.norm(one)
        return RING @ np.stack([one, np.cross(sight, one)])

    def _pixels(self, points: np.ndarray) -> list[tuple[float, float]]:
        return [(x, y) for x, y in (self.view.project(points) * self._scale).tolist()]

    def _colour(self, solid: Solid, place: np.ndarray, normal: np.ndarray | None, slope: float) -> tuple[int, ...]:
        """What the camera's light and the lights of the model make of a face, or of the mean over something round."""
        head = self.model.vis.headlight
        bright = head.active * (head.ambient + head.diffuse * slope)
        for ambient, diffuse, directional, origin in self._lights:
            towards = origin if directional else origin - place
            towards = towards / np.linalg.norm(towards)
            lit = slope * (1 + towards @ self._sight(place)) / 2 if normal is None else max(0.0, normal @ towards)
            bright = bright + ambient + diffuse * lit
        rgb = np.minimum(1.0, solid.rgba[:3] * bright)
        return tuple(round(255 * float(part)) for part in (*rgb, solid.rgba[3]))


class Solid:
    """The shape of a geom in its own frame, as points with flat faces, or as a hull of points, or both."""

    def __init__(self, model: mujoco.MjModel, geom: int):
        a, b, c = model.geom_size[geom]
        kind = mujoco.mjtGeom(model.geom_type[geom]).name.removeprefix("mjGEOM_").lower()
        material = model.geom_matid[geom]
        colourless = material >= 0 and np.allclose(model.geom_rgba[geom], PLAIN)
        self.rgba = (model.mat_rgba[material] if colourless else model.geom_rgba[geom]).copy()
        self.slope = ROUND.get(kind, 0.0)  # 0: it has no round part
        self.half, self.ring, self.ball = np.zeros(3), 0.0, 0.0  # it reaches as far as this box, disc and sphere added
        self.middle = np.zeros(3)
        self.faces: list[tuple[np.ndarray, np.ndarray]] = []  # indices of corners, once around; normal
        if kind == "box":
            self.half = np.array([a, b, c])
            self.points = self.half * CORNERS
            self.faces = [(corners, CORNERS[corners].mean(axis=0)) for corners in FACES]
        elif kind == "plane":
            self.half = np.array([a or FAR, b or FAR, 0])
            self.points = self.half * CORNERS[1::2]
            self.faces = [(np.array([0, 1, 3, 2]), np.array([0.0, 0.0, 1.0]))]
        elif kind == "cylinder":
            self.half, self.ring = np.array([0, 0, b]), a
            self.points = np.concatenate([np.insert(a * RING, 2, height, axis=1) for height in (-b, b)])
            ends = np.arange(2 * len(RING)).reshape(2, -1)
            self.faces = [(corners, np.array([0.0, 0.0, way])) for corners, way in zip(ends, (-1, 1), strict=True)]
        elif kind == "capsule":
            self.half, self.ball = np.array([0, 0, b]), a
            self.points = np.array([[0, 0, -b], [0, 0, b]])
        elif kind == "sphere":
            self.ball, self.points = a, np.zeros((1, 3))
        elif kind == "mesh":
            self.middle, self.half = model.geom_aabb[geom].reshape(2, 3)
            self.points = _extremes(model, model.geom_dataid[geom])
        else:
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or geom
            raise UserError(
                f"geom {name} is no box, plane, cylinder, capsule, sphere or mesh, and nothing else can be drawn "
                "without OpenGL; see `ilbook doctor` for how to get it"
            )


def _extremes(model: mujoco.MjModel, mesh: int) -> np.ndarray:
    """The vertices (V, 3) of a mesh that lie farthest out in some direction: nearly all of its convex hull."""
    first = model.mesh_vertadr[mesh]
    vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]].astype(np.float64)
    # Directions spread evenly over the sphere, along a spiral.
    z = 1 - (2 * np.arange(MESH_POINTS) + 1) / MESH_POINTS
    turn = np.pi * (3 - 5**0.5) * np.arange(MESH_POINTS)
    ways = np.stack([np.cos(turn) * np.sqrt(1 - z**2), np.sin(turn) * np.sqrt(1 - z**2), z])
    return vertices[np.unique((vertices @ ways).argmax(axis=0))]


def _lights(model: mujoco.MjModel, data: mujoco.MjData) -> list[tuple[np.ndarray, np.ndarray, bool, np.ndarray]]:
    """The lights of the model: ambient, diffuse, whether it shines from one direction, that direction or the place."""
    out = []
    for i in np.flatnonzero(model.light_active):
        directional = model.light_type[i] == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        origin = -data.light_xdir[i] if directional else data.light_xpos[i].copy()
        out.append((model.light_ambient[i], model.light_diffuse[i], bool(directional), origin))
    return out


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
