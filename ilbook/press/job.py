"""One notebook being executed in a thread of the runner: its kernel, the memory it takes, its limit, how it ended."""

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.exceptions import PapermillExecutionError, strip_color
from traitlets import default

from ilbook.errors import UserError
from ilbook.paths import build
from ilbook.press import page, record
from ilbook.press.doctor import THREAD_VARIABLES
from ilbook.press.record import Plan

TRACE_LINES = 40
DISK_FULL = "the disk is full: free some space, then run the same command again; finished notebooks are kept"


class Kernel(AsyncKernelManager):
    """The kernel of one job. Whatever the notebook's metadata say, it is the Python that runs this process."""

    job: "Job"

    @default("kernel_spec_manager")
    def _only_this_python(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])  # a kernel of the same name in the home folder is another Python

    async def start_kernel(self, **options) -> None:
        silent = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)  # what a cell prints takes another way
        folder = self.job.plan.notebook.path.parent
        await self._async_start_kernel(**options, cwd=str(folder), env=self.job.environment(), **silent)
        self.job.kernel = self.provisioner.process
        if self.job.stopped:
            self.job.stop()


class Job:
    """Executes the notebook of `plan` in a scratch folder, with a limit in seconds.

    The scratch folder becomes the run's folder only when everything went well, so nothing half-written is ever found.
    """

    def __init__(self, plan: Plan, threads: int, limit: float, fresh: bool, progress: TextIO | None):
        self.plan, self.threads, self.limit, self.fresh = plan, threads, limit, fresh
        silent = True if progress is None else None  # None: only where it is no terminal
        self.bar = {"desc": plan.notebook.id, "file": progress, "disable": silent, "leave": False}
        self.scratch = plan.folder / f".part-{os.getpid()}-{plan.name}"
        self.cell = 0
        self.begun: float | None = None
        self.peak = 0  # bytes
        self.kernel: subprocess.Popen | None = None  # leads a process group of its own
        self.claims: list[dict] = []
        self.trace: list[str] = []
        self.stopped = False

    def environment(self) -> dict[str, str]:
        """The environment of the kernel."""
        return {
            **os.environ,
            **dict.fromkeys(THREAD_VARIABLES, str(self.threads)),
            "ILBOOK_ROOT": str(self.plan.root),
            "ILBOOK_BUILD": str(build(self.plan.root)),
            "ILBOOK_OUT": str(self.scratch / "out"),
            "ILBOOK_TOKEN": self.plan.key,
            "ILBOOK_FRESH": "1" if self.fresh else os.environ.get("ILBOOK_FRESH", ""),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }

    def run(self) -> dict:
        """Execute, keep what is good, and say in a row of the table how it ended; nothing is ever raised."""
        self.begun = time.monotonic()
        try:
            status, why = self._execute()
            why = why and f"code cell {self.cell} of {len(self.plan.notebook.code_cells)}: {why}"
        except Exception as error:  # the machinery's fault, or a full disk: it must still become a row of the table
            status, why = "error", str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        finally:
            self.stop()
            shutil.rmtree(self.scratch, ignore_errors=True)
        why += f"; {DISK_FULL}" if os.strerror(errno.ENOSPC) in why else ""
        return self._row(status) | {"why": why, "trace": self.trace}

    def _row(self, status: str) -> dict:
        row = {"id": self.plan.notebook.id, "status": status, "seconds": round(time.monotonic() - self.begun, 1)}
        return row | {"peak_mb": round(self.peak / 2**20, 1), "claims": self.claims}

    def _execute(self) -> tuple[str, str]:
        """Run the cells, write the pages and install them; status and the reason in words."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / "out").mkdir(parents=True)
        plan = self.plan
        try:
            execute_notebook(
                str(plan.notebook.path),
                str(self.scratch / "raw.ipynb"),
                parameters=plan.given,
                kernel_name="python3",
                kernel_manager_class=type("KernelOfJob", (Kernel,), {"job": self}),
                on_cell_start=self._cell_begins,
                progress_bar=self.bar,
            )
        except PapermillExecutionError as error:
            if error.ename != "UserError":  # its sentence says everything
                self.trace = strip_color("\n".join(error.traceback)).splitlines()[-TRACE_LINES:]
            return "failed", f"{error.ename}: {error.evalue}"
        except RuntimeError as error:
            if self.stopped:
                return "timeout", f"it was stopped at the limit of {self.limit:.0f} s; raise it with --timeout"
            if not isinstance(error, DeadKernelError):
                raise
            code = self.kernel.returncode
            return "died", f"Python ended with status {code} (-9: often because the machine ran out of memory)"
        try:  # papermill calls SystemExit(0) a success, so the last cell must have written a result with our token
            result = json.loads((self.scratch / "out" / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            result = {}
        if result.get("token") != plan.key:
            return "incomplete", "nothing ran after it, and run.finish(), the last cell of all, wrote no result"
        asked = {"notebook": plan.notebook.id, **{name: plan.parameters[name] for name in ("profile", "seed")}}
        if other := [f"{name} {result[name]}" for name in asked if result.get(name, asked[name]) != asked[name]]:
            given = f"Run.start({plan.notebook.id!r}, profile, seed)"
            return "failed", f"the result is of {', '.join(other)}, and not what was asked for; begin with {given}"
        self.claims = result["claims"]
        page.write(plan, self.scratch)
        shutil.rmtree(plan.out, ignore_errors=True)
        plan.out.parent.mkdir(parents=True, exist_ok=True)
        (self.scratch / "out").replace(plan.out)
        for ending in (".ipynb", ".html"):
            (self.scratch / f"page{ending}").replace(plan.file(ending))
        record.save(plan, self._row("ok"))
        return "ok", ""

    def _cell_begins(self, cell, cell_index) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", ()):
            self.cell += 1

    def watch(self) -> None:
        """Sample the memory of the kernel and everything it started; end the job when its time is up."""
        if self.kernel is not None:
            with suppress(psutil.Error):  # one of them has just ended
                kernel = psutil.Process(self.kernel.pid)
                family = (kernel, *kernel.children(recursive=True))
                self.peak = max(self.peak, sum(process.memory_info().rss for process in family))
        if self.begun is not None and time.monotonic() - self.begun > self.limit:
            self.stop()

    def stop(self) -> None:
        """End the kernel and whatever it started: it leads a group of processes."""
        self.stopped = True
        if self.kernel is not None:
            with suppress(OSError):
                os.killpg(self.kernel.pid, signal.SIGKILL)
