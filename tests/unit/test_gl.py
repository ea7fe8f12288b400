"""The choice of a drawing backend: wishes, probing, and a machine without the libraries."""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ilbook.draw import gl
from ilbook.errors import UserError

VARIABLES = ("MUJOCO_GL", "ILBOOK_GL", "PYOPENGL_PLATFORM")
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one backend only")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No wish, and nothing left behind for the other tests."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # first set, so that the old state comes back whatever the test leaves
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "mujoco.rendering.classic.gl_context", raising=False)
    gl.choose.cache_clear()
    yield
    gl.choose.cache_clear()


@pytest.fixture
def machine(monkeypatch):
    """A machine on which only `works` draws; returns (works, the list of backends that were probed)."""
    works, probed = {"osmesa"}, []

    def probe(name):
        probed.append(name)
        return (True, "a driver") if name in works else (False, "no driver")

    monkeypatch.setattr(gl, "_missing", lambda name: "")
    monkeypatch.setattr(gl, "_probe", probe)
    monkeypatch.setattr(gl.sys, "platform", "linux")
    return works, probed


def again():
    """`choose` as another process would call it, without what the last one has set."""
    os.environ.pop("MUJOCO_GL", None)
    gl.choose.cache_clear()
    return gl.choose()


def test_the_first_backend_that_draws_is_taken(machine):
    assert gl.choose() == gl.Backend("osmesa", "a driver", "")
    assert machine[1] == ["egl", "osmesa"]
    assert os.environ["MUJOCO_GL"] == "osmesa"
    assert gl.report() == "Frames are drawn by OSMESA: a driver."


def test_triton_is_loaded_before_the_driver_can_be(machine, monkeypatch, tmp_path):
    """Its LLVM and that of Mesa's software driver bear only this order."""
    (tmp_path / "triton.py").write_text("raise OSError('a broken one does not matter')")
    loaded = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gl.importlib, "import_module", lambda name: loaded.append(name) or __import__(name))
    assert gl.choose().name == "osmesa" and loaded == ["triton"]
    machine[0].clear()
    assert again().name == "none" and loaded == ["triton"]


def test_without_any_backend_the_page_says_what_to_do(machine):
    machine[0].clear()
    backend = gl.choose()
    assert backend.name == "none" and machine[1] == ["egl", "osmesa", "glfw"]
    assert "MUJOCO_GL" not in os.environ
    assert "fallback" in gl.report() and backend.fix in gl.report() and "EGL: no driver" in gl.report()


