"""Look at the machine before it disappoints: each check says what it found and, when it fails, what to do."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from ilbook import paths
from ilbook.draw import gl
from ilbook.errors import UserError, listed

LEAST_DISK_GB = 1.0  # executed notebooks, trainings and the site take about a third of it
FEW = 4  # wrong packages named in one line
LOOK_S = 1.0  # for which the other programs are watched
MOST_BUSY = 0.5  # cores that they may take
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ILBOOK_THREADS")


def checks() -> list[dict[str, Any]]:
    """One row per check: {check, ok, detail, fix}; `fix` is "" where all is well. Never raises for a bad machine."""
    rows = []
    for check in (_packages, _gl, _temp, _video, _threads, _busy, _build, _home, _git, _disk):
        try:
            detail, fix = check()
        except Exception as error:  # a machine so sick that the check itself broke
            detail = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            fix = "correct this and run `ilbook doctor` again"
        rows.append({"check": check.__name__[1:], "ok": not fix, "detail": detail, "fix": fix})
    return rows


def _packages() -> tuple[str, str]:
    """The installed versions against the lock; a local part such as +cpu does not count."""
    locked = read_lock(paths.root() / "requirements.lock")
    installed = {_name(found.name): found.version.partition("+")[0] for found in metadata.distributions()}
    found = {name: installed.get(name, "missing") for name in locked}
    wrong = [f"{name} is {found[name]}, locked {wanted}" for name, wanted in locked.items() if found[name] != wanted]
    if not wrong:
        return f"{len(locked)} packages as in requirements.lock, Python {platform.python_version()}", ""
    conda = (Path(sys.prefix) / "conda-meta").is_dir()
    fix = "type: pip install -r requirements.lock" if conda else "remove .venv and type: make env"
    return f"{len(wrong)} of {len(locked)} packages differ: {listed(wrong, FEW)}", fix


def _name(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()  # as package indices compare it


def read_lock(path: Path) -> dict[str, str]:
    """The pins of a lock file: {normalised name: version}. UserError for a line that is not `name==version`."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line for line in re.sub("#.*", "", text).splitlines() if line.strip()]
    pins = [re.fullmatch(r"\s*([A-Za-z0-9][\w.-]*)==([\w.!]+)\s*", line) for line in lines]
    if not pins or None in pins:
        bad = lines[pins.index(None)] if pins else "nothing"
        raise UserError(f"{path.name} holds {bad!r} where name==version should stand; get it back, or run `make lock`")
    return {_name(pin[1]): pin[2] for pin in pins}


def _gl() -> tuple[str, str]:
    backend = gl.choose()
    if backend.name == "none":
        return f"{backend.detail}; the plain 2-D drawing fallback is used", backend.fix
    return f"{backend.name.upper()} drew a test frame ({backend.detail})", ""


def _video() -> tuple[str, str]:
    """Encode a short film as pages do."""
    import numpy as np

    from ilbook.page import media

    try:
        media.encode(np.zeros((3, 48, 64, 3), np.uint8), fps=10)
    except paths.NoEncoder as error:
        again = "type: make env; if that does not help, set IMAGEIO_FFMPEG_EXE to an ffmpeg that knows libx264"
        return f"ffmpeg encodes no film: {(str(error.__cause__).strip().splitlines() or ['no message'])[-1]}", again
    return "ffmpeg encoded a film", ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads() -> tuple[str, str]:
    """More threads than cores, or threads that spin while another process works, cost a factor of ten or more."""
    detail = f"{cores()} core{'s' * (cores() > 1)}, load {os.getloadavg()[0]:.1f}"
    for name in filter(os.environ.__contains__, THREAD_VARIABLES):
        given = os.environ[name]
        detail += f", {name}={given}"
        if not given.isdecimal() or not 1 <= int(given) <= cores():
            return detail, f"unset {name}, or set it to a number from 1 to {cores()}"
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        return f"{detail}, OMP_WAIT_POLICY=ACTIVE", "unset OMP_WAIT_POLICY: waiting threads take the other jobs' cores"
    return detail, ""


def _busy() -> tuple[str, str]:
    """Other programs make trainings slower, and times that are measured mean nothing."""
    from ilbook.page.threads import Threads

    before = Threads.times()
    time.sleep(LOOK_S)
    taken = Threads.taken(before, Threads.times())
    detail = f"other programs take {taken:.1f} of {cores()} cores"
    fix = "end them (`top` shows them) or wait: trainings take longer meanwhile, and measured times mean nothing"
    return detail, fix if taken > MOST_BUSY else ""


def _build() -> tuple[str, str]:
    return _folder(paths.build(), "set ILBOOK_BUILD to a folder of your own, where all that is made goes then")


def _temp() -> tuple[str, str]:
    try:
        return tempfile.gettempdir(), ""
    except FileNotFoundError as error:
        return error.strerror, "set TMPDIR to a folder of your own"


def _home() -> tuple[str, str]:
    """Jupyter and matplotlib keep files at home; `ilbook run` makes one for its kernels where there is none."""
    home, fix = os.path.expanduser("~"), "set HOME to a folder of your own"
    if home == "~":
        return f"HOME is not set, and user {os.getuid()} has no name here", fix
    return _folder(Path(home), fix)


def _folder(folder: Path, fix: str) -> tuple[str, str]:
    """A folder in which files can be made, or which can be made; nothing is written to find out."""
    there = _nearest(folder)
    good = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return (str(folder), "") if good else (f"{folder} cannot be written", fix)


def _nearest(folder: Path) -> Path:
    return next((one for one in (folder, *folder.parents) if one.exists()), folder)


def _git() -> tuple[str, str]:
    """A result names its commit; git tells none of a repository that belongs to somebody else."""
    top = paths.root()
    if not (top / ".git").exists() or not shutil.which("git"):
        return "no git, or no repository: results name no commit", ""
    done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=top, capture_output=True, text=True)
    if done.returncode == 0:
        return f"commit {done.stdout.strip()}", ""
    said = (done.stderr.strip().splitlines() or ["no message"])[0]
    return f"results will name no commit: {said}", f"type: git config --global --add safe.directory {top}"


def _disk() -> tuple[str, str]:
    free = shutil.disk_usage(_nearest(paths.build())).free / 1e9
    if free < LEAST_DISK_GB:
        return f"{free:.2f} GB free", f"free {LEAST_DISK_GB:.0f} GB; `make clean` removes what can be made again"
    return f"{free:.0f} GB free", ""
