"""Pictures of a MuJoCo model and its state; and, as soon as ilbook is imported, settings with which mujoco is not."""

import ctypes
import os
import sys

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
