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

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.exceptions import PapermillExecutionError, strip_color
from traitlets import default

from ilbook.errors import UserError
from ilbook.press import page, record
from ilbook.press.doctor import THREAD_VARIABLES
from ilbook.press.record import Plan

CLAIM_KEYS = ("id", "verdict", "effect", "low", "high", "n")
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
        self.job.kernel = psutil.Process(self.provisioner.pid)
        if self.job.stopped:
            self.job.stop()

    async def is_alive(self) -> bool:
        if not self.has_kernel:
            return False
        status = await self.provisioner.poll()
        if self.job.exit_status is None:
            self.job.exit_status = status
        return status is None


class Job:
    """Executes the notebook of `plan` in a scratch folder, with a limit in seconds.

    The scratch folder becomes the run's folder only when everything went well, so nothing half-written is ever found.
    """

    def __init__(self, plan: Plan, threads: int, limit: float, fresh: bool):
        self.plan, self.threads, self.limit, self.fresh = plan, threads, limit, fresh
        self.scratch = plan.folder / f".part-{os.getpid()}-{plan.name}"
        self.cell, self.cells = 0, len(plan.notebook.code_cells)
        self.begun: float | None = None
        self.ended: float | None = None
        self.peak = 0  # bytes
        self.status, self.why = "waiting", ""
        self.trace: list[str] | None = None
        self.page: Path | None = None  # the page up to the failing cell
        self.claims: list[dict] = []
        self.kernel: psutil.Process | None = None
        self.exit_status: int | None = None
        self.left = ""  # how a cell asked Python to end
        self.stopped = self.timed_out = False
        self._family: set[psutil.Process] = set()

    @property
    def seconds(self) -> float:
        """Since it began, until now or its end."""
        return 0.0 if self.begun is None else (self.ended or time.monotonic()) - self.begun

    def environment(self) -> dict[str, str]:
        """The environment of the kernel."""
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        return {
            **os.environ,
            **dict.fromkeys(THREAD_VARIABLES, str(self.threads)),
            "ILBOOK_ROOT": str(self.plan.root),
            "ILBOOK_OUT": str(self.scratch / "out"),
            "ILBOOK_TOKEN": self.plan.key,
            "ILBOOK_FRESH": "1" if self.fresh else os.environ.get("ILBOOK_FRESH", ""),
            "PYTHONPATH": path,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }

    def run(self) -> None:
        """Execute, keep what is good, and say in `status` and `why` how it ended; nothing is ever raised."""
        self.begun = time.monotonic()
        try:
            self.status, self.why = self._execute()
            if self.status == "ok":
                self._install()
            elif (self.scratch / "page.html").exists():
                self.page = (self.scratch / "page.html").replace(self.plan.file(".failed.html"))
        except Exception as error:  # the machinery's fault, or a full disk: it must still become a row of the table
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.status, self.why = "error", DISK_FULL if full else f"{kind}{error}"
        finally:
            self.ended = time.monotonic()
            self.stop()
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _execute(self) -> tuple[str, str]:
        """Run the cells and write the pages into the scratch folder; status and the reason in words."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / "out").mkdir(parents=True)
        plan, status, why = self.plan, "ok", ""
        try:
            execute_notebook(
                str(plan.notebook.path),
                str(self.scratch / "raw.ipynb"),
                parameters={name: value for name, value in plan.parameters.items() if value != plan.defaults[name]},
                kernel_name="python3",
                kernel_manager_class=type("KernelOfJob", (Kernel,), {"job": self}),
                on_cell_start=self._cell_begins,
                on_cell_executed=self._cell_is_done,
                progress_bar=False,
            )
        except PapermillExecutionError as error:
            status, why = "failed", f": {error.ename}: {error.evalue}"
            if error.ename != "UserError":  # its sentence says everything
                self.trace = strip_color("\n".join(error.traceback)).splitlines()[-TRACE_LINES:]
            if error.ename == "OSError" and f"[Errno {errno.ENOSPC}]" in error.evalue:
                why += f"; {DISK_FULL}"
        except RuntimeError as error:
            if isinstance(error, DeadKernelError):
                status, why = self._death()
            elif not self.stopped:  # a kernel that is stopped before it was ready gives no DeadKernelError
                raise
        place = f"code cell {self.cell} of {self.cells}"
        if self.timed_out:
            return "timeout", f"{place} was stopped at the limit of {self.limit:.0f} s; raise it with --timeout"
        if self.stopped:
            return "died", "it was stopped"
        unrun = page.write(plan, self.scratch)
        if self.left:  # papermill calls a plain SystemExit a success, and after exit() a kernel lives on for a moment
            return "incomplete", f"{self.left}; nothing after it counts"
        return self._sentinel(unrun) if status == "ok" else (status, place + why)

    def _cell_begins(self, cell, cell_index) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", ()):
            self.cell += 1

    def _cell_is_done(self, cell, cell_index, execute_reply) -> None:
        reply = execute_reply["content"]
        asked = any(item.get("source") == "ask_exit" for item in reply.get("payload", ()))
        if not self.left and (asked or reply.get("ename") == "SystemExit"):
            how = "called exit()" if asked else f"raised SystemExit({reply['evalue']})"
            self.left = f"code cell {self.cell} of {self.cells} {how}"

    def _death(self) -> tuple[str, str]:
        """What is said of a kernel that ended by itself."""
        status = self.exit_status
        if status is not None and status >= 0:
            return "incomplete", f" ended the Python process with exit status {status}; nothing after it counts"
        cause = "an unknown cause" if status is None else signal.Signals(-status).name
        hint = " (often because the machine ran out of memory)" if cause == "SIGKILL" else ""
        return "died", f": the kernel was ended by {cause}{hint}"

    def _sentinel(self, unrun: int) -> tuple[str, str]:
        """A notebook is done only if its last cell wrote a result that carries our token and no cell was left out."""
        try:
            token = json.loads((self.scratch / "out" / "result.json").read_text(encoding="utf-8")).get("token")
        except (OSError, ValueError):
            token = None
        if token != self.plan.key:
            return "incomplete", "it ended early: the last cell, run.finish(), wrote no result"
        if unrun > 0:
            return "incomplete", f"{unrun} code cells were never run"
        return "ok", ""

    def _install(self) -> None:
        """Move the finished files to where readers look for them, and remember the run."""
        plan = self.plan
        result = json.loads((self.scratch / "out" / "result.json").read_text(encoding="utf-8"))
        shutil.rmtree(plan.out, ignore_errors=True)
        plan.out.parent.mkdir(parents=True, exist_ok=True)
        (self.scratch / "out").replace(plan.out)
        for ending in (".ipynb", ".html"):
            (self.scratch / f"page{ending}").replace(plan.file(ending))
        plan.file(".failed.html").unlink(missing_ok=True)
        self.claims = [{key: claim.get(key) for key in CLAIM_KEYS} for claim in result["claims"]]
        record.save(plan, round(self.seconds, 1), round(self.peak / 2**20, 1), self.claims)

    def watch(self) -> None:
        """Sample the memory of the kernel and everything it started; end the job when its time is up."""
        memory = 0
        for process in self._relatives():
            with suppress(psutil.Error):
                memory += process.memory_info().rss
        self.peak = max(self.peak, memory)
        if self.seconds > self.limit:
            self.timed_out = True
            self.stop()

    def stop(self) -> None:
        """End the kernel and whatever it started."""
        self.stopped = True
        for process in self._relatives():
            with suppress(psutil.NoSuchProcess):
                process.kill()  # psutil checks that the number still belongs to the same process

    def _relatives(self) -> set[psutil.Process]:
        """The kernel and everything that it was ever seen to have started, even what has another parent by now."""
        if self.kernel is not None:
            with suppress(psutil.NoSuchProcess):
                self._family = {*self._family, self.kernel, *self.kernel.children(recursive=True)}
        return self._family
