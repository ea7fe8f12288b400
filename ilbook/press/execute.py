"""Execute notebooks with papermill: several at a time, resumable, each one once per content key."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import datetime
from pathlib import Path
from typing import TextIO

import psutil
from tqdm import tqdm

from ilbook.errors import UserError
from ilbook.page.run import check_profile
from ilbook.paths import build, make_folder, root
from ilbook.press import doctor, ledger, record
from ilbook.press import notebook as notebooks
from ilbook.press.layout import GOOD
from ilbook.press.record import Plan

LIMITS = {"smoke": 120.0, "lecture": 900.0, "full": 3600.0}  # seconds for a whole notebook
TICK = 0.25  # seconds between two looks at memory and time limit


def run(
    ids: list[str],
    profile: str = "lecture",
    seed: int | None = None,
    jobs: int = 1,
    overrides: Sequence[str] = (),
    *,
    fresh: bool = False,
    publish: bool = False,
    timeout: float | None = None,
    progress: TextIO | None = None,
) -> list[dict]:
    """Execute the notebooks `ids` (all if empty); a row for each: id, status, seconds, peak_mb, claims, why, page, out.

    `overrides` are texts "name=value". Raises UserError before anything runs if an argument is wrong.
    """
    check_profile(profile)
    for name, value in (("jobs", jobs), ("timeout", timeout)):
        if value is not None and not value > 0:  # nor nan
            raise UserError(f"--{name} {value:g} is not possible; give a number above 0")
    top = root()
    plans = [record.plan(top, path, profile, seed, list(overrides)) for path in notebooks.choose(top, ids)]
    for plan in plans if publish else ():
        others = [*plan.changed, *(["the smoke profile"] if profile == "smoke" else [])]
        if others:
            raise UserError(f"what differs from the notebook as it stands cannot be published; leave out {others[0]}")
    rows: dict[str, dict] = {}

    def say(text: str) -> None:
        if progress is not None:
            tqdm.write(text, file=progress)

    def done(plan: Plan, row: dict, when: str = "") -> None:
        rows[plan.name] = row = {"why": "", "trace": [], **row, "page": plan.file(".html"), "out": plan.out}
        line = f"[{len(rows)}/{len(plans)}] {row['id']}  {row['status']}  {when}{row['seconds']:.1f} s"
        say("\n      ".join([line, *filter(None, [row["why"]]), *row["trace"]]))

    waiting = []
    for plan in plans:
        _sweep(plan.folder)
        old, changed = (None, "") if fresh else record.load(plan)
        if old:
            when = f"run on {datetime.fromtimestamp(old.pop('time')):%Y-%m-%d at %H:%M} in "
            done(plan, {"id": plan.notebook.id, "status": "reused", **old}, when)
            continue
        if changed:
            say(f"{plan.name}: running again, because {changed} changed")
        waiting.append(plan)
    if waiting:
        make_folder(waiting[0].folder)
        _have_home()
        jobs = min(jobs, len(waiting))
        threads = max(1, doctor.cores() // jobs)
        say(f"Running {len(waiting)} of {len(plans)} notebooks ({profile}), {jobs} at a time, threads each: {threads}")
        _run_all(waiting, jobs, (threads, timeout or LIMITS[profile], fresh, progress), done)
    for plan in plans if publish else ():
        if rows[plan.name]["status"] in GOOD:
            if not record.load(plan)[0]:
                raise UserError(f"what lies in {plan.out} is no longer the result of {plan.name}; run it again")
            file = ledger.publish(plan.out, plan.notebook.id, profile)
            say(f"{plan.name}: published as {file.relative_to(top)}")
    return [rows[plan.name] for plan in plans]


def _run_all(plans: list[Plan], jobs: int, settings: tuple, done: Callable[[Plan, dict], None]) -> None:
    """Run `plans`, each in a thread, and tell `done` how each ended; meanwhile look after limits."""
    from ilbook.press.job import Job  # brings papermill along, which takes a second

    with ThreadPoolExecutor(jobs) as pool:
        todo = {pool.submit(job.run): job for job in (Job(plan, *settings) for plan in plans)}
        try:
            while todo:
                for future in wait(todo, TICK, FIRST_COMPLETED).done:
                    done(todo.pop(future).plan, future.result())
                for job in todo.values():
                    job.watch()
        finally:
            for job in todo.values():
                job.stop()
            pool.shutdown(cancel_futures=True)


def _have_home() -> None:
    """Jupyter, IPython and matplotlib keep files at home: where there is no home to write in, one in the build folder.

    Containers run as a user without a name, and home is then nowhere, or the root of a file system that is read-only.
    """
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["HOME"] = str(make_folder(build() / "home"))
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ["TMPDIR"] = str(make_folder(build() / "temp"))


def _sweep(folder: Path) -> None:
    """Remove scratch folders of runners that no longer live (one that was killed could not do so itself)."""
    for left in folder.glob(".part-*"):
        owner = left.name.split("-")[1]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
