"""Choose how MuJoCo draws off screen before it draws anything, and say what was chosen.

Each is tried in a child process, which takes half a second: a library can be present and still abort.
"""

import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass

from ilbook import LIBRARIES, OFF, missing, passed_over
from ilbook.errors import unknown

APT_PACKAGES = "libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
INSTALL = f"install Mesa's EGL and its software driver (Debian, Ubuntu: sudo apt-get install -y {APT_PACKAGES})"
TIMEOUT_S = 60  # the slowest first frame seen, on a busy laptop, took 6 s

# Everything inside one try, and no clean-up at the end: a broken driver also fails while it is taken down.
PROBE = """
import os
try:
    import mujoco
    xml = "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.2'/>"
    model = mujoco.MjModel.from_xml_string(xml + "<camera pos='0 0 1'/></worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, 32, 32)
    renderer.update_scene(data, camera=0)
    frame = renderer.render()
    assert frame.shape == (32, 32, 3) and frame.max() > frame.min(), "the frame it drew is empty"
    driver = "the driver gave no name"
    if os.environ["MUJOCO_GL"] != "glfw":
        from OpenGL import GL
        driver = GL.glGetString(GL.GL_RENDERER).decode()
    print(driver, flush=True)
    os._exit(0)
except BaseException as error:
    print(f"{type(error).__name__}: {error}".splitlines()[0], flush=True)
    os._exit(1)
"""


@dataclass(frozen=True)
class Backend:
    """The way in which frames are drawn."""

    name: str  # "egl", "osmesa", "glfw" or "none"
    detail: str  # the driver that drew the test frame, or why there is none
    fix: str  # what to do about it; empty when frames are drawn


@functools.cache
def choose() -> Backend:
    """The backend that `ILBOOK_GL` (UserError if unknown) or `MUJOCO_GL` wishes, else the first that draws a frame."""
    source, wish = _wanted()
    if wish == "none":
        return Backend("none", f"{source} switches OpenGL off", f"unset {source}")
    failures = []
    for name in [wish] if wish else LIBRARIES:
        drawn, said = (False, why) if (why := _missing(name)) else _probe(name)
        if drawn and not (why := _prepare(name)):
            return Backend(name, "; ".join(filter(None, [said, passed_over])), "")
        failures.append(f"{name.upper()}: {why if drawn else said}")
    tried = "; ".join(filter(None, [*failures, passed_over]))
    return Backend("none", f"no OpenGL backend works here ({tried})", f"unset {source}" if wish else INSTALL)


def report() -> str:
    """One sentence for the page: how the frames are drawn and, for the fallback, how to get better ones."""
    backend = choose()
    if backend.name != "none":
        return f"Frames are drawn by {backend.name.upper()}: {backend.detail}."
    return f"Frames are drawn by the plain 2-D drawing fallback: {backend.detail}. For OpenGL frames, {backend.fix}."


def _wanted() -> tuple[str, str]:
    """The variable that decides and its backend: "none", one of `LIBRARIES`, or "" for no wish."""
    ours, theirs = (os.environ.get(name, "").strip().lower() for name in ("ILBOOK_GL", "MUJOCO_GL"))
    if ours not in ("", "none", *LIBRARIES):
        raise unknown("ILBOOK_GL backend", ours, ["none", *LIBRARIES])
    if ours:
        return "ILBOOK_GL", ours
    return "MUJOCO_GL", "none" if theirs in OFF else theirs if theirs in LIBRARIES else ""


def _missing(name: str) -> str:
    """Why a backend cannot work, found without starting a process; "" when it may work."""
    if name == "glfw":
        seen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        return "" if seen else "no display"
    return missing(name)


def _probe(name: str) -> tuple[bool, str]:
    """Draw one 32 x 32 frame in a child process: (True, driver) or (False, what went wrong)."""
    environment = os.environ | {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": ""}
    command = [sys.executable, "-c", PROBE]
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False, f"no frame within {TIMEOUT_S} s"
    if child.returncode < 0:
        return False, f"the driver crashed (signal {-child.returncode})"
    *_, last = child.stdout.strip().splitlines() or ["no message"]
    return (True, last) if child.returncode == 0 else (False, last.partition(". ")[0].rstrip("."))


def _prepare(name: str) -> str:
    """Set `MUJOCO_GL`, also for a `mujoco` that has read its old value; why this process cannot draw with it, or ""."""
    before = dict(os.environ)
    os.environ |= {"MUJOCO_GL": name} | ({} if name == "glfw" else {"PYOPENGL_PLATFORM": name})
    reader = sys.modules.get("mujoco.rendering.classic.gl_context")
    try:
        if reader and before.get("MUJOCO_GL") != name:
            importlib.reload(reader)
    except Exception as error:  # whatever PyOpenGL raises for a platform that is not the one it has loaded
        os.environ.clear()
        os.environ |= before
        return f"another process draws with it, this one cannot ({type(error).__name__}: {error})"
    # Triton, which torch's CUDA build brings along, and the driver both carry LLVM with names that clash: when the
    # driver is loaded first, the first optimiser that torch makes ends the process.
    if importlib.util.find_spec("triton"):
        with contextlib.suppress(Exception):  # a broken triton is torch's to report
            importlib.import_module("triton")
    return ""


if __name__ == "__main__":  # status 0 when frames can be drawn by OpenGL, 2 when an installation would help
    print(report())
    sys.exit(0 if choose().name != "none" else 2 if choose().fix == INSTALL else 1)
