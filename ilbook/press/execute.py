"""Execute notebooks with papermill: several at a time, resumable, each one once per content key."""

import os
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import psutil

from ilbook.errors import UserError
from ilbook.page.run import check_profile
from ilbook.paths import root
from ilbook.press import doctor, ledger, record
from ilbook.press import notebook as notebooks
from ilbook.press.progress import Display
from ilbook.press.record import Plan

if TYPE_CHECKING:
    from ilbook.press.job import Job

LIMITS = {"smoke": 120.0, "lecture": 900.0, "full": 3600.0}  # seconds for a whole notebook
GOOD = ("ok", "reused")
TICK = 0.25  # seconds between two looks at memory and time limit


def run(
    ids: list[str],
    profile: str = "lecture",
    seed: int | None = None,
    jobs: int = 1,
    overrides: tuple[str, ...] | list[str] = (),
    *,
    fresh: bool = False,
    publish: bool = False,
    timeout: float | None = None,
    progress: TextIO | None = None,
) -> list[dict]:
    """Execute the notebooks `ids` (all if empty); one row {id, status, seconds, peak_mb, claims, ...} for each.

    `overrides` are texts "name=value". A row also has `why` and `trace` (what went wrong), `page` and `videos`
    (paths, or None). Raises UserError before anything runs if an argument is wrong.
    """
    check_profile(profile)
    if jobs < 1:
        raise UserError(f"--jobs {jobs} is not possible; give a whole number from 1 up")
    if timeout is not None and timeout <= 0:
        raise UserError(f"--timeout {timeout:g} is not possible; give seconds above 0")
    top = root()
    plans = [record.plan(top, path, profile, seed, list(overrides)) for path in notebooks.choose(top, ids)]
    if publish:
        _check_publishable(plans, profile)
    display = Display(progress, len(plans))
    rows: dict[str, dict] = {}
    waiting = []
    for plan in plans:
        _sweep(plan.folder)
        old = None if fresh else record.load(plan)
        again = record.why_again(plan, old) if old else ""
        if old and not again:
            rows[plan.name] = _row(plan, "reused", old["seconds"], old["peak_mb"], old["claims"])
            display.done(rows[plan.name], age=time.time() - old["time"])
            continue
        if again:
            display.note(f"{plan.name}: running again, because {again} changed")
        waiting.append(plan)
    if waiting:
        _run_all(waiting, jobs, timeout or LIMITS[profile], fresh, display, rows)
    for plan in plans if publish else ():
        if rows[plan.name]["status"] in GOOD:
            file = ledger.publish(plan.out, plan.notebook.id, profile)
            display.note(f"{plan.name}: published as {file.relative_to(top)}")
    return [rows[plan.name] for plan in plans]


def _check_publishable(plans: list[Plan], profile: str) -> None:
    if profile == "smoke":
        raise UserError("a smoke run evaluates no claim and cannot be published; use --profile lecture or full")
    for plan in plans:
        if plan.changed:
            names = ", ".join(plan.changed)
            raise UserError(f"only a run with the notebook's own parameters can be published; leave out {names}")


def cores() -> int:
    """Cores that this process may use; $ILBOOK_THREADS, when set, is the most we take."""
    given = os.environ.get("ILBOOK_THREADS", "")
    return min(doctor.cores(), int(given)) if given.isdecimal() and int(given) > 0 else doctor.cores()


def _run_all(plans: list[Plan], jobs: int, limit: float, fresh: bool, display: Display, rows: dict[str, dict]) -> None:
    """Run `plans`, each in a thread, and put their rows into `rows`; meanwhile look after limits and show progress."""
    from ilbook.press.job import Job  # brings papermill along, which takes a second

    jobs = min(jobs, len(plans))
    threads = max(1, cores() // jobs)
    display.start(len(plans), plans[0].profile, jobs, threads)
    with ThreadPoolExecutor(jobs) as pool:
        todo = {pool.submit(job.run): job for job in (Job(plan, threads, limit, fresh) for plan in plans)}
        try:
            while todo:
                for future in wait(todo, TICK, FIRST_COMPLETED).done:
                    future.result()
                    job = todo.pop(future)
                    rows[job.plan.name] = row = _ended(job)
                    display.done(row)
                running = [job for job in todo.values() if job.begun is not None]
                for job in running:
                    job.watch()
                display.update([(job.plan.notebook.id, job.cell, job.cells) for job in running])
        finally:
            display.bar.close()
            for job in todo.values():
                job.stop()
            pool.shutdown(cancel_futures=True)


def _ended(job: "Job") -> dict:
    row = _row(job.plan, job.status, round(job.seconds, 1), round(job.peak / 2**20, 1), job.claims, job.why)
    if job.status != "ok":
        source = job.plan.notebook.code_cells[job.cell - 1].source if job.cell else None
        row |= {"trace": job.trace, "source": source, "page": job.page}
    return row


def _row(plan: Plan, status: str, seconds: float, peak_mb: float, found: list[dict], why: str = "") -> dict:
    good = status in GOOD
    return {
        "id": plan.notebook.id,
        "status": status,
        "seconds": seconds,
        "peak_mb": peak_mb,
        "claims": found,
        "why": why,
        "trace": None,
        "source": None,
        "page": plan.file(".html") if good else None,
        "videos": sorted(plan.out.rglob("*.mp4")) if good else [],
    }


def _sweep(folder: Path) -> None:
    """Remove scratch folders of runners that no longer live (one that was killed could not do so itself)."""
    for left in folder.glob(".part-*"):
        owner = left.name.split("-")[1]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
