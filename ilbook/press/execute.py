"""Execute notebooks with papermill: several at a time, resumable, each one once per content key."""

import os
import selectors
import shutil
import time
from pathlib import Path
from typing import TextIO

import psutil

from ilbook.errors import UserError
from ilbook.page.run import check_profile
from ilbook.paths import root
from ilbook.press import ledger, record
from ilbook.press import notebook as notebooks
from ilbook.press.job import Job
from ilbook.press.progress import Display
from ilbook.press.record import Plan

LIMITS = {"smoke": 120.0, "lecture": 900.0, "full": 3600.0}  # seconds for a whole notebook
GOOD = ("ok", "reused")
TICK = 0.25  # seconds between two looks at memory and time limit
CLAIM_KEYS = ("id", "verdict", "effect", "low", "high", "n")


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
    limit = LIMITS[profile] if timeout is None else timeout
    display = Display(progress, len(plans))
    rows = _Runner(plans, jobs, limit, fresh, display).run()
    if publish:
        for plan, row in zip(plans, rows, strict=True):
            if row["status"] in GOOD:
                file = ledger.publish(plan.out, plan.notebook.id, profile)
                display.note(f"{plan.name}: published as {file.relative_to(top)}")
    return rows


def _check_publishable(plans: list[Plan], profile: str) -> None:
    if profile == "smoke":
        raise UserError("a smoke run evaluates no claim and cannot be published; use --profile lecture or full")
    for plan in plans:
        if plan.changed:
            names = ", ".join(plan.changed)
            raise UserError(f"only a run with the notebook's own parameters can be published; leave out {names}")


def cores() -> int:
    """Cores that this process may use; $ILBOOK_THREADS, when set, is the most we take."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("ILBOOK_THREADS", "")
    return min(allowed, int(given)) if given.isdecimal() and int(given) > 0 else allowed


class _Runner:
    """The loop over running jobs. One thread: it waits for events, looks after limits, and draws the progress."""

    def __init__(self, plans: list[Plan], jobs: int, limit: float, fresh: bool, display: Display):
        self.plans = plans
        self.limit = limit
        self.fresh = fresh
        self.display = display
        self.rows: dict[str, dict] = {}
        self.waiting: list[Plan] = []
        self.running: dict[int, Job] = {}  # by the descriptor of the worker's output
        self.selector = selectors.DefaultSelector()
        self.jobs = jobs

    def run(self) -> list[dict]:
        for plan in self.plans:
            _sweep(plan.folder)
            self._reuse_or_queue(plan)
        jobs = max(1, min(self.jobs, len(self.waiting)))
        threads = max(1, cores() // jobs)
        if self.waiting:
            self.display.start(len(self.waiting), self.plans[0].profile, jobs, threads)
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < jobs:
                    self._start(self.waiting.pop(0), threads)
                self._turn()
        finally:
            self.display.clear()
            for job in self.running.values():
                job.close()
            self.selector.close()
        return [self.rows[plan.name] for plan in self.plans]

    def _reuse_or_queue(self, plan: Plan) -> None:
        old = None if self.fresh else record.load(plan)
        again = record.why_again(plan, old) if old else ""
        if old and not again:
            row = _row(plan, "reused", old["seconds"], old["peak_mb"], old["claims"])
            self._finish(plan, row, age=time.time() - old["time"])
            return
        if again:
            self.display.note(f"{plan.name}: running again, because {again} changed")
        self.waiting.append(plan)

    def _start(self, plan: Plan, threads: int) -> None:
        try:
            job = Job(plan, threads, self.limit, self.fresh)
        except OSError as error:
            why = f"it could not be started: {error.strerror or error}"
            self._finish(plan, _row(plan, "error", 0.0, 0.0, [], why=why))
            return
        descriptor = job.process.stdout.fileno()
        self.running[descriptor] = job
        self.selector.register(descriptor, selectors.EVENT_READ)

    def _turn(self) -> None:
        """Wait a moment for events, then look after every running job."""
        for key, _ in self.selector.select(TICK) if self.running else ():
            job = self.running[key.fd]
            if not job.read():
                self.selector.unregister(key.fd)
                row = _end(job)
                del self.running[key.fd]
                self._finish(job.plan, row)
        for job in self.running.values():
            job.watch()
        self.display.update(list(self.running.values()))

    def _finish(self, plan: Plan, row: dict, age: float | None = None) -> None:
        self.rows[plan.name] = row
        self.display.done(row, age)


def _end(job: Job) -> dict:
    """Turn an ended job into a row: judge it, keep its files if it is good, and remember it at once."""
    seconds, peak = round(job.seconds, 1), round(job.peak / 2**20, 1)
    status, why = job.verdict()
    found: list[dict] = []
    page = None
    trace = job.ended.get("trace") if job.ended else None
    cell = job.ended["cell"] if job.ended else job.cell
    source = job.plan.notebook.code_cells[cell - 1].source if cell else None
    try:
        if status == "ok":
            found = [{key: claim.get(key) for key in CLAIM_KEYS} for claim in job.install()["claims"]]
            record.save(job.plan, seconds, peak, found)
        else:
            page = job.keep_failure()
    except (UserError, OSError) as error:
        status, why = "error", str(error)
    finally:
        job.close()
    row = _row(job.plan, status, seconds, peak, found, why=why)
    if status != "ok":
        row |= {"trace": trace, "source": source, "page": page}
    return row


def _row(plan: Plan, status: str, seconds: float, peak_mb: float, found: list[dict], *, why: str = "") -> dict:
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
