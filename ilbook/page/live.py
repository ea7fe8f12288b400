"""Whether a reader is there, and progress bars for those who are."""

from __future__ import annotations

import os
import sys


def is_live() -> bool:
    """Whether a reader sits before a kernel that Jupyter or VS Code started for a document, and can be asked back.

    papermill, nbclient and this book's runner, which may inherit the variables, say with each cell that nobody can.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None or not any(os.environ.get(name) for name in ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD")):
        return False
    request = getattr(kernel, "get_parent", dict)()  # none where a reader pressed a button
    return bool(request.get("content", {}).get("allow_stdin", True))


def bar(total: int, what: str):
    """A progress bar that takes itself away at the end, to be used in `with`; without a reader there is none to see."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=what, leave=False, disable=not is_live())
