"""What the doctor finds on healthy and on sick machines."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from ilbook.draw import gl
from ilbook.errors import UserError
from ilbook.press import doctor

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ilbook.press.cli", "doctor", *arguments],
        env={**os.environ, "MUJOCO_GL": "", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_rows_have_the_published_keys():
    rows = doctor.checks()
    assert [row["check"] for row in rows] == [
        "packages", "gl", "temp", "video", "threads", "busy", "build", "home", "git", "disk",
    ]  # fmt: skip
    for row in rows:
        assert list(row) == ["check", "ok", "detail", "fix"]
        assert row["detail"] and row["ok"] is (row["fix"] == "")


def test_this_machine_has_the_locked_packages_and_encodes_video():
    rows = {row["check"]: row for row in doctor.checks()}
    for name in ("packages", "video"):
        assert rows[name]["ok"], rows[name]


def test_the_exit_status_and_the_json_agree():
    done = command("--json", ILBOOK_GL="none")
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert not rows["gl"]["ok"] and rows["gl"]["fix"] == "unset ILBOOK_GL"
    assert done.returncode == 1


def test_a_failing_line_says_what_to_do():
    done = command(ILBOOK_GL="none")
    assert "FAIL  gl" in done.stdout and "unset ILBOOK_GL" in done.stdout


def test_bad_settings_are_reported_not_raised(monkeypatch):
    monkeypatch.setenv("ILBOOK_GL", "elg")
    gl.choose.cache_clear()
    row = next(row for row in doctor.checks() if row["check"] == "gl")
    gl.choose.cache_clear()
    assert not row["ok"] and "'egl'" in row["detail"]


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A repository with a lock of one's own."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("ILBOOK_ROOT", str(tmp_path))
    return tmp_path / "requirements.lock"


def test_a_wrong_and_a_missing_package_are_named(lock):
    lock.write_text("numpy==0.0.1\nno-such-package==1.0\n")
    detail, fix = doctor._packages()
    assert "numpy is" in detail and "locked 0.0.1" in detail and "no-such-package is missing" in detail
    assert "make env" in fix


def test_long_lists_are_cut(lock):
    lock.write_text("".join(f"no-such-package-{number}==1.0\n" for number in range(9)))
    assert "and 5 more" in doctor._packages()[0]


def test_the_local_part_of_a_version_does_not_count(lock, monkeypatch):
    lock.write_text("Some_Package==2.13.0\n")
    found = SimpleNamespace(name="some-package", version="2.13.0+cpu")
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: [found])
    assert doctor._packages()[0].startswith("1 packages as in requirements.lock") and doctor._packages()[1] == ""


@pytest.mark.parametrize("text", ["", "# nothing\n", "numpy>=2\n", "numpy==2.4.6\n-e .\n"])
def test_a_broken_lock_is_refused(lock, text):
    lock.write_text(text)
    with pytest.raises(UserError, match="make lock"):
        doctor._packages()


def test_a_lost_lock(lock):
    with pytest.raises(UserError, match="get it back"):
        doctor._packages()


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/ffmpeg"])
def test_an_encoder_that_does_not_encode(monkeypatch, program):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program)
    detail, fix = doctor._video()
    assert "ffmpeg" in detail and "IMAGEIO_FFMPEG_EXE" in fix


@pytest.mark.parametrize("value", ["0", "1000", "two", ""])
def test_thread_settings_that_hurt(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    detail, fix = doctor._threads()
    assert f"OMP_NUM_THREADS={value}" in detail and "unset OMP_NUM_THREADS" in fix


def test_spinning_threads(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ILBOOK_THREADS"):
        monkeypatch.setenv(name, "1")
    assert doctor._threads()[1] == ""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "OMP_WAIT_POLICY" in doctor._threads()[1]


def test_a_full_disk(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(10**11, 10**11, 2 * 10**8))
    detail, fix = doctor._disk()
    assert detail == "0.20 GB free" and "make clean" in fix


@pytest.mark.parametrize(("others", "busy"), [(0.0, False), (0.4, False), (0.6, True), (1.9, True)])
def test_a_busy_machine_is_named(monkeypatch, others, busy):
    moments = iter([(10.0, 100.0, 5.0), (12.0, 100.0 + 2 * (others + 0.3), 5.6)])
    monkeypatch.setattr(doctor, "LOOK_S", 0.0)
    monkeypatch.setattr("ilbook.page.threads.Threads.times", lambda: next(moments))
    detail, fix = doctor._busy()
    assert f"other programs take {others:.1f} of" in detail and bool(fix) is busy


def test_a_program_that_takes_a_core_is_noticed():
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        _, fix = doctor._busy()
    finally:
        spinning.kill()
        spinning.wait()
    assert fix


def test_a_folder_for_what_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("ILBOOK_BUILD", str(tmp_path / "new" / "build"))
    assert doctor._build() == (str(tmp_path / "new" / "build"), "") and not (tmp_path / "new").exists()
    (tmp_path / "new").touch()
    assert "cannot be written" in doctor._build()[0] and "ILBOOK_BUILD" in doctor._build()[1]
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    monkeypatch.setenv("ILBOOK_BUILD", str(tmp_path))
    assert "ILBOOK_BUILD" in doctor._build()[1]


def test_a_user_without_a_name_or_a_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert doctor._home() == (str(tmp_path), "")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    (tmp_path / "file").touch()
    assert "cannot be written" in doctor._home()[0] and "HOME" in doctor._home()[1]
    monkeypatch.setattr(doctor.os.path, "expanduser", lambda name: name)
    assert "has no name" in doctor._home()[0] and "HOME" in doctor._home()[1]


def test_no_folder_for_temporary_files(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(doctor.tempfile, "gettempdir", none)
    assert doctor._temp() == ("No usable temporary directory found", "set TMPDIR to a folder of your own")


def test_a_repository_that_git_does_not_trust(lock, monkeypatch):
    assert doctor._git() == ("no git, or no repository: results name no commit", "")
    (lock.parent / ".git").touch()
    detail, fix = doctor._git()
    assert "fatal:" in detail and "safe.directory" in fix
    monkeypatch.setenv("PATH", "")
    assert doctor._git()[1] == ""


def test_a_check_that_breaks_is_a_row(monkeypatch):
    def broken():
        raise ImportError("libfoo.so: cannot open")

    monkeypatch.setattr(doctor, "_video", broken)
    broken.__name__ = "_video"
    (row,) = (row for row in doctor.checks() if row["check"] == "video")
    assert not row["ok"] and row["detail"] == "ImportError: libfoo.so: cannot open"