@pytest.mark.parametrize(("variable", "value"), [("ILBOOK_GL", "none"), ("MUJOCO_GL", "off"), ("MUJOCO_GL", "0")])
def test_opengl_can_be_switched_off(machine, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    backend = gl.choose()
    assert (backend.name, backend.fix) == ("none", f"unset {variable}")
    assert machine[1] == []


@pytest.mark.parametrize("variable", ["ILBOOK_GL", "MUJOCO_GL"])
@pytest.mark.parametrize(("wish", "name", "blame"), [("osmesa", "osmesa", False), ("egl", "none", True)])
def test_a_wish_is_honoured_and_blamed(machine, monkeypatch, variable, wish, name, blame):
    monkeypatch.setenv(variable, wish)
    backend = gl.choose()
    assert (backend.name, backend.fix) == (name, f"unset {variable}" if blame else "")
    assert machine[1] == [wish]


def test_a_misspelt_wish_is_refused(monkeypatch):
    monkeypatch.setenv("ILBOOK_GL", "osmsa")
    with pytest.raises(UserError, match="nearest valid name: 'osmesa'"):
        gl.choose()


def test_a_failure_is_not_remembered(machine):
    machine[0].clear()
    assert gl.choose().name == "none"
    machine[0].add("egl")
    assert again().name == "egl"


def test_a_driver_that_crashes_is_only_a_failed_probe(monkeypatch):
    monkeypatch.setattr(gl, "PROBE", "import os; os.abort()")
    assert gl._probe("egl") == (False, "the driver crashed (signal 6)")


def test_a_driver_that_hangs_is_only_a_failed_probe(monkeypatch):
    monkeypatch.setattr(gl, "PROBE", "import time; time.sleep(30)")
    monkeypatch.setattr(gl, "TIMEOUT_S", 0.2)
    assert gl._probe("egl") == (False, "no frame within 0.2 s")


def child(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run `code` in a new Python, with this test's environment and `environment`."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)


@linux
def test_a_machine_without_libegl(tmp_path):
    """The real thing: the linker finds an empty file in place of the library, and mujoco still imports afterwards."""
    for name in ("libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6"):
        (tmp_path / name).touch()
    code = "from ilbook.draw import gl; print(gl.report()); import mujoco; print(mujoco.MjModel)"
    done = child(code, LD_LIBRARY_PATH=str(tmp_path), DISPLAY="", WAYLAND_DISPLAY="")
    assert done.returncode == 0, done.stderr
    assert "drawing fallback" in done.stdout and "libEGL.so.1 is not installed" in done.stdout


@linux
@pytest.mark.parametrize("value", ["osmesa", " OSMesa ", "egl", "wgl", "cgl", "nonsense", "glx", "on", "off", ""])
def test_mujoco_can_be_imported_whatever_the_shell_exports(tmp_path, value):
    """Without any library; what MuJoCo itself does with these values is its import or a traceback."""
    for name in ("libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6"):
        (tmp_path / name).touch()
    code = "import ilbook.tasks, mujoco; from ilbook.draw import gl; print(gl.report())"
    done = child(code, MUJOCO_GL=value, LD_LIBRARY_PATH=str(tmp_path), DISPLAY="", WAYLAND_DISPLAY="")
    assert done.returncode == 0, done.stderr
    kept = value in ("glx", "on", "off", "")
    assert "drawing fallback" in done.stdout and (f"MUJOCO_GL={value} is passed over" in done.stdout) is not kept


@linux
def test_a_library_that_lacks_another_is_passed_over(tmp_path):
    for name in ("libOpenGL.so.0", "libGLESv2.so.2"):
        (tmp_path / name).touch()
    done = child("import ilbook, mujoco; print(ilbook.passed_over)", MUJOCO_GL="egl", LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MUJOCO_GL=egl is passed over: lib")


@linux
@pytest.mark.skipif(not ctypes.util.find_library("EGL"), reason="this machine has no EGL library")
@pytest.mark.parametrize("first", ["", "import mujoco; "])
@pytest.mark.parametrize("ours", ["", "egl"])
def test_the_probe_and_the_program_agree_on_pyopengl(first, ours):
    code = f"{first}import ilbook; from ilbook.draw import gl; print(gl.choose().name); import mujoco.egl"
    done = child(code, PYOPENGL_PLATFORM="osmesa", MUJOCO_GL="" if first else ours)
    assert (done.stdout, done.returncode) == ("egl\n", 0), done.stderr


def test_a_mujoco_that_cannot_take_the_backend_is_told(machine, monkeypatch):
    def broken(_):
        raise ImportError("PyOpenGL has loaded another platform")

    monkeypatch.setitem(sys.modules, "mujoco.rendering.classic.gl_context", object())
    monkeypatch.setattr(gl.importlib, "reload", broken)
    backend = gl.choose()
    assert backend.name == "none" and "this one cannot (ImportError: PyOpenGL has loaded" in backend.detail
    assert "MUJOCO_GL" not in os.environ and "PYOPENGL_PLATFORM" not in os.environ


@linux
@pytest.mark.skipif(not ctypes.util.find_library("EGL"), reason="this machine has no EGL library")
def test_frames_are_drawn_even_when_mujoco_came_first():
    xml = "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.2'/></worldbody></mujoco>"
    code = f"""
import mujoco
from ilbook.draw import gl
print(gl.choose().name)
model = mujoco.MjModel.from_xml_string({xml!r})
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 24, 32) as renderer:
    renderer.update_scene(data)
    frame = renderer.render()
print(frame.shape, frame.std() > 0)
"""
    done = child(code)
    assert done.stdout.split("\n")[:2] == ["egl", "(24, 32, 3) True"], done.stdout + done.stderr


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "ilbook.draw.gl"],
        env={**os.environ, "ILBOOK_GL": "none"},
        cwd=Path(gl.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout.startswith("Frames are drawn by the plain 2-D drawing fallback")
