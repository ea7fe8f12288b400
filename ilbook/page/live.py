"""Whether a reader is there, and progress bars for those who are."""

from __future__ import annotations

import os
import sys


def is_live() -> bool:
    """Whether a reader sits before a notebook that runs: a kernel that Jupyter or VS Code started for a document, and
    not the runner of this book.
    """
    if os.environ.get("ILBOOK_OUT"):
        return False
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    started = any(os.environ.get(name) for name in ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"))
    return getattr(shell, "kernel", None) is not None and started


def bar(total: int, what: str):
    """A progress bar that takes itself away at the end, to be used in `with`; without a reader there is none to see."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=what, leave=False, disable=not is_live())
