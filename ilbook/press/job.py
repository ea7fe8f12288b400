"""One notebook being executed: its worker process, its kernel's memory, its time limit, and how it ended."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from ilbook.errors import UserError
from ilbook.press.record import Plan

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ILBOOK_THREADS")
MATHJAX = "book_assets/mathjax/tex-chtml.js"
LOG_LINES = 15
DISK_FULL = "the disk is full: free some space, then run the same command again; finished notebooks are kept"


class Job:
    """A worker process that executes the notebook of `plan` into a scratch folder.

    The scratch folder becomes the run's folder only when everything went well, so nothing half-written is ever found.
    """

    def __init__(self, plan: Plan, threads: int, limit: float, fresh: bool):
        self.plan = plan
        self.limit = limit
        self.started = time.monotonic()
        self.cell = 0
        self.cells = sum(1 for _ in plan.notebook.code_cells)
        self.peak = 0  # bytes
        self.ended: dict | None = None
        self.timed_out = False
        self.scratch = plan.folder / f".part-{os.getpid()}-{plan.name}"
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / "out").mkdir(parents=True)
        self._seen: set[psutil.Process] = set()
        self._buffer = b""
        self._log = (self.scratch / "log.txt").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ilbook.press.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment(threads, fresh),
            cwd=plan.root,
            start_new_session=True,  # Ctrl-C goes to the runner alone, which then ends the job itself
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.process.stdin.write(json.dumps(self._description()).encode() + b"\n")
        self.process.stdin.flush()  # and left open: the worker ends when this end closes

    def _environment(self, threads: int, fresh: bool) -> dict[str, str]:
        root = str(self.plan.root)
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        return {
            **os.environ,
            **dict.fromkeys(THREAD_VARIABLES, str(threads)),
            "ILBOOK_ROOT": root,
            "ILBOOK_OUT": str(self.scratch / "out"),
            "ILBOOK_TOKEN": self.plan.key,
            "ILBOOK_FRESH": "1" if fresh else os.environ.get("ILBOOK_FRESH", ""),
            "PYTHONPATH": path,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "JUPYTER_PREFER_ENV_PATH": "1",  # a kernel of the same name in the home folder is another Python
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the kernel warns about frozen modules
        }

    def _description(self) -> dict:
        plan = self.plan
        facts = [
            plan.notebook.id,
            f"{plan.profile} profile",
            *(f"{k} {v}" for k, v in plan.parameters.items() if k != "profile"),
        ]
        up = os.path.relpath(plan.root, plan.folder)
        return {
            "id": plan.notebook.id,
            "notebook": str(plan.notebook.path),
            "root": str(plan.root),
            "scratch": str(self.scratch),
            "parameters": {name: value for name, value in plan.parameters.items() if value != plan.defaults[name]},
            "cells": self.cells,
            "facts": " · ".join(facts),
            "mathjax": f"{up}/{MATHJAX}",
            "moves": [[str(self.scratch / "out"), str(plan.out.relative_to(plan.root))]],
        }

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def read(self) -> bool:
        """Take in the worker's events; False once it has closed its output."""
        try:
            data = self.process.stdout.read()
        except BlockingIOError:
            data = None
        if data is None:
            return True
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if "end" in event:
                self.ended = event
            else:
                self.cell = event["cell"]
        return bool(data)

    def watch(self) -> None:
        """Sample the memory of the kernel and everything it started; end the job when its time is up."""
        try:
            family = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self._seen.update(family)
        self.peak = max(self.peak, sum(_memory(process) for process in family))
        if self.seconds > self.limit:
            self.timed_out = True
            self.stop()

    def stop(self) -> None:
        """End the worker, the kernel and whatever the kernel started."""
        try:
            worker = psutil.Process(self.process.pid)
            self._seen.update([worker, *worker.children(recursive=True)])
        except psutil.NoSuchProcess:
            pass
        for process in self._seen:
            try:
                process.kill()  # psutil checks that the number still belongs to the same process
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def close(self) -> None:
        """Release everything that the job holds, its scratch folder included."""
        self.stop()
        self.process.stdin.close()
        self.process.stdout.close()
        self._log.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def verdict(self) -> tuple[str, str]:
        """Status of the ended job and the reason in words (empty when all is well)."""
        if self.timed_out:
            place = f"code cell {self.cell} of {self.cells}"
            return "timeout", f"{place} was stopped at the limit of {self.limit:.0f} s; raise it with --timeout"
        if self.ended is None:
            return "died", f"the process that ran it ended with status {self.process.wait()}: {self._last_words()}"
        end, why = self.ended["end"], self.ended.get("why", "")
        place = f"code cell {self.ended['cell']} of {self.cells}"
        if end == "full":
            return "error", DISK_FULL
        if end == "error":
            return "error", why
        if end == "died":
            return "died", f"{place}: {why}"
        if end == "failed":
            return "failed", f"{place}: {why}" + (f"; {DISK_FULL}" if self.ended["disk_full"] else "")
        if end == "exited":
            return "incomplete", f"{place} {why}; nothing after it counts"
        return self._check_sentinel()

    def _check_sentinel(self) -> tuple[str, str]:
        """A notebook is done only if its last cell wrote a result that carries our token and no cell was left out."""
        result = self.scratch / "out" / "result.json"
        try:
            token = json.loads(result.read_text(encoding="utf-8")).get("token")
        except (OSError, ValueError):
            token = None
        if token != self.plan.key:
            return "incomplete", "it ended early: the last cell, run.finish(), wrote no result"
        if self.ended["unrun"] > 0:
            return "incomplete", f"it ended early: {self.ended['ran']} code cells were never run"
        return "ok", ""

    def _last_words(self) -> str:
        lines = (self.scratch / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " / ".join(lines[-LOG_LINES:]) or "it said nothing"

    def install(self) -> dict:
        """Move the finished files to where readers look for them; returns the result. UserError when that fails."""
        result = json.loads((self.scratch / "out" / "result.json").read_text(encoding="utf-8"))
        try:
            shutil.rmtree(self.plan.out, ignore_errors=True)
            self.plan.out.parent.mkdir(parents=True, exist_ok=True)
            (self.scratch / "out").replace(self.plan.out)
            for ending in (".ipynb", ".html"):
                (self.scratch / f"page{ending}").replace(self.plan.file(ending))
            self.plan.file(".failed.html").unlink(missing_ok=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise UserError(DISK_FULL) from error
            raise UserError(f"cannot write {self.plan.out}: {error.strerror}; make the folder writable") from error
        return result

    def keep_failure(self) -> Path | None:
        """Keep the page up to the failing cell, for a look; None when there is no page."""
        page = self.scratch / "page.html"
        if not page.exists():
            return None
        return page.replace(self.plan.file(".failed.html"))


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
