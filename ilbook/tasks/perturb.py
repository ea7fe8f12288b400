"""Distribution shift on purpose: edits of a model before it is compiled, each by a strength s.

s = 0 changes nothing, s = 1 is a clear shift; ratios are powers, so that -s undoes s.
"""

import colorsys
from collections.abc import Collection

import mujoco
import numpy as np

RATIO = 3.0  # friction and mass at strength 1, as a ratio
LAG = 0.12  # s, time constant at strength 1
TURN = np.deg2rad(5.0)  # of the camera about its line of sight
SHIFT = 0.04  # of the camera sideways, as a share of what it sees
EVERYWHERE = {  # what strength 1 does in every task
    "camera": "the camera turned by 5 degrees and moved aside by 4 % of its view",
    "colours": "the things that matter in other hues",
    "distractors": "three more things in sight, which nothing touches",
    "lag": "servos that follow their command 0.12 s later",
}


def chosen(spec: mujoco.MjSpec, names: Collection[str]) -> list[mujoco.MjsGeom]:
    """The geoms that have one of these names, or whose class has."""
    return [geom for geom in spec.geoms if geom.name in names or geom.classname.name in names]


def friction(spec: mujoco.MjSpec, geoms: Collection[str], s: float) -> None:
    """Divide the sliding friction of the chosen geoms by 3^s."""
    for geom in chosen(spec, geoms):
        geom.friction = np.array(geom.friction) * [RATIO**-s, 1, 1]


def mass(spec: mujoco.MjSpec, body: str, s: float) -> None:
    """Multiply the mass, inertia and joints of a body by 3^s: damping stands for the friction that a flat base has
    under its own weight, armature for the arm behind a hand.
    """
    one, factor = spec.body(body), RATIO**s
    one.mass *= factor
    one.inertia = np.array(one.inertia) * factor
    for geom in one.geoms:
        geom.mass *= factor
        geom.density *= factor
    for joint in one.joints:
        joint.damping = np.array(joint.damping) * factor
        joint.armature *= factor


def camera(spec: mujoco.MjSpec, name: str, s: float) -> None:
    """Turn a camera about its line of sight by 5 s degrees and move it sideways by 4 s % of what it sees."""
    one, now, aside = spec.camera(name), np.empty(4), np.empty(3)
    turn = np.array([np.cos(TURN * s / 2), 0, 0, np.sin(TURN * s / 2)])
    mujoco.mju_mulQuat(now, np.array(one.quat), turn)
    one.quat = now
    flat = one.proj == mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC
    seen = one.fovy if flat else 2 * np.linalg.norm(one.pos) * np.tan(np.deg2rad(one.fovy) / 2)
    mujoco.mju_rotVecQuat(aside, np.array([SHIFT * s * seen, 0, 0]), now)
    one.pos = np.array(one.pos) + aside


def colours(spec: mujoco.MjSpec, geoms: Collection[str], s: float) -> None:
    """Turn the hue of the chosen geoms by 120 s degrees; greys first take some colour."""
    for geom in chosen(spec, geoms) if s else ():
        hue, saturation, value = colorsys.rgb_to_hsv(*geom.rgba[:3])
        saturation = max(saturation, min(0.4, 0.4 * abs(s)))
        geom.rgba[:3] = colorsys.hsv_to_rgb((hue + s / 3) % 1, saturation, value)


def distractors(spec: mujoco.MjSpec, room: np.ndarray, size: float, s: float) -> None:
    """Put 3 s coloured objects of `size` metres that nothing touches between the two corners of a `room` (2, 3)."""
    rng = np.random.default_rng(3)  # always the same ones, more of them when stronger
    for k in range(round(3 * s)):
        place, rgb = rng.uniform(*room), colorsys.hsv_to_rgb(rng.random(), 0.7, 0.8)
        kind = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER)[k % 2]
        spec.worldbody.add_geom(
            name=f"distractor_{k}", type=kind, pos=place, size=size * rng.uniform(0.6, 1.2, 3), rgba=[*rgb, 1],
            contype=0, conaffinity=0, group=1,
        )  # fmt: skip


def lag(spec: mujoco.MjSpec, s: float) -> None:
    """Put a first-order filter with a time constant of 0.12 s seconds between command and servo."""
    for actuator in spec.actuators if s else ():
        actuator.dyntype = mujoco.mjtDyn.mjDYN_FILTEREXACT
        actuator.dynprm[0] = LAG * s
        actuator.actdim = 1
