"""The child process that executes one notebook: `python -m ilbook.press.worker`, started by `execute`.

It reads one JSON line from standard input (the job) and writes JSON lines to standard output (the events). Everything
that libraries or the kernel print goes to standard error, which the runner keeps in a log file.
"""

import errno
import json
import os
import signal
import sys
import threading
from pathlib import Path

import psutil
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.exceptions import PapermillExecutionError, strip_color

from ilbook.press import page

KERNEL = "python3"  # whatever the notebook's metadata say: the Python that runs this process
TRACE_LINES = 40


class WatchedKernel(AsyncKernelManager):
    """A kernel manager that remembers the exit status of a kernel that ended by itself."""

    exit_status: int | None = None

    async def _async_is_alive(self) -> bool:
        if not self.has_kernel:
            return False
        status = await self.provisioner.poll()
        if status is not None:
            type(self).exit_status = status
        return status is None

    is_alive = _async_is_alive


class Progress:
    """Where execution stands; tells the runner when a cell starts and notices cells that call exit()."""

    def __init__(self, events, total: int):
        self.events = events
        self.total = total
        self.cell = 0
        self.left: str | None = None  # how a cell asked Python to end, and which one
        self.left_in = 0

    def start(self, cell, cell_index) -> None:
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", ()):
            self.cell += 1
            send(self.events, cell=self.cell, of=self.total)

    def done(self, cell, cell_index, execute_reply) -> None:
        reply = execute_reply["content"]
        asked = any(item.get("source") == "ask_exit" for item in reply.get("payload", ()))
        if self.left is None and (asked or reply.get("ename") == "SystemExit"):
            self.left = "called exit()" if asked else f"raised SystemExit({reply['evalue']})"
            self.left_in = self.cell


def send(events, **event) -> None:
    """Write one event as a JSON line."""
    events.write(json.dumps(event) + "\n")
    events.flush()


def execute(job: dict, events) -> dict:
    """Run the notebook of `job` and write its pages into the scratch folder; return the last event."""
    scratch = Path(job["scratch"])
    progress = Progress(events, job["cells"])
    event = {"end": "done"}
    try:
        execute_notebook(
            job["notebook"],
            str(scratch / "raw.ipynb"),
            parameters=job["parameters"],
            kernel_name=KERNEL,
            kernel_manager_class=WatchedKernel,
            on_cell_start=progress.start,
            on_cell_executed=progress.done,
            progress_bar=False,
            cwd=str(Path(job["notebook"]).parent),
        )
    except PapermillExecutionError as error:
        event = _failure(error)
    except DeadKernelError:
        event = _death(WatchedKernel.exit_status)
    except OSError as error:
        event = {"end": "full" if error.errno == errno.ENOSPC else "error", "why": str(error)}
    except Exception as error:  # anything else is the machinery's fault, and must still become a row of the table
        event = {"end": "error", "why": f"{type(error).__name__}: {error}"}
    event["cell"] = progress.cell
    if progress.left:  # papermill calls a plain SystemExit a success, and after exit() a kernel lives on for a moment
        event |= {"end": "exited", "why": progress.left, "cell": progress.left_in}
    if event["end"] in ("done", "failed", "exited"):
        try:
            event["unrun"] = page.write(job, scratch)
        except OSError as error:
            event |= {"end": "full" if error.errno == errno.ENOSPC else "error", "why": str(error)}
    return event


def _failure(error: PapermillExecutionError) -> dict:
    trace = strip_color("\n".join(error.traceback)).splitlines()
    if error.ename == "UserError":
        trace = []  # its sentence says everything
    full = error.ename == "OSError" and f"[Errno {errno.ENOSPC}]" in error.evalue
    why = f"{error.ename}: {error.evalue}"
    return {"end": "failed", "why": why, "trace": trace[-TRACE_LINES:], "disk_full": full}


def _death(status: int | None) -> dict:
    if status is not None and status >= 0:
        return {"end": "exited", "why": f"ended the Python process with exit status {status}"}
    cause = "an unknown cause" if status is None else signal.Signals(-status).name
    hint = " (often because the machine ran out of memory)" if status == -signal.SIGKILL else ""
    return {"end": "died", "why": f"the kernel was ended by {cause}{hint}"}


def _end_with_parent() -> None:
    """Wait for the runner to close our standard input (it does when it dies), then end the kernel and this process."""
    sys.stdin.read()
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


def main() -> None:
    """Run one job."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anything else prints is not an event
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send(events, **execute(job, events))


if __name__ == "__main__":
    main()
