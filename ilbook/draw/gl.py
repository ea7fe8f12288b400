"""Choose how MuJoCo draws off screen before it draws anything, and say what was chosen.

A candidate counts only when a child process has drawn a frame with it: a library can be present and still abort.
"""

import contextlib
import ctypes
import functools
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ilbook import paths
from ilbook.errors import UserError, unknown

NAMES = ("egl", "osmesa", "glfw")
APT_PACKAGES = "libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0"
TIMEOUT_S = 60  # the slowest first frame seen, on a busy laptop, took 6 s
# What MuJoCo itself takes for "no rendering" and for "choose yourself".
OFF = ("disable", "disabled", "off", "false", "0")
ANY = ("", "enable", "enabled", "on", "true", "1")

NO_MEMORY = (UserError, PackageNotFoundError)  # outside a repository, or without one of the packages
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
    driver = ""
    if os.environ["MUJOCO_GL"] != "glfw":
        from OpenGL import GL
        driver = GL.glGetString(GL.GL_RENDERER).decode()
    print("drawn", driver, flush=True)
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
    """The first backend that draws a test frame; sets `MUJOCO_GL` to it, or to "disabled" when there is none.

    `ILBOOK_GL` (none, egl, osmesa, glfw) goes first, then `MUJOCO_GL`. Raises UserError for an unknown `ILBOOK_GL`.
    """
    source, wanted = _wanted()
    if wanted == "none":
        backend = Backend("none", f"{source} switches OpenGL off", f"unset {source}")
    else:
        candidates = [wanted] if wanted else (NAMES if sys.platform == "linux" else ("glfw",))
        backend = _remembered(candidates) or _try(candidates, source if wanted else "")
    _apply("disabled" if backend.name == "none" else backend.name)
    if backend.name != "none":
        _load_triton()
    return backend


def report() -> str:
    """One sentence for the page: how the frames are drawn and, for the fallback, how to get better ones."""
    backend = choose()
    if backend.name != "none":
        return f"Frames are drawn by {backend.name.upper()}: {backend.detail}."
    return f"Frames are drawn by the plain 2-D drawing fallback: {backend.detail}. For OpenGL frames, {backend.fix}."


def forget() -> None:
    """Make the next `choose` draw a test frame again, instead of trusting an earlier one."""
    choose.cache_clear()
    with contextlib.suppress(*NO_MEMORY):
        _memory()[0].unlink(missing_ok=True)


def _wanted() -> tuple[str, str]:
    """The variable that decides and its backend: "none", one of `NAMES`, or "" for no wish."""
    ours = os.environ.get("ILBOOK_GL", "").strip().lower()
    if ours and ours not in ("none", *NAMES):
        raise unknown("ILBOOK_GL backend", ours, ["none", *NAMES])
    if ours:
        return "ILBOOK_GL", ours
    theirs = os.environ.get("MUJOCO_GL", "").strip().lower()
    if theirs in ANY or theirs == os.environ.get("ILBOOK_GL_CHOSEN"):  # inherited from a parent's choose(): not a wish
        return "", ""
    if theirs in OFF:
        return "MUJOCO_GL", "none"
    return "MUJOCO_GL", theirs if theirs in NAMES else "glfw"  # glx, wgl and cgl are reached through GLFW


def _try(candidates: list[str] | tuple[str, ...], source: str) -> Backend:
    """Probe the candidates in turn; remember the first that works."""
    failures = []
    for name in candidates:
        error = _missing(name)
        if not error:
            drawn, said = _probe(name)
            if drawn:
                backend = Backend(name, said or "the driver gave no name", "")
                _remember(candidates, backend)
                return backend
            error = said
        failures.append(f"{name.upper()}: {error}")
    fix = f"unset {source}" if source else _install()
    return Backend("none", "no OpenGL backend works here (" + "; ".join(failures) + ")", fix)


def _missing(name: str) -> str:
    """Why a backend cannot work, found without starting a process; "" when it may work."""
    if sys.platform != "linux":
        return ""
    files = {"egl": ["libEGL.so.1"], "osmesa": ["libOSMesa.so.8", "libOSMesa.so.6"]}.get(name)
    if files and not any(_loads(file) for file in files):
        return f"{files[0]} is not installed"
    if name == "glfw" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "no display"
    return ""


