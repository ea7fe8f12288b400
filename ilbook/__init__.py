"""A workbook on imitation learning for robots: the parts that more than one notebook needs."""

import ctypes
import os
import sys

__version__ = "0.1.0"

# Threads of torch that have nothing to do go on spinning for milliseconds, on cores that the physics then lacks: a
# batched rollout on two cores took a third longer. This is long enough for the gaps within a pass through a network.
# It has to stand before torch is imported, which the runner, whose notebooks inherit it, makes sure of.
if "OMP_WAIT_POLICY" not in os.environ:  # whoever chose a policy meant it
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# -- a MUJOCO_GL with which mujoco cannot be imported ------------------------------------------------------------------
LIBRARIES = {  # which each backend loads, one of each row; in the order in which backends are tried
    "egl": (("libEGL.so.1",), ("libOpenGL.so.0", "libGLESv2.so.2")),
    "osmesa": (("libOSMesa.so.8", "libOSMesa.so.6"),),
    "glfw": (),
}
OFF = ("disable", "disabled", "off", "false", "0")  # what MuJoCo itself takes for "no rendering"
ANY = ("", "enable", "enabled", "on", "true", "1", "glfw")  # it loads glfw then, which is always there
OWN = {"linux": ("glx", "egl", "osmesa"), "darwin": ("cgl",), "win32": ("wgl",)}


def missing(name: str) -> str:
    """Why the libraries of a backend cannot be loaded; "" when they can."""
    return next((f"{row[0]} is not installed" for row in LIBRARIES.get(name, ()) if not any(map(_loads, row))), "")


def _loads(library: str) -> bool:
    try:
        return bool(ctypes.CDLL(library))  # unlike find_library this follows LD_LIBRARY_PATH and conda
    except OSError:
        return False


def _pass_over() -> str:
    """Take a `MUJOCO_GL` out of the environment with which `import mujoco` fails; why, or "".

    Many shells export one for another machine, and most of ilbook, which imports mujoco, draws nothing.
    """
    given = os.environ.get("MUJOCO_GL", "")
    name = given.strip().lower()
    if name in OWN.get(sys.platform, ()):
        why = missing(name)
    else:
        why = "" if name in (*OFF, *ANY) else "MuJoCo knows no such backend here"
    if why:
        del os.environ["MUJOCO_GL"]
        return f"MUJOCO_GL={given} is passed over: {why}"
    if name in ("egl", "osmesa"):  # mujoco refuses to be imported where this variable disagrees
        os.environ["PYOPENGL_PLATFORM"] = name
    return ""


passed_over = _pass_over()
