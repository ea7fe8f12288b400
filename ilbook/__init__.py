"""A workbook on imitation learning for robots: the parts that more than one notebook needs."""

import ctypes
import os
import sys

__version__ = "0.1.0"

# Idle threads of torch spin for milliseconds, on cores that the physics then lacks: a batched rollout on two took a
# third longer. This lasts for the gaps within a pass. It must stand before torch, so pages import ilbook first.
if "OMP_WAIT_POLICY" not in os.environ:  # whoever chose a policy meant it
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# -- a MUJOCO_GL with which mujoco cannot be imported ------------------------------------------------------------------
LIBRARIES = {  # which each backend loads, one of each row; in the order in which backends are tried
    "egl": (("libEGL.so.1",), ("libOpenGL.so.0", "libGLESv2.so.2")),
    "osmesa": (("libOSMesa.so.8", "libOSMesa.so.6"),),
    "glfw": (),
}
OFF = ("disable", "disabled", "off", "false", "0")  # what MuJoCo itself takes for "no rendering"
OWN = {"linux": ("glx", "egl", "osmesa"), "darwin": ("cgl",), "win32": ("wgl",)}.get(sys.platform, ())
TAKEN = (*OFF, *OWN, "", "enable", "enabled", "on", "true", "1", "glfw")  # for these it loads glfw, always there


def missing(name: str) -> str:
    """Why the libraries of a backend cannot be loaded; "" when they can."""
    return next((f"{row[0]} is not installed" for row in LIBRARIES.get(name, ()) if not any(map(_loads, row))), "")


def _loads(library: str) -> bool:
    try:
        return bool(ctypes.CDLL(library))  # unlike find_library this follows LD_LIBRARY_PATH and conda
    except OSError:
        return False


def _pass_over() -> str:
    """Take a `MUJOCO_GL`, meant for another machine, away where `import mujoco` fails with it; why, or ""."""
    given = os.environ.get("MUJOCO_GL", "")
    name = given.strip().lower()
    if why := missing(name) if name in TAKEN else "MuJoCo knows no such backend here":
        del os.environ["MUJOCO_GL"]
        return f"MUJOCO_GL={given} is passed over: {why}"
    if name in ("egl", "osmesa"):  # mujoco refuses to be imported where this variable disagrees
        os.environ["PYOPENGL_PLATFORM"] = name
    return ""


passed_over = _pass_over()