def _loads(library: str) -> bool:
    """Whether the dynamic linker finds this library; unlike find_library this follows LD_LIBRARY_PATH and conda."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _probe(name: str) -> tuple[bool, str]:
    """Draw one 32 x 32 frame in a child process: (True, driver) or (False, what went wrong)."""
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    environment["MUJOCO_GL"] = name
    try:
        child = subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return False, f"no frame within {TIMEOUT_S} s"
    if child.returncode < 0:
        return False, f"the driver crashed (signal {-child.returncode})"
    last = (child.stdout.strip().splitlines() or ["no message"])[-1]
    if child.returncode == 0 and last.startswith("drawn"):
        return True, last.removeprefix("drawn").strip()
    return False, last.partition(". ")[0].rstrip(".")


def _apply(value: str) -> None:
    """Set `MUJOCO_GL`, also for a `mujoco` that was imported earlier and has read the old value."""
    changed = os.environ.get("MUJOCO_GL") != value
    os.environ["MUJOCO_GL"] = os.environ["ILBOOK_GL_CHOSEN"] = value
    reader = sys.modules.get("mujoco.rendering.classic.gl_context")
    if changed and reader and value != "disabled":
        importlib.reload(reader)


def _load_triton() -> None:
    """Load triton, which torch's CUDA build brings along, before the driver: both carry LLVM with names that clash.

    The other way round, the first optimiser that torch makes after the first frame ends the process.
    """
    if sys.platform == "linux" and importlib.util.find_spec("triton"):
        with contextlib.suppress(Exception):  # a broken triton is torch's to report
            importlib.import_module("triton")


def _install() -> str:
    """The command that brings a working backend."""
    if sys.platform != "linux":
        return "run this in a session with a display"
    if shutil.which("apt-get"):
        return f"install Mesa: sudo apt-get install -y {APT_PACKAGES}"
    return "install Mesa's EGL library and its software driver (libEGL, swrast) with the system's package manager"


def _memory() -> tuple[Path, str]:
    """The file that keeps the answer for the next process, and the state of the machine that the answer holds for."""
    versions = [version("mujoco"), version("PyOpenGL")]
    # Installing or removing a library changes one of these two times.
    libraries = [Path("/etc/ld.so.cache"), Path(sys.prefix, "lib")]
    times = [place.stat().st_mtime_ns if place.exists() else 0 for place in libraries]
    names = ("DISPLAY", "WAYLAND_DISPLAY", "LD_LIBRARY_PATH", "MUJOCO_EGL_DEVICE_ID", "LIBGL_ALWAYS_SOFTWARE")
    state = [versions, sys.executable, times, [os.environ.get(name) for name in names]]
    return paths.root() / "build" / "gl.json", json.dumps(state)


def _remembered(candidates: list[str] | tuple[str, ...]) -> Backend | None:
    """The backend that worked last time with the same candidates on an unchanged machine."""
    try:
        path, state = _memory()
        kept = json.loads(path.read_text(encoding="utf-8"))
        backend = Backend(**kept["backend"])
    except (OSError, ValueError, KeyError, TypeError, *NO_MEMORY):  # absent, or not ours: probe again
        return None
    fits = kept.get("state") == state and kept.get("candidates") == list(candidates) and backend.name in candidates
    return backend if fits and not _missing(backend.name) else None


def _remember(candidates: list[str] | tuple[str, ...], backend: Backend) -> None:
    """Keep a working backend; a failure is never kept, since the next process may find it cured."""
    with contextlib.suppress(*NO_MEMORY):  # a read-only or full disk costs only the next probe
        path, state = _memory()
        kept = {"state": state, "candidates": list(candidates), "backend": asdict(backend)}
        paths.write_file(path, json.dumps(kept))


def main() -> int:
    """`python -m ilbook.draw.gl`: say what was chosen; status 0 when frames can be drawn by OpenGL."""
    print(report())
    return int(choose().name == "none")


if __name__ == "__main__":
    sys.exit(main())
